"""Earlier requests are tested again: known answers."""

import pytest

from scripts.audit import Statistics, earlier
from scripts.audit.earlier import EarlierRequests, earlier_requests
from scripts.audit.gates import judge
from scripts.data.volumes import Volume
from scripts.evaluation.results import Results, VolumeResult
from tests.audit.helpers import given

LEVELS = {  # of the audited model, of the weights before, of two oracles
    "march": {"unlearned": 31.0, "G": 30.2, "oracle": 30.0, "oracle 2": 30.5},
    "june": {"unlearned": 28.0, "G": 28.5, "oracle": 29.0, "oracle 2": 29.0},
}


def rows(levels=LEVELS):
    return [
        VolumeResult(model, request, f"{request}_{i}", f"{request} P{i}", "", 1, level + i, 0.9, 0.1)
        for request, models in levels.items()
        for model, level in models.items()
        for i in range(3)
    ]


def test_the_highest_of_the_earlier_requests_is_what_the_gates_read():
    found = earlier_requests(Results(rows()), Statistics(samples=200))
    assert found["requests"]["march"]["psnr"] == pytest.approx(32.0)
    assert found["requests"]["june"]["rise"]["value"] == pytest.approx(-0.5)
    assert found["highest"]["rise"]["value"] == pytest.approx(0.8)
    assert (found["highest"]["above"]["request"], found["highest"]["above"]["value"]) == ("march", pytest.approx(0.5))
    gate = {"name": "a", "guards": "suppression", "measure": "earlier/highest/rise", "at_most": 0.5}
    assert judge(gate, {"earlier": found})["verdict"] == "fail"
    assert judge({**gate, "at_most": 1.0}, {"earlier": found})["verdict"] == "pass"


def test_without_an_oracle_the_rise_remains():
    levels = {name: {m: v for m, v in of.items() if "oracle" not in m} for name, of in LEVELS.items()}
    found = earlier_requests(Results(rows(levels)), Statistics(samples=200))
    assert found["highest"]["above"] == {"not measured": "no oracle"}
    assert found["highest"]["rise"]["request"] == "march"


def test_the_limit_is_shared_by_requests_and_models(monkeypatch):
    volumes = [Volume(f"{i}.h5", f"{i}", (4, 1, 8, 8), (8, 8), None, "matrix", 1.0) for i in range(3)]
    measure = EarlierRequests(given(earlier={"march": volumes, "june": volumes[:1]}, limit=24))
    models = dict.fromkeys(["unlearned", "G", "oracle", "unlearned, int8"])
    asked = {}

    def measured(compared, chosen, transform, device):
        asked.update(models=list(compared), slices={name: len(slices) for name, slices in chosen.items()})
        return rows()

    monkeypatch.setattr(earlier, "measure_models", measured)
    measure.measure(models, None, Statistics(samples=200))
    assert asked == {"models": ["unlearned", "G", "oracle"], "slices": {"earlier 1": 4, "earlier 2": 4}}
    assert measure.slices(models) == 24
    nothing = EarlierRequests(given())
    assert nothing.slices(models) == 0
    assert "no earlier request" in nothing.measure(models, None, Statistics())["not measured"]
