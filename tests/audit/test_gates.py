import pytest

from scripts.audit.audit import judged_by
from scripts.audit.gates import CONTROL, check_gates, control, judge, overall
from scripts.audit.measure import not_measured
from tests.audit.helpers import GATES, HIDDEN, OVER, RETAIN, UNDER


def measures(value, interval, cohort="KTA"):
    entry = {"value": value, "interval": interval}
    return {"oracle_gap": {cohort: {"psnr": {"above": entry, "below": entry}}}}


@pytest.mark.parametrize(
    ("gate", "interval", "verdict"),
    [
        (UNDER, [0.0, 1.0], "pass"),
        (UNDER, [0.9, 1.1], "undecided"),
        (UNDER, [1.1, 2.0], "fail"),
        (UNDER, [-9.0, -8.0], "pass"),
        (OVER, [-1.0, 3.0], "pass"),
        (OVER, [-1.5, 0.0], "undecided"),
        (OVER, [-3.0, -1.5], "fail"),
        (OVER, None, "undecided"),
    ],
)
def test_judged_by_the_interval(gate, interval, verdict):
    assert judge(gate, measures(0.0, interval))["verdict"] == verdict


def test_what_was_not_measured_says_why():
    found = judge(UNDER, {"oracle_gap": not_measured("no oracle weights")})
    assert (found["verdict"], found["why"]) == ("not measured", "no oracle weights")
    assert judge(RETAIN, measures(0.0, [0, 0]))["verdict"] == "not measured"


def verdicts(under, over, retain, hidden="pass"):
    return [{**gate, "verdict": verdict} for gate, verdict in zip(GATES, (under, over, retain, hidden), strict=True)]


@pytest.mark.parametrize(
    ("judged", "verdict", "because"),
    [
        (("pass", "pass", "pass"), "forgotten", []),
        (("fail", "fail", "fail"), "not forgotten", ["under"]),
        (("pass", "fail", "fail"), "over-forgotten", ["over"]),
        (("undecided", "pass", "fail"), "retain damaged", ["retain"]),
        (("not measured", "pass", "undecided"), "undecided", ["under", "retain"]),
        (("pass", "pass", "fail", "fail"), "suppressed", ["hidden"]),
        (("undecided", "pass", "pass", "fail"), "suppressed", ["hidden"]),
        (("fail", "pass", "pass", "fail"), "not forgotten", ["under"]),
        (("pass", "fail", "pass", "fail"), "over-forgotten", ["over"]),
        (("pass", "pass", "pass", "undecided"), "undecided", ["hidden"]),
    ],
)
def test_overall(judged, verdict, because):
    found = overall(verdicts(*judged))
    assert (found["verdict"], found["because"]) == (verdict, because)


def test_over_forgotten_says_where_knowledge_is_hidden():
    plain, hidden = (overall(verdicts("pass", "fail", "pass", last))["meaning"] for last in ("pass", "fail"))
    assert hidden == plain + "; gates against suppression fail as well: the knowledge is still there"


def test_what_can_only_reject_does_not_pass():
    def found(interval):
        rise = {"value": 0.0, "interval": interval, "cannot_accept": "60 steps"}
        return judge(HIDDEN, {"resurfacing": {"KTA": {"psnr": {"rise": rise}}}})

    assert (found([0.0, 0.1])["verdict"], found([0.0, 0.1])["why"]) == ("undecided", "60 steps")
    assert found([0.6, 0.7])["verdict"] == "fail"


def test_a_gate_may_wait_for_its_measure():
    judged = verdicts("pass", "pass", "pass", "not measured")
    assert overall(judged)["verdict"] == "undecided"
    assert overall([*judged[:3], {**judged[3], "if_measured": True}])["verdict"] == "forgotten"


def test_a_blind_audit_does_not_say_forgotten():
    found = overall(verdicts("pass", "pass", "pass"), sees_remembering=False)
    assert (found["verdict"], found["because"]) == ("undecided", [CONTROL])
    assert overall([])["verdict"] == "undecided"
    assert control(GATES, measures(5.0, [4.0, 6.0]))["sees_remembering"]
    blind = control(GATES, measures(0.5, [0.4, 0.6]))
    assert not blind["sees_remembering"]
    assert [gate["name"] for gate in blind["gates"]] == ["under"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"guards": "forgetting"}, "gates: under: 'guards': expected one of under-forgetting, .* found 'forgetting'"),
        ({"measure": "oracle_gap/KTA/psnr/abov"}, "gates: under: 'measure': .* found 'oracle_gap/KTA/psnr/abov'"),
        ({"at_least": 0.0}, "gates: under: expected one number, at_least or at_most"),
        ({"at_most": "1"}, "gates: under: expected one number"),
        ({"margin": 1}, "gates: under: expected the keys"),
        ({"name": "over"}, "each name once"),
        ({"if_measured": "yes"}, "gates: under: 'if_measured': expected true or false, found 'yes'"),
        ({"guards": "retain damage"}, "at least one gate for each failure, none for under-forgetting"),
    ],
)
def test_gates_that_cannot_be_judged_are_refused(change, message):
    check_gates(GATES)
    with pytest.raises(ValueError, match=message):
        check_gates([{**UNDER, **change}, OVER, RETAIN, HIDDEN])


@pytest.mark.parametrize(
    ("interval", "oracle_interval", "verdict"),
    [
        ([-0.5, 0.5], None, "forgotten exactly"),
        ([-3.0, -2.0], None, "retain damaged"),
        ([-0.5, 0.5], [-3.0, -2.0], "retain damaged"),
        ([-0.5, 0.5], [-3.0, 0.0], "undecided"),
    ],
)
def test_an_exact_run_is_judged_beside_an_oracle_where_there_is_one(interval, oracle_interval, verdict):
    gates = [
        {"name": "original", "guards": "retain damage", "measure": "original_gap/BTA/psnr/gap", "at_least": -1.0},
        {"name": "oracle", "guards": "retain damage", "measure": "oracle_gap/BTA/psnr/below", "at_least": -1.0},
        {"name": "forgotten", "guards": "under-forgetting", "measure": "oracle_gap/KTA/psnr/above", "at_most": 1.0},
    ]
    found = {"original_gap": {"BTA": {"psnr": {"gap": {"value": 0.0, "interval": interval}}}}}
    found["oracle_gap"] = not_measured("no oracle weights")
    if oracle_interval:
        found["oracle_gap"] = {"BTA": {"psnr": {"below": {"value": -1.0, "interval": oracle_interval}}}}
    result = judged_by(found, {}, {"gates": gates}, {}, kept_alone=True)
    assert result["verdict"]["verdict"] == verdict
    assert "forgotten" not in {gate["name"] for gate in result["gates"]}
    none = judged_by({"oracle_gap": not_measured("no oracle")}, {}, {"gates": gates}, {}, kept_alone=True)
    assert none["verdict"]["verdict"] == "undecided"
