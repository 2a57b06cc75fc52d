"""Texts as they are compared: whatever their Unicode form, case and white space, or letters that look like others."""

from __future__ import annotations

import json
import sys
import unicodedata
from functools import cache
from pathlib import Path

LOOK_ALIKES = Path(__file__).with_name("look_alikes.json")


def plain(text: str) -> str:
    """A text in one Unicode form and case, with single spaces, without characters that nobody sees.

    >>> plain("M\u0055\u0308LLER \u200b Anna"), plain("\ufb01le") == plain("FILE")
    ('müller anna', True)
    """
    if text.isascii():
        return " ".join(text.casefold().split())
    seen = unicodedata.normalize("NFKC", text).translate(_unseen())
    return " ".join(unicodedata.normalize("NFKC", seen.casefold()).split())


def skeleton(text: str) -> str:
    """A text as an eye sees it: :func:`plain`, without spaces, and letters of other scripts as those they look like.

    Source: Unicode Technical Standard 39, confusable detection, as far as one letter looks like one of ASCII.

    >>> skeleton("\u0420 017") == skeleton("p017")  # the first begins with a Cyrillic letter
    True
    """
    return plain(unicodedata.normalize("NFKC", text).translate(_letters())).translate(_letters()).replace(" ", "")


@cache
def _unseen() -> dict[int, None]:
    return {code: None for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) == "Cf"}


@cache
def _letters() -> dict[int, str]:
    table = json.loads(LOOK_ALIKES.read_text(encoding="utf-8"))["letters"]
    return {ord(letter): ascii_one for ascii_one, letters in table.items() for letter in letters}
