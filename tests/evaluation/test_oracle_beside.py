"""An oracle of another request is not taken for this one's."""

import json

import pytest

from scripts.data.volumes import Volume
from scripts.evaluation import oracle_beside


def volumes(*names: str) -> list[Volume]:
    return [Volume(name, name, (1, 1, 8, 8), (8, 8), None, "matrix", 1.0) for name in names]


@pytest.mark.parametrize(
    ("roles", "used"),
    [
        ({"training": ["a", "b"]}, True),
        ({"retain": ["b", "a"], "forget": ["c"]}, True),  # fine-tuned on all that stays
        ({"training": ["a", "b", "c"]}, False),  # it knows what this request takes
        ({"training": ["a"]}, False),  # it lacks what this request leaves
        ({"retain": ["a"]}, False),
        (None, True),  # no record: the audit gives it no weight
    ],
)
def test_by_its_record(tmp_path, roles, used):
    (tmp_path / "oracle.pt").write_text("weights")
    if roles is not None:
        data = {role: {"volumes": [{"volume": name} for name in names]} for role, names in roles.items()}
        (tmp_path / "oracle.json").write_text(json.dumps({"data": data}))
    found = oracle_beside(tmp_path / "original.pt", volumes("a", "b"))
    assert found == (str(tmp_path / "oracle.pt") if used else None)


def test_none_there(tmp_path):
    assert oracle_beside(tmp_path / "original.pt", volumes("a")) is None
