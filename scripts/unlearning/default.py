"""Which method unlearning uses where the configuration names none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def default_method(parts: Iterable[str], methods: Mapping[str, str]) -> str:
    """Name of the default method.

    Args:
        parts: What the forget set consists of, see :meth:`scripts.requests.Cohorts.by_part`.
        methods: The method of each part by its name.

    >>> default_method(["kind", "member"], {"kind": "gain_target", "member": "mirror_target"})
    'gain_target and mirror_target'
    """
    return " and ".join(dict.fromkeys(methods[part] for part in parts))
