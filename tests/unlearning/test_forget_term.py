"""Update rules of the paper's methods, on a network of one weight: J = (w x - y)², dJ/dw = 2 x (w x - y)."""

import pytest
import torch

from scripts.unlearning import ForgetTerm, GradientAscent, L1Penalty, NoisyLabel
from tests.helpers import Scale, join, sample, trainer

RETAIN = sample(value=1.0, target=3.0, forget=False)  # dJ/dw at w = 1: -4
FORGET = sample(value=2.0, target=3.0, forget=True)  # dJ/dw at w = 1: -4 (2·2·(2 - 3))
LR = 0.1


def weight_after(loader, handlers, **kwargs) -> float:
    network = Scale(1.0)
    trainer(network, loader, handlers, lr=LR, **kwargs).run()
    return float(network.weight.detach())


def test_fine_tuning_is_the_stock_trainer():
    assert weight_after([RETAIN], []) == pytest.approx(1 + LR * 4)


def test_gradient_ascent_alone_climbs_and_reads_no_retain_data():
    assert weight_after([FORGET], [GradientAscent()]) == pytest.approx(1 - LR * 4)


def test_gradient_ascent_with_l1():
    handlers = [GradientAscent(forget_weight=2.0), L1Penalty(gamma=0.5)]
    assert weight_after([FORGET], handlers) == pytest.approx(1 - LR * (2 * 4 + 0.5))


def test_gradient_ascent_ft_joins_both_in_one_step():
    handlers = [GradientAscent([FORGET], forget_weight=0.5, retain_weight=2.0), L1Penalty(gamma=0.25)]
    assert weight_after([RETAIN], handlers) == pytest.approx(1 - LR * (-2 * 4 + 0.5 * 4 + 0.25))


def test_released_mix_alternates_by_the_sample_not_by_the_batch():
    mixed = weight_after([join(RETAIN, FORGET)], [GradientAscent()])
    assert mixed == pytest.approx(1.0)  # the two gradients are equal and the term turns one round
    assert weight_after([RETAIN, FORGET], [GradientAscent(forget_weight=0.0)]) == pytest.approx(1 + LR * 4)


def test_forget_stream_starts_anew_and_never_ends():
    seen = []

    class Watch(ForgetTerm):
        def term(self, engine, prediction, label):
            seen.append(float(label["target"].mean()))
            return 0.0 * engine.loss_function(prediction, label)

    forget = [sample(1.0, float(i), True) for i in range(3)]
    weight_after([RETAIN] * 5, [Watch(forget)])
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


def test_noise_scale_and_replacement():
    torch.manual_seed(0)
    target = torch.full((2, 1, 100, 100), 5.0)
    label = {"target": target, "max_value": torch.tensor([1.0, 4.0])}
    relative = NoisyLabel(std=0.1, scale="max").noisy(label)
    assert (relative - target).flatten(1).std(1).tolist() == pytest.approx([0.1, 0.4], rel=0.05)
    replaced = NoisyLabel(std=0.1, kind="replace").noisy(label)
    assert float(replaced.abs().max()) < 1
    assert float(NoisyLabel(std=0.1, kind="positive").noisy(label).min()) >= 5.0


def test_noisy_label_leaves_the_batch_alone():
    before = FORGET["target"].clone()
    weight_after([FORGET], [NoisyLabel(std=1.0)])
    assert torch.equal(FORGET["target"], before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"std": 0.0}, "'std': expected above 0, found 0.0"),
        ({"std": 1.0, "kind": "gaussian"}, "'kind': expected one of zero_mean, positive, replace, found 'gaussian'"),
        ({"std": 1.0, "scale": "mean"}, "'scale': expected one of absolute, max, found 'mean'"),
    ],
)
def test_noisy_label_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        NoisyLabel(**arguments)
