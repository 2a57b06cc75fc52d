"""What must not leave the house: names of scans, patients, requests and folders, looked for in every byte that does."""

from __future__ import annotations

import getpass
import html
import io
import logging
import os
import re
import socket
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scripts.certificate.predicate import identifying
from scripts.data.datalist import listed_volumes
from scripts.run.source import RecordedRun
from scripts.run.text import plain

MIN_LENGTH, MIN_DIGITS = 4, 6  # shorter ones, and shorter numbers, occur by chance
DIGEST = re.compile(rb"[0-9a-f]{64}")
ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")  # as JSON and Python write a character
TENSOR = re.compile(r"/(data|constants)/\d+$|/data/weights/weight_\d+$")  # a member of PyTorch's files
PLAIN_FIELDS = ("anatomy", "acquisition")  # of a selector: they name no patient
logger = logging.getLogger(__name__)


class PrivateError(ValueError):
    """A bundle that would give away what it must not."""


def private_texts(record: Mapping[str, Any], *paths: str | Path | None) -> set[str]:
    """Texts that name scans, patients, the request, people or folders.

    Args:
        record: The record of the run: its volumes, the request and all paths.
        paths: Files and folders that were given to the verb.

    Returns:
        Texts of :data:`MIN_LENGTH` characters or more, see :func:`scripts.run.text.plain`.
    """
    roles = [role for kind in ("data", "evaluated") for role in record.get(kind, {}).values()]
    names = [str(entry["volume"]) for role in roles for entry in role.get("volumes", [])]
    request = record.get("forget_request") or {}
    selected = [v for s in request.get("forget", []) for k, v in s.items() if k not in PLAIN_FIELDS]
    texts = [request.get("request_id"), request.get("reason"), *_flat(selected), *names]
    texts += [Path(name).stem for name in names] + [part for name in names for part in Path(name).parts[:-1]]
    folders = [Path(path).absolute() for path in (*paths, *_paths(record)) if path]
    texts += [str(p) for path in folders for p in (path, *path.parents) if len(p.parts) > 2]
    texts += [socket.gethostname(), os.path.expanduser("~"), *([u] if (u := _user()) != "root" else [])]
    return {plain(str(text)) for text in texts if text is not None and len(plain(str(text))) >= MIN_LENGTH}


def identifiers_in(record: str | Path) -> set[str]:
    """What names a patient or a scan of a run's datalist, whether it was forgotten or not: names, fields, headers.

    Numbers of fewer than :data:`MIN_DIGITS` digits are left out, which occur in any table.

    Args:
        record: The run's. Without one, or without its datalist, nothing is known, which the log says.
    """
    try:
        datalist = RecordedRun.read(record).value("datalist")
        sections = listed_volumes(datalist) if datalist else {}
    except (OSError, ValueError) as error:
        logger.warning("identifiers of other patients than the forgotten ones were not searched for: %s", error)
        return set()
    found = {plain(text) for part in sections.values() for volume in part for text in identifying(volume)}
    return {text for text in found if len(text) >= (MIN_DIGITS if text.isdecimal() else MIN_LENGTH)}


def find_private(
    folder: str | Path, texts: set[str], public: str = "", identifiers: set[str] | None = None
) -> list[str]:
    """Files of a folder that hold such a text, in their bytes, in a zip member or in a name; with the text.

    Bytes are read as each of the usual encodings, escapes of JSON and HTML are resolved, and the text is compared as
    :func:`scripts.run.text.plain` gives it.

    Args:
        folder: What is to leave.
        texts: See :func:`private_texts`; found within words, too.
        public: Text that anyone may know: what occurs in it gives nothing away.
        identifiers: See :func:`identifiers_in`; found as words.
    """
    known, found = plain(public), []
    wanted = [(text, False) for text in sorted(texts)] + [(text, True) for text in sorted(identifiers or ())]
    wanted = [(text, word) for text, word in wanted if text not in known]
    for name, content in _contents(Path(folder)):
        readings = [plain(name), *_readings(content)]
        found += [
            f"{name}: holds {text!r}" for text, word in wanted if any(_occurs(text, one, word) for one in readings)
        ]
    return found


def _readings(content: bytes) -> Iterator[str]:
    """A content as text, in each encoding in which it may be meant."""
    codes = ["utf-8", *(["utf-16-le", "utf-16-be"] if b"\0" in content else []), "latin-1"]
    for code in codes if not content.isascii() or b"\0" in content else ["ascii"]:
        text = content.decode(code, errors="replace")
        if "\\u" in text:
            text = ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)
        yield plain(html.unescape(text) if "&" in text else text)


def _occurs(text: str, content: str, word: bool) -> bool:
    place = content.find(text)
    while place >= 0 and word:
        before, after = content[place - 1 : place], content[place + len(text) : place + len(text) + 1]
        number = text.isdecimal() and before in (".", ",")  # decimals of another number
        if not before.isalnum() and not after.isalnum() and not number:
            return True
        place = content.find(text, place + 1)
    return place >= 0


def _contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """(name, bytes in lower case) of every file and, within zip files such as weights, of every member."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield from _opened(path.relative_to(folder).as_posix(), path.read_bytes())


def _opened(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """A file, or the members of a zip file; without hashes and tensors, in which short texts occur by chance."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        yield name, b"" if TENSOR.search(name) else DIGEST.sub(b"", content.lower())
        return
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        yield f"{name}: comment", archive.comment.lower()
        for member in archive.namelist():
            yield from _opened(f"{name}: {member}", archive.read(member))


def _paths(content: Any) -> Iterator[str]:
    """Texts of a record that are absolute paths or stand under ``path``."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            if key == "path" and isinstance(value, str):
                yield value.replace("~", os.path.expanduser("~"), 1) if value.startswith("~/") else value
            else:
                yield from _paths(value)
    elif isinstance(content, (list, tuple)):
        for value in content:
            yield from _paths(value)
    elif isinstance(content, str) and content.startswith("/"):
        yield content


def _flat(values: list[Any]) -> Iterator[Any]:
    for value in values:
        yield from value if isinstance(value, (list, tuple)) else [value]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
