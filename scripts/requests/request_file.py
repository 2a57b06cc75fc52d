"""YAML and JSON whose scalars stay the text that stands in the file: ``0012`` is "0012", ``no`` is "no"."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import yaml

LONGEST_YAML = 1_000_000  # bytes, which take seconds to read; JSON takes milliseconds
NULLS = ("", "~", "null", "Null", "NULL")


def read_as_text(path: str | Path) -> Any:
    """Read a file whose values are to be compared as written: mappings, lists and text, nothing else.

    A file that ends in ``.json`` is read as JSON, any other as YAML. Keys that stand twice, and in YAML empty values
    (null), tags, anchors, aliases and merge keys are refused, since a reader and a program may understand different
    things by them. JSON's ``true``, ``false`` and ``null`` have no other spelling and stay what they are.

    Args:
        path: The file, UTF-8.

    Raises:
        FileNotFoundError: no such file.
        ValueError: naming the file, the place, what was found and what was expected.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{path}: no such forget request")
    is_json = file.suffix.lower() == ".json"
    if not is_json and (size := file.stat().st_size) > LONGEST_YAML:
        raise ValueError(
            f"{path}: expected YAML of at most {LONGEST_YAML} bytes, found {size}; as JSON it may be longer"
        )
    try:
        text = file.read_text(encoding="utf-8-sig")
        return _json(text) if is_json else yaml.load(text, _TextLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected YAML or JSON, found text that does not parse: {error}") from error


class _TextLoader(yaml.BaseLoader):
    """PyYAML's loader that resolves no scalar, without what may surprise."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _refused("anchors and aliases: write it out", event)
        if getattr(event, "tag", None):
            raise _refused(f"a tag, {event.tag}: leave it out", event)
        return super().compose_node(parent, index)

    def construct_scalar(self, node: yaml.ScalarNode) -> str:
        if node.style is None and node.value in NULLS:
            raise _refused(f"no value ({node.value or 'nothing'}): quote it if it is text", node)
        return str(super().construct_scalar(node))

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if "<<" in keys:
            raise _refused("a merge key, <<: write it out", node)
        _refuse_repeats(keys)
        return super().construct_mapping(node, deep)


def _refused(problem: str, place: yaml.Event | yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, place.start_mark)


def _json(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant}: quote it if it is text")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        _refuse_repeats(key for key, _ in items)
        return dict(items)

    return json.loads(text, object_pairs_hook=pairs, parse_int=str, parse_float=str, parse_constant=refuse)


def _refuse_repeats(keys: Iterable[str]) -> None:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise ValueError(f"the key {key!r} stands twice in one mapping: the first would be ignored")
        seen.add(key)
