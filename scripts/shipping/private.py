"""What must not leave the house: names of scans, patients, requests and folders, looked for in every byte that does."""

from __future__ import annotations

import getpass
import io
import os
import re
import socket
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MIN_LENGTH = 4
DIGEST = re.compile(rb"[0-9a-f]{64}")
TENSOR = re.compile(r"/(data|constants)/\d+$|/data/weights/weight_\d+$")  # a member of PyTorch's files
PLAIN_FIELDS = ("anatomy", "acquisition")  # of a selector: they name no patient


class PrivateError(ValueError):
    """A bundle that would give away what it must not."""


def private_texts(record: Mapping[str, Any], *paths: str | Path | None) -> set[str]:
    """Texts that name scans, patients, the request, people or folders.

    Args:
        record: The record of the run: its volumes, the request and all paths.
        paths: Files and folders that were given to the verb.

    Returns:
        Texts of :data:`MIN_LENGTH` characters or more, in lower case.
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
    return {str(text).lower() for text in texts if text is not None and len(str(text)) >= MIN_LENGTH}


def find_private(folder: str | Path, texts: set[str], public: str = "") -> list[str]:
    """Files of a folder that hold such a text, in their bytes, in a zip member or in a name; with the text.

    Args:
        folder: What is to leave.
        texts: See :func:`private_texts`; in any case of letters.
        public: Text that anyone may know: what occurs in it gives nothing away.
    """
    known = public.lower()
    wanted = sorted(text for text in texts if text not in known)
    return [
        f"{name}: holds {text!r}"
        for name, content in _contents(Path(folder))
        for text in wanted
        if text in name.lower() or any(text.encode(code) in content for code in ("utf-8", "utf-16-le"))
    ]


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
