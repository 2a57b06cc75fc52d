"""The oracle treated alike: what is judged by it, and what is none."""

import copy
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from scripts.audit.measure import Statistics, is_measured
from scripts.audit.provenance import doubts, provenance_problems
from scripts.audit.quality import Recipe, oracle_gaps
from scripts.audit.treated import recipe_of, treated_problems
from scripts.evaluation.results import Results, VolumeResult
from tests.audit.helpers import given
from tests.audit.test_provenance import honest, put, run

CONFIGS = Path(__file__).parents[2] / "bundle" / "configs"


def declared(overlay: str, changes: dict | None = None) -> dict:
    """The configuration of unlearn with a method's overlay and some overrides."""
    files = [str(CONFIGS / "unlearn.yaml"), str(CONFIGS / "methods" / f"{overlay}.yaml")]
    parser = ConfigParser(ConfigParser.load_config_files(files))
    parser.update(changes or {})
    parser.resolve_macro_and_relative_ids()
    return parser.get()


def test_the_recipe_leaves_out_where_a_run_lies_and_nothing_else():
    one, other = declared("reset_and_heal"), declared("reset_and_heal")
    other |= {"weights": "oracle.pt", "output_dir": "elsewhere", "ledger": False, "like": "record.json"}
    assert recipe_of(one) == recipe_of(other)
    for key in ("budget", "seed", "retain_fraction", "method", "learning_rate", "retain_selection", "unlearn"):
        assert recipe_of({**one, key: "another"}) != recipe_of(one), key
    assert "P7" not in str(recipe_of({**one, "forget_request": {"patient_id": "P7"}}))


def treated():
    """(runs, audit, weights) of an audit with an oracle treated alike that leaves nothing to be desired."""
    runs, audit, weights = honest()
    facts = {"recipe": {"method": "m", "seed": "0"}, "cost": {"steps": 9, "backward_slices": 9}}
    facts["opened"] = {"scans": ["r1"], "weights": ["o"]}
    runs["unlearned"][0] |= copy.deepcopy(facts)
    runs["treated oracle"] = [run("unlearn", "o", "t", 2, retain=["r1"], forget=["f1", "f2"]) | copy.deepcopy(facts)]
    weights["treated oracle"] = {"sha256": "t", "tensors_sha256": "treated"}
    return runs, audit, weights


def test_an_honest_one_counts():
    problems = provenance_problems(*treated())
    assert problems == {"oracle": [], "treated oracle": [], "run": [], "settings": []}


RUN, WEIGHTS = ["runs", "treated oracle", 0], ["weights", "treated oracle"]
CHEATS = [
    (["runs", "treated oracle"], [], "no record beside its weights"),
    (["runs", "unlearned"], [], "no record of the audited run"),
    ([*RUN, "weights_in"], "g", "not one of unlearn on the oracle's weights"),
    ([*RUN, "verb"], "train", "not one of unlearn on the oracle's weights"),
    (["weights", "oracle", "sha256"], "x", "not one of unlearn on the oracle's weights"),
    ([*WEIGHTS, "sha256"], "x", "its record is of other weights"),
    ([*WEIGHTS, "tensors_sha256"], "unlearned", "its weights are those of unlearned"),
    ([*WEIGHTS, "tensors_sha256"], "G", "its weights are those of G"),
    ([*WEIGHTS, "tensors_sha256"], "oracle", "its weights are those of oracle"),
    ([*RUN, "recipe", "seed"], "1", "'seed': another one than the audited run's"),
    ([*RUN, "recipe", "extra"], "1", "'extra': another one than the audited run's"),
    ([*RUN, "cost", "steps"], 90, "steps: 90, the audited run's 9"),
    ([*RUN, "cost", "backward_slices"], None, "backward_slices: None, the audited run's 9"),
    ([*RUN, "datalist"], "another", "datalist: another one"),
    ([*RUN, "data", "retain"], ["r2"], "retain files: other ones"),
    ([*RUN, "data", "retain"], ["f1", "r1"], "it opened forget files, which would teach the oracle"),
    ([*RUN, "forgotten"], ["f1"], "forget files: other ones"),
    ([*RUN, "data", "retain"], None, "retain files: other ones"),
    ([*RUN, "opened", "scans"], ["f1", "r1"], "it opened forget files, which would teach the oracle"),
    ([*RUN, "opened", "weights"], ["g", "o"], "it read other weights than the oracle's"),
    ([*RUN, "opened"], None, "what it read is not shown"),
    (["runs", "oracle", 0, "data", "training"], ["f1", "r1", "r2"], "the oracle is not shown to be one"),
]


@pytest.mark.parametrize(("place", "value", "message"), CHEATS)
def test_what_does_not_count(place, value, message):
    made = treated()
    put(place, value)(*made)
    problems = provenance_problems(*made)
    assert any(message in problem for problem in problems["treated oracle"]), problems
    assert any(line.startswith("treated oracle: ") for line in doubts(problems))


def test_equal_weights_are_no_cheat_where_nothing_of_the_start_is_kept():
    runs, _, weights = treated()
    weights["treated oracle"]["tensors_sha256"] = "unlearned"
    runs["unlearned"][0]["forgetting"] = "exact"
    assert treated_problems(runs, weights) == []


def results(**levels) -> Results:
    """PSNR of each model on each cohort, in two patients who differ by 1 dB."""
    return Results(
        VolumeResult(name.replace("_", " "), cohort, f"{cohort}{i}", f"P{i}", "", 1, psnr=level + i, ssim=0.5, nmse=0.1)
        for name, of in {"zero-filled": (1, 1, 1), **levels}.items()
        for cohort, level in zip(("BTA", "KTA", "UA"), of, strict=True)
        for i in range(2)
    )


def test_the_forgotten_kind_is_judged_by_it_and_what_is_kept_by_the_oracle():
    statistics = Statistics(samples=100)
    levels = {"G": (30, 27, 28), "oracle": (31, 20, 20), "oracle_2": (32, 21, 21), "unlearned": (30, 22, 23)}
    found = results(**levels, treated_oracle=(29, 22, 22.5))
    gaps = oracle_gaps(found, statistics)
    values = {(c, part): gaps[c]["psnr"][part]["value"] for c in gaps for part in ("above", "below")}
    assert values == pytest.approx(
        {("BTA", "above"): -2, ("BTA", "below"): -1, ("KTA", "above"): 0, ("KTA", "below"): 0}
        | {("UA", "above"): 0.5, ("UA", "below"): 0.5}
    )
    recipe = Recipe(given()).measure({}, found, statistics)
    assert recipe["alone"]["KTA"]["psnr"]["gap"]["value"] == pytest.approx(2)
    assert recipe["with_memory"]["UA"]["psnr"]["gap"]["value"] == pytest.approx(3)
    assert oracle_gaps(found, statistics, audited="G")["KTA"]["psnr"]["above"]["value"] == pytest.approx(5)
    without = results(**levels)
    assert oracle_gaps(without, statistics)["KTA"]["psnr"]["above"]["value"] == pytest.approx(1)
    assert not is_measured(Recipe(given()).measure({}, without, statistics))
