"""What the selectors of a forget request select, value by value, and the refusal of those that select nothing."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase

from scripts.data.volumes import Volume

Selector = Mapping[str, str | Sequence[str]]
LISTED = 8
HOW = "values are compared as text, character by character, and as a glob (*, ?, [...]) where no scan has them exactly"


def values(stated: str | Sequence[str]) -> list[str]:
    """One value, or each value of a list."""
    return [stated] if isinstance(stated, str) else list(stated)


def accepted(value: str, found: Collection[str]) -> set[str]:
    """The texts among those found that a stated value means: itself, or as a glob where it is not among them.

    >>> sorted(accepted("P1*", {"P1", "P12", "P2"})), accepted("P[1]", {"P1", "P[1]"})
    (['P1', 'P12'], {'P[1]'})
    """
    return {value} & set(found) or {text for text in found if fnmatchcase(text, value)}


class Selection:
    """The selectors of a request, applied to the scans of a datalist.

    Args:
        selectors: a volume is selected where every field of any one selector matches; of a list, one value has to.
        volumes: All scans; their values decide what is an exact match and what is a glob.
        where: Names the request in errors.
        gone: Whether the scans may be gone, fields of theirs included.

    Raises:
        ValueError: a field that no volume has.
    """

    def __init__(
        self, selectors: Sequence[Selector], volumes: Sequence[Volume], where: str, gone: bool = False
    ) -> None:
        self.where = where
        self.gone = gone
        self.found: dict[str, set[str]] = {}
        for volume in volumes:
            for key, text in volume.fields.items():
                if text:
                    self.found.setdefault(key, set()).add(text)
        self.selectors = list(selectors)
        self.meant = [
            {key: {value: self._meant(i, key, value) for value in values(stated)} for key, stated in selector.items()}
            for i, selector in enumerate(self.selectors, start=1)
        ]

    def _meant(self, number: int, key: str, value: str) -> set[str]:
        if key not in self.found and self.gone:
            return set()
        if key not in self.found:
            raise ValueError(
                f"{self._place(number, key)}: no volume has the field {key!r}; expected one of "
                f"{', '.join(sorted(self.found))}{_nearest(key, self.found)}"
            )
        return accepted(value, self.found[key])

    def selects(self, volume: Volume) -> bool:
        """Whether any selector selects a volume."""
        return any(_fits(volume, meant) for meant in self.meant)

    def check(self, training: Sequence[Volume], others: Sequence[Volume]) -> None:
        """Refuse a selector, or one value of its lists, that selects no scan.

        Args:
            training: The scans that the network was trained on.
            others: Those that it was validated and tested on.

        Raises:
            ValueError: naming the request, the selector, the value, what was found and the nearest to it.
        """
        for number, meant in enumerate(self.meant, start=1):
            for key, by_value in meant.items():
                for value, texts in by_value.items():
                    alone = {**meant, key: {value: texts}}
                    if not any(_fits(volume, alone) for volume in [*training, *others]):
                        raise ValueError(
                            f"{self._place(number, key)}: {value!r} selects none of {len(training)} training volumes"
                            f"{self._why(number, key, value)}; {HOW}"
                        )

    def _place(self, number: int, key: str) -> str:
        return f"{self.where}: 'forget', selector {number} {dict(self.selectors[number - 1])}, field {key!r}"

    def _why(self, number: int, key: str, value: str) -> str:
        if self.meant[number - 1][key][value]:
            return " that fit the other fields of this selector, too"
        found = sorted(self.found[key])
        more = f", … ({len(found)} in all)" if len(found) > LISTED else ""
        return f"; found {', '.join(map(repr, found[:LISTED]))}{more}{_nearest(value, found)}"


def _fits(volume: Volume, meant: Mapping[str, Mapping[str, set[str]]]) -> bool:
    return all(any(volume.fields.get(key) in texts for texts in by_value.values()) for key, by_value in meant.items())


def _nearest(text: str, found: Collection[str]) -> str:
    """What the writer may have meant.

    >>> _nearest("p017", ["P017", "P018"])
    "; nearest: 'P017', 'P018'"
    """
    plain = {one.strip().casefold(): one for one in sorted(found, reverse=True)}
    near = difflib.get_close_matches(text.strip().casefold(), plain, n=3)
    return "; nearest: " + ", ".join(repr(plain[one]) for one in near) if near else ""
