"""Measures from per-volume results, and how they are shown."""

from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest

from scripts.audit.gates import control, judge, overall
from scripts.audit.hallucination import hallucination
from scripts.audit.inputs import audited_weights, cost, read_record
from scripts.audit.measure import Statistics, is_measured, not_measured, oracle_names
from scripts.audit.membership import membership
from scripts.audit.quality import Subgroups, gaps
from scripts.audit.relearning import relearning
from scripts.audit.report import audit_markdown, audit_page, audit_section
from scripts.audit.resurfacing import resurfacing
from scripts.evaluation.results import Results, VolumeResult, summarise
from tests.audit.helpers import GATES, curve, given

LEVELS = {"zero-filled": 20, "G": 30, "oracle": 25, "oracle 2": 25.4, "oracle 3": 24.8, "unlearned": 26, "query": 33}
STATISTICS = Statistics(samples=200)


def records(models=tuple(LEVELS)):
    rng = np.random.default_rng(0)
    difficulty = {(cohort, i): rng.normal() for cohort in ("BTA", "KTA", "UA") for i in range(6)}
    return [
        VolumeResult(
            model, cohort, f"{cohort}_{i}.h5", f"{cohort}{i // 2}", "brain", 2,
            psnr=LEVELS[model] + hard + 3 * (model == "query" and cohort == "UA"), ssim=0.9, nmse=0.01,
        )
        for model in models
        for (cohort, i), hard in difficulty.items()
    ]  # fmt: skip


@pytest.fixture
def results():
    return Results(records())


def test_measures_of_known_levels(results):
    table = gaps(results, oracle_names(results.models), STATISTICS)
    assert table["KTA"]["psnr"]["gap"]["value"] == pytest.approx(1.0)
    assert table["KTA"]["psnr"]["above"]["value"] == pytest.approx(0.6)
    assert table["KTA"]["psnr"]["below"]["interval"] == pytest.approx([1.2, 1.2])
    assert table["KTA"]["psnr"]["gap"]["patients"] == 3
    found = membership(results, STATISTICS)
    assert found["gain"]["auc"]["value"] == 0.5  # how hard each scan is explains everything
    assert found["error"]["above"]["value"] == 0
    volumes = [SimpleNamespace(name=f"BTA_{i}.h5", fields={"acquisition": "ab"[i % 2]}) for i in range(6)]
    others = {c: [SimpleNamespace(name=f"{c}_{i}.h5", fields={}) for i in range(6)] for c in ("KTA", "UA")}
    cohorts = {"BTA": volumes, **others}
    groups = Subgroups(given(cohorts), ["acquisition"]).measure({}, results, STATISTICS)
    assert [(row["cohort"], row["group"], row["gap"]["volumes"]) for row in groups] == [
        ("BTA", "a", 3),
        ("BTA", "b", 3),
    ]


def test_without_an_oracle_what_needs_it_is_not_measured():
    alone = Results(records(("zero-filled", "G", "unlearned")))
    assert not is_measured(gaps(alone, oracle_names(alone.models), STATISTICS))
    found = membership(alone, STATISTICS)["gain"]
    assert is_measured(found["auc"])
    assert not is_measured(found["above"])


def audit_of(results, names=None) -> dict:
    references = oracle_names(results.models)
    sums = {m: {f"BTA_{i}.h5": {"null": 1.0, "error": 2.0, "target": 50.0} for i in range(6)} for m in results.models}
    patients = {f"BTA_{i}.h5": "" for i in range(6)}
    found = {
        "oracle_gap": gaps(results, references, STATISTICS),
        "original_gap": gaps(results, ["G"], STATISTICS),
        "membership": membership(results, STATISTICS),
        "relearning": relearning(curve("unlearned", {0: 22.0, 20: 23.0}), None, ["P0", "P1", "P2"], STATISTICS),
        "resurfacing": {
            **resurfacing(curve("unlearned", {0: 22.0, 60: 22.2}), None, STATISTICS), "share_of_training": 0.1,
        },
        "quantised": gaps(results, ["G"], STATISTICS),
        "acquisitions": not_measured("no oracle weights"),
        "output_distance": {"KTA": {"model": 0.1, "oracles": None, "ratio": not_measured("one oracle")}},
        "hallucination": hallucination(sums, patients, STATISTICS),
        "subgroups": [],
        "cost": not_measured("no run record"),
    }  # fmt: skip
    judged = [judge(gate, found) for gate in GATES]
    return {
        "verdict": overall(judged), "statement": "There is no formal guarantee.", "advice": None,
        "gates": judged,
        "control": control(GATES, found), "measures": found, "models": summarise(records(results.models)),
        "declared": {"confidence": 0.9}, "pictures": ["hallucination.png"],
    }  # fmt: skip


class Outline(HTMLParser):
    """Opened and closed tags, attributes and text of a page."""

    VOID = ("meta", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(text)
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_section_is_accessible_and_closed(results):
    audit = audit_of(results)
    page = Outline(audit_page(audit, folder="audit/"))
    assert page.tags.count("h1") == 1
    assert "script" not in page.tags
    assert all(attrs.get("scope") in ("col", "row") for tag, attrs in page.attributes if tag == "th")
    assert page.tags.count("table") == page.tags.count("caption") > 8
    assert all(attrs["alt"] and attrs["src"].startswith("audit/") for tag, attrs in page.attributes if tag == "img")
    assert "Verdict: forgotten" in page.text
    assert "no formal guarantee" in page.text
    assert Outline(audit_section(audit, level=3)).tags.count("h3") == 1


def test_text_is_escaped(results):
    audit = audit_of(results)
    audit["gates"][0]["name"] = "<script>alert(1)</script>"
    assert "<script>" not in audit_section(audit)


def test_everything_is_shown_without_an_oracle():
    audit = audit_of(Results(records(("zero-filled", "G", "unlearned"))))
    assert audit["verdict"]["verdict"] == "undecided"
    for text in (audit_markdown(audit), audit_section(audit)):
        assert "Not measured: no oracle weights." in text
        assert "beside its own state" in text


def test_cost_is_a_share_of_training():
    run = {"cost": {"steps": 5, "forward_slices": 10, "backward_slices": 10, "seconds": 2.0}, "data": {}}
    training = {"cost": {"steps": 50, "forward_slices": 40, "backward_slices": 40, "seconds": 8.0}}
    assert cost(run, training)["share_of_training"] == {
        "steps": 0.1, "forward_slices": 0.25, "backward_slices": 0.25, "seconds": 0.25,
    }  # fmt: skip
    assert not is_measured(cost(None))
    assert not is_measured(cost(run)["share_of_training"])


def test_inputs_are_refused_by_name(tmp_path):
    weights, other = tmp_path / "w.pt", tmp_path / "x.pt"
    weights.write_bytes(b"1")
    with pytest.raises(
        FileNotFoundError, match="'unlearned_weights': no such file: .*x.pt; run the verb unlearn first"
    ):
        audited_weights(weights, other)
    with pytest.raises(ValueError, match="'oracle_seeds': expected 'oracle_weights'"):
        audited_weights(weights, weights, oracle_seeds=[weights])
    assert list(audited_weights(weights, weights, weights, [weights])) == ["G", "oracle", "oracle 2", "unlearned"]
    (tmp_path / "w.json").write_text('{"weights_out": {"sha256": "0"}, "cost": {}, "data": {}}')
    with pytest.raises(ValueError, match=r"w.json: 'weights_out': the record is of other weights than .*w.pt"):
        read_record(tmp_path / "w.json", weights)
    (tmp_path / "w.json").write_text("[]")
    with pytest.raises(ValueError, match=r"w.json: expected the record of a run"):
        read_record(tmp_path / "w.json", weights)
    with pytest.raises(ValueError, match="found patient_id"):
        Subgroups(given(), ["anatomy", "patient_id"])


@pytest.mark.parametrize("settings", [{"confidence": 1.0}, {"samples": 10}, {"equivalence": {"BTA": 0.0}}])
def test_impossible_statistics_are_refused(settings):
    with pytest.raises(ValueError, match="Statistics: '"):
        Statistics(**settings)
