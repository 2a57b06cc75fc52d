"""Docstrings as griffe reads them, for the reference of bundle/mkdocs.yml."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Docstrings(griffe.Extension):
    """Makes what griffe knows of what it does not: sections named Example, and names in Sphinx's roles."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change the docstring of an object."""
        if obj.docstring is not None:
            text = re.sub(r"(?m)^(\s*)Example:$", r"\1Examples:", obj.docstring.value)
            obj.docstring.value = re.sub(r":(?:attr|class|data|func|meth|mod):`~?([^`]+)`", r"`\1`", text)
