"""Update rules of the forget terms, on a network of one weight: J = (w x - y)², dJ/dw = 2 x (w x - y)."""

import copy

import pytest
import torch

from scripts.unlearning import (
    Blindspot,
    ForgetTerm,
    GradientAscent,
    L1Penalty,
    NoisyLabel,
    Scrub,
)
from tests.helpers import Scale, join, sample, trainer
from tests.unlearning.columns import Fixed

RETAIN = sample(value=1.0, target=3.0, forget=False)  # dJ/dw at w = 1: -4
FORGET = sample(value=2.0, target=3.0, forget=True)  # dJ/dw at w = 1: -4 (2·2·(2 - 3))
LR = 0.1


def run(handlers, loader=(RETAIN,), epochs=1) -> float:
    network = Scale(1.0)
    trainer(network, list(loader), handlers, lr=LR, epochs=epochs).run()
    return float(network.weight.detach())


def test_fine_tuning_is_the_stock_trainer():
    assert run([], [RETAIN]) == pytest.approx(1 + LR * 4)


def test_gradient_ascent_alone_climbs_and_reads_no_retain_data():
    assert run([GradientAscent()], [FORGET]) == pytest.approx(1 - LR * 4)


def test_gradient_ascent_ft_joins_both_in_one_step():
    handlers = [GradientAscent(forget_loader=[FORGET], forget_weight=0.5, retain_weight=2.0), L1Penalty(gamma=0.25)]
    assert run(handlers, [RETAIN]) == pytest.approx(1 - LR * (-2 * 4 + 0.5 * 4 + 0.25))


def test_neg_grad_plus():
    method = GradientAscent(forget_loader=[FORGET], retain_weight=0.95, forget_weight=0.05)
    assert run([method]) == pytest.approx(1 + LR * (0.95 * 4 - 0.05 * 4))


def test_released_mix_alternates_by_the_sample_not_by_the_batch():
    mixed = run([GradientAscent()], [join(RETAIN, FORGET)])
    assert mixed == pytest.approx(1.0)  # the two gradients are equal and the term turns one round
    assert run([GradientAscent(forget_weight=0.0)], [RETAIN, FORGET]) == pytest.approx(1 + LR * 4)


def test_forget_stream_starts_anew_and_never_ends():
    seen = []

    class Watch(ForgetTerm):
        def term(self, engine, prediction, label):
            seen.append(float(label["target"].mean()))
            return 0.0 * engine.loss_function(prediction, label)

    forget = [sample(1.0, float(i), True) for i in range(3)]
    run([Watch(forget_loader=forget)], [RETAIN] * 5)
    assert seen == [0.0, 1.0, 2.0, 0.0, 1.0]


def test_zero_mean_noise_is_unbiased_and_positive_noise_is_not():
    """E[dJ/dw] over zero-mean noise equals training on the true label; abs(N) shifts it by λ √(2/π)."""
    network = Scale(1.0)
    target = torch.full((1, 1, 200, 200), 3.0)
    torch.manual_seed(0)
    for kind, shift in (("zero_mean", 0.0), ("positive", 0.5 * (2 / torch.pi) ** 0.5)):
        noisy = NoisyLabel(std=0.5, kind=kind).noisy({"target": target, "max_value": torch.ones(1)})
        (gradient,) = torch.autograd.grad((network(torch.ones_like(target)) - noisy).square().mean(), network.weight)
        assert float(gradient) == pytest.approx(2 * (1 - 3 - shift), abs=0.02)


def test_noise_scale_and_sign():
    torch.manual_seed(0)
    target = torch.full((2, 1, 100, 100), 5.0)
    label = {"target": target, "max_value": torch.tensor([1.0, 4.0])}
    relative = NoisyLabel(std=0.1, scale="max").noisy(label)
    assert (relative - target).flatten(1).std(1).tolist() == pytest.approx([0.1, 0.4], rel=0.05)
    assert float(NoisyLabel(std=0.1, kind="positive").noisy(label).min()) >= 5.0


def test_noisy_label_leaves_the_batch_alone():
    before = FORGET["target"].clone()
    run([NoisyLabel(std=1.0)], [FORGET])
    assert torch.equal(FORGET["target"], before)


def test_blindspot_learns_the_teachers_image():
    """Target 0.5 x = 1 in place of y: dD/dw = 2·2·(2 - 1) = 4."""
    teacher = Fixed(Scale(0.5))
    forget = copy.deepcopy(FORGET)
    assert run([Blindspot(teacher=teacher, forget_loader=[FORGET], forget_weight=0.25)]) == pytest.approx(
        1 - LR * (-4 + 0.25 * 4)
    )
    assert float(teacher.network.weight) == 0.5
    assert all(torch.equal(FORGET[key], forget[key]) for key in ("image", "target"))


def test_blindspot_in_a_mixed_batch_teaches_the_forget_sample_alone():
    assert run([Blindspot(teacher=Fixed(Scale(0.5)))], [join(RETAIN, FORGET)]) == pytest.approx(1 - LR * (-4 + 4) / 2)


def test_scrub_alternates_and_max_steps_end():
    """Min step at S = G: γ·J(r) alone; max step: -4 (w - 1)²; then γ·J(r) + α (w - 1)²."""
    scrub = Scrub(forget_loader=[FORGET], gamma=0.9, alpha=0.5, max_epochs=1)
    first = 1 + LR * 0.9 * 4
    second = first + LR * 8 * (first - 1)
    assert run([scrub], [RETAIN, RETAIN]) == pytest.approx(second)
    third = second - LR * (0.9 * 2 * (second - 3) + 0.5 * 2 * (second - 1))
    fourth = third - LR * (0.9 * 2 * (third - 3) + 0.5 * 2 * (third - 1))
    assert run([scrub], [RETAIN, RETAIN], epochs=2) == pytest.approx(fourth)
    assert float(scrub.original.network.weight) == 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scrub(forget_loader=[], gamma=-1.0), "Scrub: 'gamma': expected a number above 0, found -1.0"),
        (lambda: NoisyLabel(std=0.0), "'std': expected a number above 0, found 0.0"),
        (lambda: NoisyLabel(std=1.0, kind="gaussian"), "'kind': expected one of zero_mean, positive, found 'gaussian'"),
        (lambda: NoisyLabel(std=1.0, scale="mean"), "'scale': expected one of absolute, max, found 'mean'"),
    ],
)
def test_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
