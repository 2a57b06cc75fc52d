"""Which method leads: what it keeps, and what comes back when training goes on."""

import pytest

from scripts.protocol import effort, tables
from scripts.protocol.plan import ORACLE, ORIGINAL, UNLEARNED
from scripts.protocol.ranking import EXACT, HOLDS, KEEPS, SUPPRESSES, UNKNOWN, ranking, sentences
from tests.protocol.helpers import WORDS, collect, made

TRAINED = [made(ORIGINAL, 0, (30.0, 30.0, 30.0)), made(ORACLE, 0, (30.0, 26.0, 26.0), (30.0, 26.0, 26.0))]


def ranked(**methods):
    """The ranking of methods, each (delivered, later) PSNR of the three cohorts, and maybe "exact"."""
    found = [
        made(UNLEARNED, 0, *levels[:2], method=name, forgetting="".join(levels[2:])) for name, levels in methods.items()
    ]
    main = collect([*TRAINED, *found])
    qualities = tables.quality(main, WORDS).rows
    shown = ranking(main, qualities, effort.costs(main).rows, WORDS)
    return shown, sentences(shown.rows, qualities, failed=0)


HELD = ((29.0, 26.2, 26.1), (29.4, 26.3, 26.2))
SUPPRESSED = ((30.1, 26.0, 26.0), (30.1, 28.0, 28.5))
FINE_TUNED = ((30.2, 29.9, 29.9), (30.2, 29.9, 29.8))
COLLAPSED = ((20.0, 14.0, 14.0), (29.9, 28.0, 28.5))


def test_what_is_kept_and_what_comes_back_by_hand():
    shown, _ = ranked(held=HELD)
    (row,) = shown.rows.to_dict("records")
    assert row["finding"] == HOLDS
    found = [row[name] for name in ("retain_gap", "forget_gap", "later_gap", "comes_back", "gap_closed", "loss")]
    assert found == pytest.approx([-1.0, 0.2, 0.3, 0.1, 3.8 / 4, 1.3])
    assert shown.table.columns[1] == "brain kept"
    assert shown.table.rows[0][1:6] == ["−1.00", "+0.20", "+0.30", "+0.10", "95.0 %"]


def test_a_method_that_suppresses_never_leads():
    shown, said = ranked(quick=SUPPRESSED, held=HELD, collapsed=COLLAPSED)
    assert dict(zip(shown.rows.model, shown.rows.finding, strict=True)) == {
        "held": HOLDS, "quick": SUPPRESSES, "collapsed": SUPPRESSES}  # fmt: skip
    assert shown.rows.model[0] == "held"
    assert said[1].startswith("held is best: ")
    assert said[2].startswith("quick and collapsed only suppress what it should forget")


@pytest.mark.parametrize("kept", [30.1, 31.0, 40.0])
@pytest.mark.parametrize("back", [26.6, 27.0, 33.0])
def test_no_quality_that_is_kept_makes_up_for_suppression(kept, back):
    """Nor does a smaller loss: what came back beyond half a dB puts a method below each one that holds."""
    poor = ((22.0, 26.0, 26.0), (22.0, 26.4, 26.4))
    shown, said = ranked(quick=((kept, 26.0, 26.0), (kept, back, back)), poor=poor)
    assert list(shown.rows.model) == ["poor", "quick"]
    assert list(shown.rows.finding) == [HOLDS, SUPPRESSES]
    assert said[1].startswith("poor is best: ")
    alone, said = ranked(quick=((kept, 26.0, 26.0), (kept, back, back)))
    assert list(alone.rows.finding) == [SUPPRESSES]
    assert said[1].startswith("No method leads: ")


def test_nor_does_one_that_leaves_the_knowledge_or_was_not_measured():
    shown, said = ranked(tuned=FINE_TUNED, quick=SUPPRESSED)
    assert set(shown.rows.finding) == {KEEPS, SUPPRESSES}
    assert said[1].startswith("No method leads: each one leaves most")
    shown, said = ranked(tuned=(FINE_TUNED[0], None), quick=(SUPPRESSED[0], None))
    assert set(shown.rows.finding) == {UNKNOWN}
    assert list(shown.rows.model) == ["quick", "tuned"]
    assert "was not measured (further_training)" in said[1]
    assert shown.table.rows[0][3:5] == ["–", "–"]


def test_an_exact_run_is_ranked_by_what_it_keeps():
    """Its prior knows images in general: the distance on the forgotten kind counts neither as memory nor as loss."""
    exact = ((29.9, 28.5, 28.5), (30.1, 28.9, 28.9), "exact")
    shown, said = ranked(held=HELD, restart=exact)
    assert list(shown.rows.model) == ["restart", "held"]
    assert shown.rows.finding[0] == EXACT
    assert shown.rows.loss[0] == pytest.approx(0.1)
    assert "nothing of the original is left in it (exact)" in said[1]
    assert not any("restart" in sentence for sentence in said[2:])


def test_failures_and_poor_originals_are_said():
    main = collect([made(ORIGINAL, 0, 30.0)])
    qualities = tables.quality(main, WORDS).rows
    rows = ranking(main, qualities, effort.costs(main).rows, WORDS).rows
    assert rows.empty
    assert sentences(rows, qualities, failed=1) == [
        "1 run did not finish and count for nothing here; see the runs below."]  # fmt: skip
    assert sentences(rows, qualities, failed=0) == ["There are not enough finished runs for a ranking."]
