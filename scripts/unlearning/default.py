"""The method of ``unlearn.yaml`` where no overlay chooses another: one for each part of the forget set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scripts.unlearning.forget_term import ForgetTerm


def default_method(parts: Sequence[str], methods: Mapping[str, str]) -> str:
    """Name of the default method.

    Args:
        parts: what the forget set consists of, see :meth:`scripts.requests.Cohorts.parts`.
        methods: The method of each part by its name.

    >>> default_method(["kind", "member"], {"kind": "gain_target", "member": "mirror_target"})
    'gain_target and mirror_target'
    """
    return " and ".join(methods[part] for part in parts)


def default_target(parts: Sequence[str], kind: ForgetTerm, member: ForgetTerm, mixed: ForgetTerm) -> ForgetTerm:
    """The forget term of the default method.

    Args:
        parts: what the forget set consists of, see :meth:`scripts.requests.Cohorts.parts`.
        kind: For scans of a kind that goes as a whole.
        member: For scans of a kind that stays.
        mixed: For a forget set that holds both.
    """
    if len(parts) > 1:
        return mixed
    return kind if "kind" in parts else member
