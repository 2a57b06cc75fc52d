"""What is declared, and that a verdict is not believed for what was declared alone."""

import copy as copies
import re

import pytest

from scripts.audit.experiment import plain_settings
from scripts.audit.statistics import Statistics
from scripts.certificate.declaration import Declaration, read_declaration
from scripts.certificate.reference import GATES, weakened, weaknesses
from scripts.data import EquispacedFractionMask, RandomMask, Undersample
from tests.certificate.test_forgeries import declare_again

MASK = EquispacedFractionMask(acceleration=3, center_fraction=0.12)


def test_every_setting_of_every_measure_is_declared(forger):
    measures = read_declaration(forger.work / "declaration.json")["declared"]["measures"]
    mask = {"kind": "EquispacedFractionMask", "acceleration": 3, "center_fraction": 0.12}
    training = {"kind": "ContinuedTraining", "learning_rate": 1e-3, "batch_size": 1, "seed": 0, "mask": mask}
    training["loss"] = {"kind": "ReconstructionLoss", "ssim_weight": 1.0, "l1_weight": 1e-5}
    assert measures["evaluation"] == {"kind": "Undersample", "seed": 0, "mask": mask}
    assert measures["relearning"] == {
        "steps": [0, 2], "tolerance": 0.05, "slices": 4, "training": {**training, "anneal": False},
    }  # fmt: skip
    assert measures["resurfacing"] == {
        "steps": [0, 4], "training_steps": 24, "share": 0.15, "slices": {"BTA": 4, "KTA": 4, "UA": 4},
        "training": {**training, "anneal": True},
    }  # fmt: skip
    assert measures["acquisitions"]["limit"] == 4000
    assert list(measures["acquisitions"]["masks"].values()) == [
        {**mask, "acceleration": 2.0}, {**mask, "acceleration": 4.5}, {**mask, "kind": "RandomMask"},
    ]  # fmt: skip
    assert measures["output_distance"] == measures["earlier"] == {"limit": 4000}
    assert measures["likelihood"] == {"rate": 0.05, "limit": 4000}


def test_of_a_mask_that_is_none_of_the_projects_nothing_is_known():
    config = {"_target_": "scripts.data.EquispacedFractionMask", "acceleration": 3, "center_fraction": 0.12}
    assert weaknesses(as_declared(), config) == {}
    found = weaknesses(as_declared(), {**config, "_target_": "os.system"})
    assert found["evaluation"].startswith("certificate: mask: '_target_': expected one of")


class Stub:
    """An experiment of which nothing but the settings is asked."""

    def __init__(self, name: str, **settings) -> None:
        self.name, self._settings = name, settings

    def settings(self) -> dict:
        return self._settings


def declaration(folder, *, rate=1e-3, mask=MASK, seed=0, error_rate=0.05) -> Declaration:
    experiments = [Stub("relearning", learning_rate=rate), Stub("resurfacing", share=0.15)]
    weights, evaluation = folder / "unlearned.pt", Undersample(mask, seed)
    return Declaration(GATES, Statistics(), [], weights, experiments, evaluation, {"rate": error_rate})


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"rate": 1e-4}, "measures/relearning"),
        ({"mask": RandomMask(3, 0.12)}, "measures/evaluation"),
        ({"seed": 1}, "measures/evaluation"),
        ({"error_rate": 0.5}, "measures/likelihood"),
        ({"rate": 1e-4, "seed": 1}, "measures/evaluation, measures/relearning"),
    ],
)
def test_other_settings_than_the_declared_ones_are_refused(tmp_path, changed, named):
    declaration(tmp_path).write()
    declaration(tmp_path).check()
    with pytest.raises(ValueError, match=rf"declaration.json: {named}: declared on 20.*, expected the same now"):
        declaration(tmp_path, **changed).check()


def as_declared(**changed) -> dict:
    training = {"learning_rate": 1e-3, "mask": plain_settings(MASK)}
    others = {"2x": 2.0, "4.5x": 4.5}
    masks = {name: plain_settings(EquispacedFractionMask(rate, 0.12)) for name, rate in others.items()}
    settings = {
        "evaluation": {"mask": plain_settings(MASK), "seed": 0},
        "relearning": {"training": {**training, "anneal": False}},
        "resurfacing": {"training": {**training, "anneal": True}},
        "acquisitions": {"masks": {**masks, "3x random": plain_settings(RandomMask(3, 0.12))}},
    }
    return {**settings, **changed}


def test_settings_that_hide_much_do_not_accept():
    assert weakened(as_declared(), MASK) == {}
    slow = {"training": {"learning_rate": 1e-9, "anneal": False, "mask": plain_settings(MASK)}}
    other = {"training": {"learning_rate": 1e-3, "anneal": True, "mask": plain_settings(RandomMask(3, 0.12))}}
    assert set(weakened(as_declared(relearning=slow, resurfacing=other), MASK)) == {"relearning", "resurfacing"}
    assert set(weakened(as_declared(acquisitions={"masks": {"3x": plain_settings(MASK)}}), MASK)) == {"acquisitions"}
    assert set(weakened(as_declared(evaluation={"mask": plain_settings(MASK), "seed": 7}), MASK)) == {"evaluation"}


def perfect(forger) -> None:
    """Made up throughout: the unlearned model is the oracle's equal in everything, and the original knows more."""
    measures = forger.content["audit"]["declared"]["measures"]
    measures["relearning"]["steps"], measures["resurfacing"]["steps"] = [0, 20], [0, 4]
    for scan in forger.content["scans"]:
        oracle, results, seen = scan["results"]["oracle"], scan["results"], scan["observed"]
        for name in ("unlearned", "unlearned, int8"):
            results[name] = dict(oracle)
        results["G"] = {**oracle, "psnr": oracle["psnr"] + (10 if scan["cohort"] != "BTA" else 0)}
        for name in scan["null_space"]:
            scan["null_space"][name] = dict(scan["null_space"]["oracle"])
        if scan["cohort"] == "KTA":
            both = {"unlearned": oracle, "oracle": oracle}
            seen["relearning"] = {"0": {**both, "G": results["G"]}, "20": both}
        seen["resurfacing"] = {at: {"unlearned": oracle, "oracle": oracle} for at in ("0", "4")}
        for models in seen.get("acquisitions", {}).values():
            models["unlearned"] = dict(models["oracle"])
    declare_again(forger)


def test_what_is_made_up_to_be_perfect_is_judged_so(forger):
    perfect(forger)
    forger.measure()
    assert forger.content["audit"]["verdict"]["verdict"] == "forgotten"
    forger.save()
    assert not any("no better than" in what for what in forger.failed())


def slow(forger) -> None:
    forger.content["audit"]["declared"]["measures"]["resurfacing"]["training"]["learning_rate"] = 1e-9


def easy_masks(forger) -> None:
    forger.content["audit"]["declared"]["measures"]["acquisitions"]["masks"] = {}


def other_seed(forger) -> None:
    forger.content["audit"]["declared"]["measures"]["evaluation"]["seed"] = 5


def narrow(forger) -> None:
    """One scan is known, another is not; an interval at 1 % is narrower than their distance."""
    forger.content["audit"]["declared"]["confidence"] = 0.01
    known = next(scan for scan in forger.content["scans"] if scan["cohort"] == "KTA")
    for name in ("unlearned", "unlearned, int8"):
        known["results"][name] = {**known["results"][name], "psnr": known["results"][name]["psnr"] + 1.6}


def wide(forger) -> None:
    for gate in forger.content["audit"]["declared"]["gates"]:
        gate.update({key: 100.0 if key == "at_most" else -100.0 for key in gate if key.startswith("at_")})
    for scan in forger.content["scans"]:
        if scan["cohort"] == "KTA":
            scan["results"]["unlearned"] = {
                **scan["results"]["unlearned"],
                "psnr": scan["results"]["oracle"]["psnr"] + 5,
            }


@pytest.mark.parametrize(
    ("weaken", "reason"),
    [
        (slow, "'undecided'; resurfacing: expected a learning rate of 0.001 or more"),
        (easy_masks, "'undecided'; acquisitions: expected the masks 2x, 4.5x, 3x random"),
        (other_seed, "'undecided'; evaluation: expected the audit's mask"),
        (narrow, "'undecided'"),
    ],
)
def test_no_verdict_is_believed_for_what_was_declared_alone(forger, weaken, reason):
    perfect(forger)
    weaken(forger)
    declare_again(forger)
    forger.measure()
    assert forger.content["audit"]["verdict"]["verdict"] == "forgotten"
    forger.save()
    expected = rf"verdict 'forgotten' is no better than by the reference gates, {re.escape(reason)}"
    assert any(re.match(expected, what) for what in forger.failed())


def test_wide_margins_are_not_believed_even_if_they_were_declared_in_time(forger):
    perfect(forger)
    wide(forger)
    declared = copies.deepcopy(forger.content["audit"]["declared"])
    declare_again(forger)
    forger.content["method"]["declaration"] = forger.content["declaration"]["sha256"]
    forger.measure()
    assert forger.content["audit"]["declared"] == declared
    forger.save()
    assert any("by the reference gates, 'not forgotten'" in what for what in forger.failed())
