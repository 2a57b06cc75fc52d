"""A small study that the tests of its cells, tables and report share."""

import csv
import re
from pathlib import Path

import pytest

from tests.verbs import SMALL, run

STUDY = {
    "methods": ["fine_tune", "noisy_label"],
    "fraction_methods": ["fine_tune"],
    "retain_fractions": [0.1, 0.5, 1.0],
    "budget_methods": ["fine_tune"],
    "budgets": [0.5, 1.0],
    "further_training": 0.5,
    "seeds": [0],
    "oracle_seeds": [0, 1],
    "train_epochs": 1,
    "unlearn_epochs": 2,
    "n_jobs": 1,
    "check_values": False,
    **SMALL,
}
TIMES = re.compile(r"second|time")


def protocol(tiny_datalist, output, **overrides) -> Path:
    run("protocol", datalist=tiny_datalist, output_dir=str(output), **{**STUDY, **overrides})
    return Path(output)


@pytest.fixture(scope="session")
def finished(tiny_datalist, tmp_path_factory) -> Path:
    """An uninterrupted study."""
    return protocol(tiny_datalist, tmp_path_factory.mktemp("protocol") / "out")


def records(output: Path) -> list[Path]:
    return sorted((output / "cells").rglob("cell.json"))


def table(output: Path, name: str) -> list[dict]:
    with open(output / "tables" / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


def untimed(output: Path) -> dict[str, list[dict]]:
    """All tables, digit by digit, but for columns and lines of wall time."""
    found = {}
    for file in sorted((output / "tables").glob("*.csv")):
        rows = [row for row in table(output, file.stem) if not TIMES.search(row.get("quantity") or "")]
        found[file.stem] = [{k: v for k, v in row.items() if not TIMES.search(k)} for row in rows]
    return found


def at_work(output: Path) -> list[Path]:
    """The folders of cells that have begun, with files of their own, and have no record yet."""
    folders = [path.parent for path in (output / "cells").rglob("*.log")]
    return [folder for folder in folders if folder.name != "evaluation" and not (folder / "cell.json").exists()]
