import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from scripts.kspace.ssim import ssim_map
from scripts.training.reconstruction_loss import ReconstructionLoss


def batch(scale=1.0, shape=(24, 20), seed=0):
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(3, 1, *shape, generator=generator)
    target = torch.nn.functional.avg_pool2d(target, 3, stride=1, padding=1) * scale
    prediction = target + 0.1 * scale * torch.randn(3, 1, *shape, generator=generator)
    return target, prediction, scale * torch.tensor([1.0, 2.0, 0.7])


@pytest.mark.parametrize("scale", [1.0, 3e-4, 500.0])
def test_ssim_agrees_with_the_interior_of_scikit_images_map(scale):
    target, prediction, peaks = batch(scale)
    ours = ssim_map(target, prediction, peaks)
    for i in range(3):
        x, y = (v[i, 0].double().numpy() for v in (target, prediction))
        _, full = structural_similarity(x, y, data_range=float(peaks[i]), full=True)
        np.testing.assert_allclose(ours[i, 0].numpy(), full[3:-3, 3:-3], atol=2e-5)
        assert ours[i].mean().item() == pytest.approx(full[3:-3, 3:-3].mean(), abs=1e-6)


def test_the_loss_is_its_definition_per_sample():
    target, prediction, peaks = batch()
    wide = torch.nn.functional.pad(prediction, (3, 3, 2, 2), value=9.0)  # centre-cropped away
    loss = ReconstructionLoss(ssim_weight=0.5, l1_weight=0.1)(wide, {"target": target, "max_value": peaks})
    similarity = torch.stack([m.mean() for m in ssim_map(target, prediction, peaks)])
    distance = torch.stack([(p - t).abs().mean() for p, t in zip(prediction, target, strict=True)])
    torch.testing.assert_close(loss, 0.5 * (1 - similarity) + 0.1 * distance)
    assert loss.shape == (3,)


def test_the_default_weights_are_the_released_ones():
    loss = ReconstructionLoss()
    assert (loss.ssim_weight, loss.l1_weight) == (1.0, 1e-5)


def test_the_ssim_term_knows_no_scale_and_the_l1_term_does():
    target, prediction, peaks = batch()
    small = {"target": 1e-4 * target, "max_value": 1e-4 * peaks}
    large = {"target": target, "max_value": peaks}
    structure, distance = ReconstructionLoss(l1_weight=0), ReconstructionLoss(ssim_weight=0, l1_weight=1)
    torch.testing.assert_close(structure(1e-4 * prediction, small), structure(prediction, large), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(distance(1e-4 * prediction, small), 1e-4 * distance(prediction, large))


@pytest.mark.parametrize("scale", [1.0, 3e-4])
@pytest.mark.parametrize("kind", ["noisy", "exact", "zero", "constant target"])
def test_gradients_are_finite(scale, kind):
    target, prediction, peaks = batch(scale)
    if kind == "constant target":
        target = torch.full_like(target, scale)
    prediction = {"exact": target, "zero": torch.zeros_like(target)}.get(kind, prediction).clone().requires_grad_()
    ReconstructionLoss()(prediction, {"target": target, "max_value": peaks}).mean().backward()
    assert prediction.grad.isfinite().all()
    if kind == "noisy":
        assert prediction.grad.abs().max() > 0


def test_the_gradient_is_that_of_finite_differences():
    target, prediction, peaks = (v.double() for v in batch(shape=(8, 8)))
    prediction.requires_grad_()
    assert torch.autograd.gradcheck(lambda p: ssim_map(target, p, peaks).mean(), (prediction,))


def test_autocast_and_half_predictions_do_not_lower_the_precision():
    target, prediction, peaks = batch()
    label = {"target": target, "max_value": peaks}
    expected = ReconstructionLoss()(prediction, label)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(ReconstructionLoss()(prediction, label), expected)
        half = ReconstructionLoss()(prediction.bfloat16(), label)
    assert half.dtype == torch.float32
    assert torch.equal(half, ReconstructionLoss()(prediction.bfloat16().float(), label))


def test_gradient_descent_on_the_loss_finds_the_target():
    target, prediction, peaks = batch(shape=(12, 12))
    prediction.requires_grad_()
    optimizer = torch.optim.Adam([prediction], lr=0.02)
    values = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = ReconstructionLoss()(prediction, {"target": target, "max_value": peaks}).mean()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.1 * values[0]


def test_impossible_input_fails():
    target, prediction, peaks = batch()
    loss = ReconstructionLoss()
    with pytest.raises(ValueError, match="6x20, smaller than the window of 7"):
        loss(prediction, {"target": target[..., :6, :], "max_value": peaks})
    peaks_of_two = torch.cat([peaks[:1], 0 * peaks[1:2]])
    assert loss(prediction[:2], {"target": target[:2], "max_value": peaks_of_two}).isfinite().tolist() == [True, False]
    with pytest.raises(ValueError, match=r"target is .* prediction is"):
        loss(prediction[:2], {"target": target, "max_value": peaks})
    with pytest.raises(ValueError, match="cannot crop"):
        loss(prediction[..., :9], {"target": target, "max_value": peaks})
