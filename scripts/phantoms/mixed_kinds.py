"""The scanners and the kinds of scans of the mixed phantom, and how many there are of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Scanner:
    """How a scanner measures.

    Attributes:
        snr: The range of a volume's SNR (see :class:`scripts.phantoms.acquisition.Scan`), log-uniform.
        coil_distance: The range of the coils' mean distance (see :func:`scripts.phantoms.acquisition.coil_maps`).
        acquisitions: The share of each contrast.
    """

    snr: tuple[float, float]
    coil_distance: tuple[float, float]
    acquisitions: Mapping[str, float]


SCANNERS = {
    "A": Scanner((20.0, 60.0), (1.3, 1.8), {"AXT2": 0.6, "AXT1": 0.2, "AXFLAIR": 0.2}),
    "B": Scanner((6.0, 12.0), (1.0, 1.1), {"AXT1": 0.5, "AXFLAIR": 0.5}),
}


@dataclass(frozen=True)
class Kind:
    """What the scans of one kind have in common; with ``one_patient`` they are all of the same patient."""

    scanner: str = "A"
    quality: str = "good"
    one_patient: bool = False


KINDS = {
    "good": Kind(),
    "repeated": Kind(one_patient=True),
    "scanner_b": Kind(scanner="B"),
    "motion": Kind(quality="motion"),
    "spikes": Kind(quality="spikes"),
    "wrong_target": Kind(quality="wrong_target"),
}
TRAINING = {"good": 36, "repeated": 2, "scanner_b": 6, "motion": 3, "spikes": 3, "wrong_target": 3}
VALIDATION = {"good": 2}
TEST = {"good": 12, "repeated": 3, "scanner_b": 8, "motion": 4, "spikes": 4, "wrong_target": 4}
TESTS = {
    "one_patient": ("good",),
    "scanner_b": ("good", "scanner_b"),
    "corrupted": ("good", "motion", "spikes", "wrong_target"),
}
"""The kinds in the test list of each request's datalist."""
LATER = "later"
"""The datalist of further scans of the one patient."""
