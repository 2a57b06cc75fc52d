"""What is declared, and that a verdict is not believed for what was declared alone."""

import copy as copies

import pytest

from scripts.certificate.declaration import read_declaration
from scripts.run.files import json_sha256
from tests.certificate.conftest import QUICK, root_of, run
from tests.certificate.test_forgeries import declare_again, made_up_throughout


def test_every_setting_that_decides_what_is_found_is_declared(forger):
    declared = read_declaration(forger.work / "declaration.json")["declared"]
    keys = ("measures", "given", "likelihood_rate", "mask", "loss_function", "undersample", "cohorts", "models")
    for key in (*keys, "slices_per_measure"):
        assert len(declared["settings"][key]) == 64, key
    assert declared["settings"]["relearning_steps"] == json_sha256(2)
    assert not set(declared["settings"]) & {"datalist", "device", "output_dir", "unlearned_weights", "gates"}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"relearning_steps": 4}, "settings/relearning_steps"),
        ({"measures#relearning#learning_rate": 1e-9}, "settings/measures"),
        ({"undersample#seed": 1}, "settings/undersample"),
        ({"cohorts": "$dict(@data.evaluation(), KTA=@data.evaluation()['KTA'][:1])"}, "settings/cohorts"),
        ({"given#forget": "$@data.forget[:1]"}, "settings/given"),
        ({"statistics#confidence": 0.5}, "confidence"),
    ],
)
def test_other_settings_than_the_declared_ones_are_refused(copy, tiny_datalist, changed, named):
    work = copy / "work"
    weights = {"weights": str(work / "original.pt"), "unlearned_weights": str(work / "unlearned.pt")}
    settings = {**QUICK, "datalist": tiny_datalist, "output_dir": str(copy / "again"), **weights, **changed}
    with pytest.raises(RuntimeError) as error:
        run("audit", **settings)
    assert f"declaration.json: {named}: declared on" in root_of(error.value)
    assert not (copy / "again").exists()


def test_what_is_made_up_to_be_perfect_is_judged_so(forger):
    made_up_throughout(forger)
    assert not [gate for gate in forger.content["audit"]["gates"] if gate["verdict"] in ("fail", "undecided")]
    forger.save()
    assert not any("no better than" in what for what in forger.failed())


def test_wide_margins_are_not_believed_even_if_they_were_declared_in_time(forger):
    made_up_throughout(forger)
    stated = forger.content["audit"]
    for gate in stated["declared"]["gates"]:
        gate.update({key: 100.0 if key == "at_most" else -100.0 for key in gate if key.startswith("at_")})
    stated["measures"]["oracle_gap"]["KTA"]["psnr"]["above"].update(value=5.0, interval=[4.9, 5.1])
    known = {"value": 500.0, "interval": [499.0, 501.0]}  # a control that sees remembering even so
    stated["control"]["measures"]["oracle_gap"]["UA"]["psnr"]["above"] = known
    declared = copies.deepcopy(stated["declared"])
    declare_again(forger)
    forger.content["method"]["declaration"] = forger.content["declaration"]["sha256"]
    forger.judge()
    assert stated["declared"] == declared
    assert stated["verdict"]["verdict"] == "forgotten"
    forger.save()
    assert any("by the reference gates, 'not forgotten'" in what for what in forger.failed())
