"""What the verb ``help`` prints: verbs, methods, masks and settings, read from config files and declared kinds."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from monai.bundle import ConfigParser

from scripts.run.config import bundle_root
from scripts.run.console import command_of
from scripts.run.kinds import is_expression
from scripts.run.settings import settings_of

COMMENT = re.compile(r"^(?P<key>[a-z]\w*):.* # (?P<comment>.*)$", re.MULTILINE)
LONGEST = 110  # characters of a line about a file


def describe_bundle(masks: Iterable[type], about: str = "unlearn") -> str:
    """Verbs, methods, masks, and the settings of a verb with their defaults, what they are for and what they may be.

    Args:
        masks: The classes of masks that a configuration may name.
        about: The verb whose settings are listed.

    Raises:
        ValueError: There is no such verb.
    """
    configs = Path(bundle_root(), "configs")
    verbs = {path.stem: path for path in sorted(configs.glob("*.yaml")) if re.search(r"(?m)^verb: ", _text(path))}
    if about not in verbs:
        raise ValueError(f"'about': expected one of {', '.join(verbs)}, found {about!r}")
    return "\n".join(
        [
            "Verbs: python -m monai.bundle run VERB --config_file bundle/configs/VERB.yaml --KEY VALUE …",
            *_rows((verb, _first_comment(path)) for verb, path in verbs.items()),
            "",
            "Methods that change the original: approximate.yaml, then one of these, after unlearn.yaml, e.g.",
            f"  {command_of('unlearn', 'approximate.yaml', 'methods/fine_tune.yaml')}",
            *_rows((path.stem, _first_comment(path)) for path in sorted((configs / "methods").glob("*.yaml"))),
            "",
            "Masks: --mask#_target_ scripts.data.NAME --mask#acceleration 4 --mask#center_fraction 0.08",
            *_rows((mask.__name__, (inspect.getdoc(mask) or "").partition("\n")[0]) for mask in masks),
            "",
            f"Settings of {about}, defaults and what they may be; of others: --about VERB; parts of components by '#', "
            "e.g. --network#chans 16",
            *_rows(_settings(about, verbs[about])),
        ]
    )


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _first_comment(path: Path) -> str:
    """The first sentence of the comment at the head of a file, without the verb's own name."""
    comment = re.match(r"(#.*\n)*", _text(path))
    words = " ".join(line.lstrip("# ") for line in comment[0].splitlines()) if comment else ""
    sentence = re.split(r"[.?] (?=[A-Z])|\.$", words, maxsplit=1)[0]
    sentence = re.sub(rf"^{path.stem}: ", "", sentence, flags=re.IGNORECASE)
    return sentence if len(sentence) <= LONGEST else f"{sentence[:LONGEST].rpartition(' ')[0]} …"


def _settings(verb: str, path: Path) -> Iterator[tuple[str, str]]:
    """Each setting with its default, and its comment in the config file with what it may be."""
    comments = {found["key"]: found["comment"] for found in COMMENT.finditer(_text(path))}
    kinds = settings_of(verb)
    for key, value in ConfigParser.load_config_file(str(path)).items():
        comment = comments.get(key, "")
        computed = isinstance(value, dict | list) or is_expression(value)
        if key not in kinds or key == "verb" or (computed and not comment):
            continue
        default = "" if computed else f": {value if isinstance(value, str) else json.dumps(value)}"
        yield f"{key}{default}", f"{comment} [{kinds[key].expected}]".strip()


def _rows(pairs: Iterable[tuple[str, str]]) -> list[str]:
    listed = list(pairs)
    width = min(36, max((len(name) for name, _ in listed), default=0))
    return [f"  {name:{width}}  {text}".rstrip() for name, text in listed]
