"""Beside bundle/mkdocs.yml: the place of the model card, no links out of the site, docstrings as griffe reads them."""

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


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Leave the text of links to files that are beside the documents, not on the site."""
    return re.sub(r"\[([^]]+)\]\(\.\./[^)]*\)", r"\1", markdown)


class Docstrings(griffe.Extension):
    """Makes what griffe knows of what it does not: sections named Example, and names in Sphinx's roles."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change the docstring of an object."""
        if obj.docstring is not None:
            text = re.sub(r"(?m)^(\s*)Example:$", r"\1Examples:", obj.docstring.value)
            obj.docstring.value = re.sub(r":(?:attr|class|data|func|meth|mod):`~?([^`]+)`", r"`\1`", text)
