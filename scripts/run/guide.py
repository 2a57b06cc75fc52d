"""What the verb ``help`` prints: verbs, methods, masks and settings, read from the configuration files themselves."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from scripts.run.closing import command_of
from scripts.run.config import bundle_root

SETTING = re.compile(r"^(?P<key>[a-z]\w*):(?: +(?P<value>[^#\s][^#]*?))?(?: +# (?P<comment>.*))?$")
LONGEST = 110  # characters of a line about a file
PLUMBING = {"verb", "run", "method_name", "watched", "trained_network", "retain_subset", "entry", "fixed_masks"}


def describe_bundle(masks: Iterable[type], folder: str | Path | None = None) -> str:
    """Verbs, methods, masks and the main settings of ``unlearn`` with their defaults.

    Args:
        masks: The classes of masks that a configuration may name.
        folder: The folder of the configuration files; None: the bundle's.
    """
    configs = Path(folder or Path(bundle_root(), "configs"))
    return "\n".join(
        [
            "Verbs: python -m monai.bundle run VERB --config_file bundle/configs/VERB.yaml --KEY VALUE …",
            *_rows((path.stem, _first_comment(path)) for path in _verbs(configs)),
            "",
            "Methods that change the original: approximate.yaml, then one of these, after unlearn.yaml, e.g.",
            f"  {command_of('unlearn', 'approximate.yaml', 'methods/fine_tune.yaml')}",
            *_rows((path.stem, _first_comment(path)) for path in sorted((configs / "methods").glob("*.yaml"))),
            "",
            "Masks: --mask#_target_ scripts.data.NAME --mask#acceleration 4 --mask#center_fraction 0.08",
            *_rows((mask.__name__, (inspect.getdoc(mask) or "").partition("\n")[0]) for mask in masks),
            "",
            "Main settings of unlearn and their defaults; parts of components by '#', e.g. --network#chans 16",
            *_rows(_settings(configs / "unlearn.yaml")),
        ]
    )


def _verbs(configs: Path) -> list[Path]:
    files = sorted(configs.glob("*.yaml"))
    return [file for file in files if re.search(r"^verb: ", file.read_text(encoding="utf-8"), re.MULTILINE)]


def _first_comment(path: Path) -> str:
    """The first sentence of the comment at the head of a file, without the verb's own name."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comment: list[str] = []
    for line in lines:
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("# "))
    sentence = re.split(r"[.?] (?=[A-Z])|\.$", " ".join(comment), maxsplit=1)[0]
    sentence = re.sub(rf"^{path.stem}: ", "", sentence, flags=re.IGNORECASE)
    return sentence if len(sentence) <= LONGEST else f"{sentence[:LONGEST].rpartition(' ')[0]} …"


def _settings(path: Path) -> Iterator[tuple[str, str]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        found = SETTING.match(line)
        if not found or found["key"] in PLUMBING:
            continue
        value = found["value"] or "$"
        if value.lstrip("\"'").startswith(("$", "@")):
            if found["comment"]:  # what the program finds by itself
                yield found["key"], found["comment"]
        elif not value.startswith(("{", "[")):
            yield f"{found['key']}: {value}", found["comment"] or ""


def _rows(pairs: Iterable[tuple[str, str]]) -> list[str]:
    listed = list(pairs)
    width = min(36, max((len(name) for name, _ in listed), default=0))
    return [f"  {name:{width}}  {text}".rstrip() for name, text in listed]
