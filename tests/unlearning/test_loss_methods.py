"""Update rules of the methods at the level of the loss, on w x: J = (w x - y)², dJ/dw = 2 x (w x - y)."""

import copy
import math

import pytest
import torch
from ignite.engine import Events

from scripts.unlearning import (
    Anneal,
    Blindspot,
    BoundedAscent,
    CalibratedTeacher,
    GainTarget,
    GradientAscent,
    L1Penalty,
    LossTarget,
    ResidualGaussian,
    RetainDistillation,
    Rewind,
    Scrub,
)
from scripts.unlearning.residual_gaussian import residual_divergence
from tests.helpers import Scale, join, sample, trainer
from tests.unlearning.columns import Fixed

RETAIN = sample(value=1.0, target=3.0, forget=False)  # dJ/dw at w = 1: -4
FORGET = sample(value=2.0, target=3.0, forget=True)  # dJ/dw at w = 1: -4
LR = 0.1


def run(handlers, loader=(RETAIN,), epochs=1) -> float:
    network = Scale(1.0)
    trainer(network, list(loader), handlers, lr=LR, epochs=epochs).run()
    return float(network.weight.detach())


def test_neg_grad_plus():
    method = GradientAscent([FORGET], retain_weight=0.95, forget_weight=0.05)
    assert run([method]) == pytest.approx(1 + LR * (0.95 * 4 - 0.05 * 4))


def test_l1_sparse_fades_linearly():
    penalty = L1Penalty(gamma=2.0)
    first = 1 - LR * (-4 + 2.0)
    second = first - LR * (2 * (first - 3) + 1.0)
    assert run([penalty, Anneal(penalty, "gamma")], [RETAIN, RETAIN]) == pytest.approx(second)


def test_retain_distillation_pulls_towards_the_original():
    """Step 1: dD/dw = 0 at S = G. Step 2 from w = 1.4: dJ/dw = -3.2, dD/dw = 2 (1.4 - 1), twice."""
    distillation = RetainDistillation(weight=2.0)
    assert run([distillation], [RETAIN, RETAIN]) == pytest.approx(1.4 + LR * (3.2 - 2 * 0.8))
    assert float(distillation.original.network.weight) == 1.0


def test_retain_distillation_leaves_the_forget_part_alone():
    method = GradientAscent([FORGET], retain_weight=0.5, forget_weight=0.1)
    assert run([RetainDistillation(), method], [RETAIN, RETAIN]) == pytest.approx(
        1.16 + LR * (0.5 * 2 * (3 - 1.16) - 0.5 * 2 * (1.16 - 1) - 0.1 * 2 * 2 * (3 - 2 * 1.16))
    )


@pytest.mark.parametrize(
    ("shape", "values"), [("linear", [1, 0.775, 0.55, 0.325]), ("cosine", [1, 0.8682, 0.55, 0.2318])]
)
def test_anneal_forget_weight(shape, values):
    method = GradientAscent([FORGET], forget_weight=2.0)
    seen = []
    engine = trainer(Scale(1.0), [RETAIN] * 2, [method, Anneal(method, "forget_weight", shape, final=0.1)], epochs=2)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(method.forget_weight / 2))
    engine.run()
    assert seen == pytest.approx(values, abs=1e-4)


def test_blindspot_learns_the_teachers_image():
    """Target 0.5 x = 1 in place of y: dD/dw = 2·2·(2 - 1) = 4."""
    teacher = Fixed(Scale(0.5))
    forget = copy.deepcopy(FORGET)
    assert run([Blindspot(teacher, [FORGET], forget_weight=0.25)]) == pytest.approx(1 - LR * (-4 + 0.25 * 4))
    assert float(teacher.network.weight) == 0.5
    assert all(torch.equal(FORGET[key], forget[key]) for key in ("image", "target"))


def test_blindspot_in_a_mixed_batch_teaches_the_forget_sample_alone():
    assert run([Blindspot(Fixed(Scale(0.5)))], [join(RETAIN, FORGET)]) == pytest.approx(1 - LR * (-4 + 4) / 2)


def test_calibrated_teacher_measures_its_share_on_retain_data():
    """Errors on retain: G 2, T 2.5, so a = 0.8 and y* = 0.2·2 + 0.8·1 = 1.2 on the forget sample."""
    teacher = CalibratedTeacher(Fixed(Scale(0.5)), [RETAIN])
    assert run([teacher, Blindspot(teacher, [FORGET], retain_weight=0.0)]) == pytest.approx(1 - LR * 4 * (2 - 1.2))
    assert teacher.weight == pytest.approx(0.8)
    assert float(teacher.original.network.weight) == 1.0
    stated = CalibratedTeacher(Fixed(Scale(0.5)), weight=1.5)
    assert run([stated, Blindspot(stated, [FORGET], retain_weight=0.0)]) == pytest.approx(1 - LR * 4 * (2 - 0.5))


@pytest.mark.parametrize(("target", "sign"), [(5.0, 1), (12.0, -1)])
def test_gain_target_climbs_or_descends_towards_the_stated_gain(target, sign):
    """Errors 3 (zero-filled) and abs(2 w - 3) = 1: a gain of 9.54 dB, whose slope at w = 1 is 40 / ln 10."""
    method = GainTarget([FORGET], gain=target, transfer=1.0, forget_weight=0.05, retain_weight=0.0)
    method.zero_filled = Scale(0.0)
    assert run([method]) == pytest.approx(1 - LR * 0.05 * sign * 40 / math.log(10))


def test_gain_target_measures_the_originals_gain_on_held_out_data():
    """Errors 3 and 2 on the first, 1 and 0.5 on the second image, before any step."""
    held_out = [RETAIN, sample(value=0.5, target=1.0, forget=False)]
    method = GainTarget([FORGET], held_out, transfer=0.2)
    method.zero_filled = Scale(0.0)
    run([method])
    assert method.gain == pytest.approx((20 * math.log10(1.5) + 20 * math.log10(2)) / 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "expected either 'loader' or 'gain', found both or neither"),
        ({"gain": 1.0, "loader": [RETAIN]}, "expected either 'loader' or 'gain', found both or neither"),
        ({"gain": 1.0, "transfer": 0.0}, "'transfer': expected above 0, found 0.0"),
    ],
)
def test_gain_target_refuses_settings_that_cannot_work(settings, message):
    with pytest.raises(ValueError, match=message):
        GainTarget([FORGET], **settings)


def test_gain_target_needs_held_out_data():
    with pytest.raises(ValueError, match="'loader': expected held-out retain data, found none"):
        run([GainTarget([FORGET], [])])


@pytest.mark.parametrize(("teacher", "sign"), [(0.5, 1), (1.2, -1)])
def test_loss_target_climbs_or_descends_towards_the_teachers_error(teacher, sign):
    """τ is 4 or 0.36, J(f) = 1 with gradient -4."""
    handlers = [LossTarget(Fixed(Scale(teacher)), [FORGET], retain_weight=0.0)]
    assert run(handlers) == pytest.approx(1 - LR * sign * 4)


@pytest.mark.parametrize("confidence", [1.0, 0.5])
def test_residual_gaussian_by_hand(confidence):
    """T(x) = 1, S(x) = 2 w = 2, y = 3: σ_T = 2 c, σ_S = c·(3 − 2 w). KL = log(σ_S / σ_T) + (σ_T² + (S − T)²) / 2 σ_S²
    − 1/2 has at w = 1 the slope −2 + (2 + 2·(4 c² + 1)) / c²."""
    method = ResidualGaussian(Fixed(Scale(0.5)), confidence, [FORGET], forget_weight=0.1, retain_weight=0.0)
    slope = -2 + (2 + 2 * (4 * confidence**2 + 1)) / confidence**2
    assert run([method]) == pytest.approx(1 - LR * 0.1 * slope)


def test_residual_gaussian_rests_at_the_teacher_and_knows_no_unit():
    """S = T gives no gradient; k-space scaled images give the same divergence as those of order one."""
    assert run([ResidualGaussian(Fixed(Scale(1.0)), 1.0, [FORGET], retain_weight=0.0)]) == pytest.approx(1.0)
    images = [torch.full((1, 1, 2, 2), value) for value in (2.0, 1.0, 3.0)]
    expected = math.log(1 / 2) + (4 + 1) / 2 - 0.5
    for unit in (1.0, 1e-6):
        assert float(residual_divergence(*(unit * image for image in images))) == pytest.approx(expected, rel=1e-5)


def test_bounded_ascent_starts_as_ascent_and_dies_out():
    method = BoundedAscent(beta=0.5, tau=2.0, forget_loader=[FORGET], forget_weight=2.0)
    assert run([method]) == pytest.approx(1 - LR * (-4 + 4))
    assert float(method.original.network.weight) == 1.0
    engine = trainer(Scale(1.0), [FORGET], [method])
    method.start(engine)
    for weight in (1.0, -20.0):
        label = method.take(engine, FORGET)
        prediction = torch.full((1, 1, 2, 2), 2 * weight, requires_grad=True)
        method.term(engine, prediction, label).sum().backward()
        rise = (2 * weight - 3) ** 2 - 1
        expected = -torch.sigmoid(torch.tensor(-0.5 * rise / 2)) * 2 / 2 * 2 * (2 * weight - 3) / 4
        assert torch.allclose(prediction.grad, expected.expand(1, 1, 2, 2), atol=1e-7)
    assert float(prediction.grad.abs().max()) < 1e-6


def test_scrub_alternates_and_max_steps_end():
    """Min step at S = G: γ·J(r) alone; max step: -4 (w - 1)²; then γ·J(r) + α (w - 1)²."""
    scrub = Scrub([FORGET], gamma=0.9, alpha=0.5, max_epochs=1)
    first = 1 + LR * 0.9 * 4
    second = first + LR * 8 * (first - 1)
    assert run([scrub], [RETAIN, RETAIN]) == pytest.approx(second)
    third = second - LR * (0.9 * 2 * (second - 3) + 0.5 * 2 * (second - 1))
    fourth = third - LR * (0.9 * 2 * (third - 3) + 0.5 * 2 * (third - 1))
    assert run([scrub], [RETAIN, RETAIN], epochs=2) == pytest.approx(fourth)
    assert float(scrub.original.network.weight) == 1.0


def test_rewind_returns_to_the_epoch_that_matches():
    ascent = GradientAscent([FORGET], retain_weight=0.0, forget_weight=0.1)
    after_two = run([ascent], epochs=2)
    reference = (2 * after_two - 3) ** 2
    rewind = Rewind([FORGET], reference * 1.01)
    assert run([ascent, rewind], epochs=4) == pytest.approx(after_two)
    assert len(rewind.errors) == 4
    assert rewind.errors[1] == pytest.approx(reference)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BoundedAscent(beta=0, tau=1.0), "bounded ascent: 'beta': expected above 0, found 0"),
        (lambda: ResidualGaussian(Fixed(Scale(1.0)), 0.0), "'scale': expected above 0, found 0.0"),
        (lambda: Scrub([], gamma=-1.0), "scrub: 'gamma': expected above 0, found -1.0"),
        (lambda: Anneal(L1Penalty(1.0), "delta"), "'name': expected a number of L1Penalty, found 'delta'"),
        (lambda: Anneal(L1Penalty(1.0), "gamma", "step"), "'shape': expected one of linear, cosine, found 'step'"),
        (lambda: CalibratedTeacher(Fixed(Scale(1.0))), "expected either 'loader' or 'weight'"),
    ],
)
def test_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
