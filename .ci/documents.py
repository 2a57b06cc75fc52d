"""What MkDocs needs beside bundle/mkdocs.yml: a place for the model card, and examples in docstrings as code."""

from __future__ import annotations

import re
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add README.md as model_card.html: MkDocs would give it the place of index.md."""
    card = File("README.md", config.docs_dir, config.site_dir, config.use_directory_urls)
    card.dest_uri, card.inclusion = "model_card.html", InclusionLevel.INCLUDED
    files.append(card)
    return files


class Examples(griffe.Extension):
    """Sections named Example are Examples to griffe, which shows them as code."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rename the section in the docstring of an object."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"(?m)^(\s*)Example:$", r"\1Examples:", obj.docstring.value)
