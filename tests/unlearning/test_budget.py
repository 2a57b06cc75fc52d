"""A budget in shares of training's passes."""

import json

import pytest

from scripts.unlearning import epoch_length, training_passes


def test_passes_are_those_of_the_record_beside_the_weights(tmp_path):
    weights = tmp_path / "original.pt"
    assert training_passes(weights, slices=210, epochs=18) == 3780
    weights.with_suffix(".json").write_text(json.dumps({"cost": {"backward_slices": 4242}}))
    assert training_passes(weights, slices=210, epochs=18) == 4242
    unlearned = {"training_passes": 4242, "cost": {"backward_slices": 378}}  # a second request goes on from there
    weights.with_suffix(".json").write_text(json.dumps(unlearned))
    assert training_passes(weights, slices=210, epochs=18) == 4242


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"cost": null}', '{"cost": {"backward_slices": "many"}}'])
def test_a_record_that_says_nothing_is_named(tmp_path, text):
    (tmp_path / "original.json").write_text(text)
    with pytest.raises(ValueError, match=r"original.json: 'cost', 'backward_slices': expected the passes"):
        training_passes(tmp_path / "original.pt", 1, 1)


@pytest.mark.parametrize("budget", [0.02, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("slices_per_step", [1, 2, 6])
def test_a_budget_is_spent_and_not_exceeded(budget, slices_per_step):
    spent = 4 * slices_per_step * epoch_length(budget, 3780, slices_per_step, 4, otherwise=18)
    assert budget * 3780 - 4 * slices_per_step <= spent <= budget * 3780


def test_no_budget_and_an_impossible_one():
    assert epoch_length(None, 3780, 1, 4, otherwise=18) == 18
    assert epoch_length(1e-9, 3780, 1, 4, otherwise=18) == 1
    with pytest.raises(ValueError, match="'budget': expected a share of training's passes above 0, found 0"):
        epoch_length(0, 3780, 1, 4, otherwise=18)
