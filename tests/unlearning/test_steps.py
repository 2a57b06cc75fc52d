"""Projected gradients and scaled steps, and what they must leave alone."""

import pytest
import torch
from ignite.engine import Events

from scripts.training import ClipGradient
from scripts.unlearning import (
    ForgetTerm,
    GradientAscent,
    GradientProjection,
    MaskedReinit,
    SaliencyMask,
)
from scripts.unlearning.fit import initialise
from scripts.unlearning.steps import StepScale
from tests.helpers import Scale, sample, squared_error, trainer
from tests.unlearning.columns import Columns, columns, weights_of

RETAIN = sample(value=1.0, target=3.0, forget=False)
FORGET = sample(value=2.0, target=3.0, forget=True)
OPTIMIZERS = {
    "sgd": lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9, weight_decay=0.5),
    "adamw": lambda weights: torch.optim.AdamW(weights, lr=0.1, weight_decay=0.5),
}


class Descent(ForgetTerm):
    def term(self, engine, prediction, label):
        return engine.loss_function(prediction, label)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (GradientAscent, [1 + 0.1, 1 - 0.2]),  # g_r = (-1, 0), g_f = (1, 2) conflict: g_f becomes (0, 2)
        (Descent, [1 + 0.2, 1 + 0.2]),  # g_f = (-1, -2) does not conflict
    ],
)
def test_gradient_projection(method, expected):
    network, forget = Columns(1.0, 1.0), columns((2.0, 3.0), forget=True)
    handlers = [method(forget_loader=[forget]), GradientProjection()]
    trainer(network, [columns((2.0, 1.0))], handlers, lr=0.1).run()
    assert weights_of(network) == pytest.approx(expected)


def test_gradient_projection_comes_before_clipping_and_needs_a_method():
    network, forget = Columns(1.0, 1.0), columns((2.0, 3.0), forget=True)
    handlers = [GradientAscent(forget_loader=[forget]), GradientProjection(), ClipGradient(0.5)]
    trainer(network, [columns((2.0, 1.0))], handlers, lr=1.0).run()
    step = torch.tensor(weights_of(network)) - 1
    assert float(step.norm()) == pytest.approx(0.5, rel=1e-4)
    assert float(step[1] / step[0]) == pytest.approx(-2.0, rel=1e-4)
    with pytest.raises(ValueError, match="expected to be listed after a method with a 'forget_loader'"):
        trainer(network, [columns((2.0, 1.0))], [GradientProjection()]).run()


@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_gradient_projection_under_a_gradient_scaler():
    network, forget = Columns(1.0, 1.0), columns((2.0, 3.0), forget=True)
    handlers = [GradientAscent(forget_loader=[forget]), GradientProjection(), ClipGradient(100.0)]
    engine = trainer(network, [columns((2.0, 1.0))], handlers, lr=0.1)

    @engine.on(Events.STARTED)
    def scale():
        engine.amp, engine.scaler = True, torch.amp.GradScaler("cpu", init_scale=1024.0)

    engine.run()
    assert weights_of(network) == pytest.approx([1.1, 0.8])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_saliency_mask_moves_the_top_half_and_holds_the_rest(optimizer):
    """abs(dJ(f)/dw) = (1, 2, 1): the second weight may move; momentum and weight decay pull at all of them."""
    network = Columns(1.0, 1.0)
    network.frozen = torch.nn.Parameter(torch.tensor(5.0), requires_grad=False)
    forget = columns((2.0, 3.0), forget=True)
    engine = trainer(network, [columns((4.0, 4.0))] * 5, [SaliencyMask([forget], share=0.5)])
    engine.optimizer = OPTIMIZERS[optimizer](network.parameters())
    engine.run()
    held, moved = network.weight.tolist()
    assert held == 1.0
    assert abs(moved - 1) > 0.1
    assert float(network.frozen) == 5.0


def test_saliency_is_of_the_mean_gradient_over_the_whole_forget_set():
    """Per sample the second weight's gradient is larger, but over both it cancels."""
    network = Columns(1.0, 1.0)
    forget = [columns((2.0, 11.0), True), columns((2.0, -9.0), True)]
    trainer(network, [columns((4.0, 4.0))], [SaliencyMask(forget, share=0.5)]).run()
    assert weights_of(network) == pytest.approx([1 + 0.1 * 3, 1.0])


def test_step_scale_shortens_adams_steps():
    class Tenth(StepScale):
        def choose(self, engine):
            return {"weight": torch.tensor(0.1)}

    network = Scale(1.0)
    engine = trainer(network, [RETAIN], [Tenth()])
    engine.optimizer = torch.optim.Adam(network.parameters(), lr=0.5)
    engine.run()
    assert float(network.weight.detach()) == pytest.approx(1 + 0.1 * 0.5)


def test_masked_reinit_redraws_where_both_agree_and_slows_the_others():
    """With w₁ = 1, w₂ = 2, J's gradients by w₁ are twice those by w₂: the half with the smaller difference is w₂."""
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.Conv2d(1, 1, 1))
    with torch.no_grad():
        for weight, value in zip(network.parameters(), (1.0, 0.0, 2.0, 0.0), strict=True):
            weight.fill_(value)
    start = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.Conv2d(1, 1, 1))
    initialise(start, seed=3)
    with torch.no_grad():
        for weight, value in zip(start.parameters(), (1.0, 0.0, None, 0.0), strict=True):
            weight.fill_(weight.item() if value is None else value)
    method = MaskedReinit([RETAIN], [FORGET], share=0.5, others=0.1, seed=3)
    trainer(network, [RETAIN], [method], lr=0.1).run()
    loss = squared_error(start(RETAIN["image"]), RETAIN).mean()
    gradients = torch.autograd.grad(loss, list(start.parameters()))
    steps = (0.01, 0.01, 0.1, 0.01)
    expected = [(w - s * g).item() for w, g, s in zip(start.parameters(), gradients, steps, strict=True)]
    assert weights_of(network) == pytest.approx(expected, rel=1e-5)
    assert not any(weight.grad is None for weight in network.parameters())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SaliencyMask([], share=1.1), r"SaliencyMask: 'share': expected a number from 0 to 1, found 1.1"),
        (lambda: MaskedReinit([], [], others=-1), r"'others': expected a number from 0 to 1, found -1"),
    ],
)
def test_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
