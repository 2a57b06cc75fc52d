"""The oracle treated alike: what is judged by it, and what is none."""

import copy
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from scripts.audit import measures
from scripts.audit.provenance import doubts, provenance_problems
from scripts.audit.statistics import Statistics, is_measured
from scripts.audit.treated import keeps_nothing, left_out, other_reads, recipe_of, treated_problems, treatment
from scripts.evaluation.results import Results, VolumeResult
from tests.audit.test_provenance import honest, put, run

CONFIGS = Path(__file__).parents[2] / "bundle" / "configs"
METHODS = sorted(path.stem for path in (CONFIGS / "methods").glob("*.yaml"))
RETAIN_ONLY = {
    "block_healing", "fine_tune", "fresh_weights", "full_fine_tune", "l1_sparse", "perturb_and_heal",
    "reset_and_distil", "reset_and_heal",
}  # fmt: skip
TREATMENT = {
    "recipe": {"method": "m", "seed": "0"}, "steps": 9, "backward_slices": 9, "reads": [], "keeps_nothing": False,
}  # fmt: skip


def declared(overlay: str, changes: dict | None = None) -> dict:
    """The configuration of unlearn with a method's overlay and some overrides."""
    files = [str(CONFIGS / "unlearn.yaml"), str(CONFIGS / "methods" / f"{overlay}.yaml")]
    parser = ConfigParser(ConfigParser.load_config_files(files))
    parser.update(changes or {})
    parser.resolve_macro_and_relative_ids()
    return parser.get()


@pytest.mark.parametrize("method", METHODS)
def test_only_methods_that_read_retained_data_alone_may_treat_an_oracle(method):
    found = other_reads(declared(method))
    assert (found == []) == (method in RETAIN_ONLY), found
    assert keeps_nothing(declared(method)["method"]) == (method == "fresh_weights")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"retain_loader#dataset": {"volumes": "@retain_subset"}, "retain_subset": "$@data.retain + @data.forget"},
            "retain_subset: $@data.retain + @data.forget",
        ),
        ({"train#dataloader": "@forget_loader"}, "forget_loader: $@data.forget"),
        ({"train#dataloader": "@mixed_loader"}, "mixed_loader: $@retain_subset + @data.forget"),
        ({"retain_sampler#dataset#volumes": "$@data.sections['training']"}, "retain_sampler: $@data.sections"),
        ({"retain_sampler#dataset#volumes": "$getattr(@data, 'retain')"}, "retain_sampler: $getattr"),
        ({"method": [{"_target_": "scripts.networks.load_weights", "path": "knows.pt"}]}, "method: scripts.networks"),
        ({"method": [{"_target_": "elsewhere.Handler"}]}, "method: elsewhere.Handler"),
        ({"method": ["$torch.load('knows.pt')"]}, "method: $torch.load"),
        ({"initialize": ["$scripts.networks.load_weights(@network, 'knows.pt')"]}, "initialize: $scripts.networks"),
        (
            {
                "method": [
                    {"_target_": "scripts.unlearning.Perturb", "fresh": {"_target_": "scripts.networks.load_weights"}}
                ]
            },
            "method: scripts.networks.load_weights",
        ),
        ({"method": ["@teacher"]}, "teacher: scripts.unlearning.BlindTeacher"),
        (
            {"method": [{"_target_": "scripts.unlearning.BlockHealing", "loader": "@forget_loader"}]},
            "forget_loader: $@",
        ),
    ],
)
def test_what_may_read_more_is_named(changes, message):
    found = other_reads(declared("fine_tune", changes))
    assert any(text.startswith(message) for text in found), found


def test_the_recipe_leaves_out_where_a_run_lies_and_nothing_else():
    one, other = declared("reset_and_heal"), declared("reset_and_heal")
    other |= {"weights": "oracle.pt", "output_dir": "elsewhere", "ledger": False, "like": "record.json"}
    assert recipe_of(one) == recipe_of(other)
    for key in ("budget", "seed", "retain_fraction", "method", "learning_rate", "retain_selection", "unlearn"):
        assert recipe_of({**one, key: "another"}) != recipe_of(one), key
    facts = treatment({"configuration": {**one, "forget_request": {"patient_id": "P7"}}, "cost": {"steps": 3}})
    assert facts["steps"] == 3
    assert "P7" not in str(facts)


def treated():
    """(runs, audit, weights) of an audit with an oracle treated alike that leaves nothing to be desired."""
    runs, audit, weights = honest()
    runs["unlearned"][0]["treatment"] = copy.deepcopy(TREATMENT)
    own = run("unlearn", "o", "t", 2, retain=["r1"], forget=["f1", "f2"])
    runs["treated oracle"] = [{**own, "treatment": copy.deepcopy(TREATMENT)}]
    weights["treated oracle"] = {"sha256": "t", "tensors_sha256": "treated"}
    return runs, audit, weights


def test_an_honest_one_counts():
    problems = provenance_problems(*treated())
    assert problems == {"oracle": [], "treated oracle": [], "run": []}
    assert left_out(problems) == set()


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
    ([*RUN, "treatment", "recipe", "seed"], "1", "'seed': another one than the audited run's"),
    ([*RUN, "treatment", "recipe", "extra"], "1", "'extra': another one than the audited run's"),
    ([*RUN, "treatment", "steps"], 90, "steps: 90, the audited run's 9"),
    ([*RUN, "treatment", "backward_slices"], None, "backward_slices: None, the audited run's 9"),
    ([*RUN, "datalist"], "another", "datalist: another one"),
    ([*RUN, "data", "retain"], ["r2"], "retain files: other ones"),
    ([*RUN, "data", "retain"], ["f1", "r1"], "forget files are among its retain files"),
    ([*RUN, "data", "forget"], ["f1"], "forget files: other ones"),
    ([*RUN, "data", "retain"], None, "retain files: other ones"),
    ([*RUN, "treatment", "reads"], ["method: X"], "the method may read forget data or other weights"),
    (["runs", "oracle", 0, "data", "training"], ["f1", "r1", "r2"], "the oracle is not shown to be one"),
]


@pytest.mark.parametrize(("place", "value", "message"), CHEATS)
def test_what_does_not_count(place, value, message):
    made = treated()
    put(place, value)(*made)
    problems = provenance_problems(*made)
    assert any(message in problem for problem in problems["treated oracle"]), problems
    assert left_out(problems) == {"treated oracle"}
    assert any(line.startswith("treated oracle: ") for line in doubts(problems))


def test_equal_weights_are_no_cheat_where_nothing_of_the_start_is_kept():
    runs, _, weights = treated()
    weights["treated oracle"]["tensors_sha256"] = "unlearned"
    runs["unlearned"][0]["treatment"]["keeps_nothing"] = True
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
    gaps = measures.oracle_gaps(found, statistics)
    values = {(c, part): gaps[c]["psnr"][part]["value"] for c in gaps for part in ("above", "below")}
    assert values == pytest.approx(
        {("BTA", "above"): -2, ("BTA", "below"): -1, ("KTA", "above"): 0, ("KTA", "below"): 0}
        | {("UA", "above"): 0.5, ("UA", "below"): 0.5}
    )
    recipe = measures.recipe(found, statistics)
    assert recipe["alone"]["KTA"]["psnr"]["gap"]["value"] == pytest.approx(2)
    assert recipe["with_memory"]["UA"]["psnr"]["gap"]["value"] == pytest.approx(3)
    assert measures.oracle_gaps(found, statistics, audited="G")["KTA"]["psnr"]["above"]["value"] == pytest.approx(5)
    assert measures.distributions(found)["KTA"]["psnr"]["wasserstein"] == pytest.approx(0)
    without = results(**levels)
    assert measures.oracle_gaps(without, statistics)["KTA"]["psnr"]["above"]["value"] == pytest.approx(1)
    assert not is_measured(measures.recipe(without, statistics))
