"""A small study that the tests of its cells, tables and report share."""

from pathlib import Path

import pytest

from tests.verbs import SMALL, run

STUDY = {
    "methods": ["fine_tune", "noisy_label"],
    "fraction_methods": ["fine_tune"],
    "retain_fractions": [0.1, 0.5, 1.0],
    "seeds": [0],
    "oracle_seeds": [0, 1],
    "train_epochs": 1,
    "unlearn_epochs": 2,
    "n_jobs": 1,
    "check_values": False,
    **SMALL,
}


def protocol(tiny_datalist, output, **overrides) -> Path:
    run("protocol", datalist=tiny_datalist, output_dir=str(output), **{**STUDY, **overrides})
    return Path(output)


@pytest.fixture(scope="session")
def finished(tiny_datalist, tmp_path_factory) -> Path:
    """An uninterrupted study."""
    return protocol(tiny_datalist, tmp_path_factory.mktemp("protocol") / "out")
