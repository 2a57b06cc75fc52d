"""A hash chain over records: changing, removing or reordering one breaks every link after it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence

GENESIS = "0" * 64


def content_sha256(content: Mapping) -> str:
    """SHA-256 of JSON content in canonical form (sorted keys, no white space, UTF-8).

    >>> content_sha256({"b": 1, "a": 2}) == content_sha256({"a": 2, "b": 1})
    True
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def link(entries: Iterable[Mapping]) -> list[dict]:
    """Chain entries: each gets ``previous``, the hash of the entry before it (zeros for the first), and ``hash``.

    >>> first, second = link([{"file": "a"}, {"file": "b"}])
    >>> second["previous"] == first["hash"], broken([first, second]), broken([second])
    (True, [], [0])
    """
    chain: list[dict] = []
    for entry in entries:
        body = {**entry, "previous": chain[-1]["hash"] if chain else GENESIS}
        chain.append({**body, "hash": content_sha256(body)})
    return chain


def broken(chain: Sequence[Mapping]) -> list[int]:
    """Positions whose hash is not that of their content, or that do not point to the entry before."""
    positions, previous = [], GENESIS
    for index, entry in enumerate(chain):
        body = {key: value for key, value in entry.items() if key != "hash"}
        if entry.get("previous") != previous or content_sha256(body) != entry.get("hash"):
            positions.append(index)
        previous = entry.get("hash")
    return positions
