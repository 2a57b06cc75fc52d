import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from scripts.evaluation.metrics import METRICS, combine, slice_sums
from scripts.kspace.ssim import ssim_map


def measured(target, prediction, max_value=None):
    """The figures of merit of one volume; its own maximum is the peak unless another is given."""
    return combine(slice_sums(target, prediction, target.max() if max_value is None else max_value))


def volume(seed, slices=4, shape=(40, 32), scale=1.0, noise=0.1):
    """A smooth target with its own brightness per slice, and a noisy prediction, both float32."""
    rng = np.random.default_rng(seed)
    rows, columns = np.meshgrid(*(np.linspace(0, 3, n) for n in shape), indexing="ij")
    frequencies = rng.uniform(0.5, 2, (slices, 1, 1))
    target = np.abs(np.sin(frequencies * rows) * np.cos(columns)) * rng.uniform(0.2, 1, (slices, 1, 1))
    prediction = target + noise * rng.standard_normal(target.shape)
    return (scale * target).astype(np.float32), (scale * prediction).astype(np.float32)


@pytest.mark.parametrize("scale", [1.0, 3e-4, 700.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_agrees_with_scikit_image(seed, scale):
    target, prediction = volume(seed, scale=scale)
    x, y = target.astype(np.float64), prediction.astype(np.float64)
    peak = x.max()
    slices = [structural_similarity(a, b, data_range=peak, win_size=7) for a, b in zip(x, y, strict=True)]
    found = measured(target, prediction)
    assert found["ssim"] == pytest.approx(np.mean(slices), abs=1e-9)
    assert found["psnr"] == pytest.approx(peak_signal_noise_ratio(x, y, data_range=peak), abs=1e-9)
    assert found["nmse"] == pytest.approx(np.linalg.norm(x - y) ** 2 / np.linalg.norm(x) ** 2, rel=1e-9)


def test_a_given_maximum_replaces_that_of_the_target():
    target, prediction = volume(2)
    x, y = target.astype(np.float64), prediction.astype(np.float64)
    expected = np.mean([structural_similarity(a, b, data_range=2.0) for a, b in zip(x, y, strict=True)])
    found = measured(target, prediction, max_value=2.0)
    assert found["ssim"] == pytest.approx(expected, abs=1e-9)
    assert found["psnr"] == pytest.approx(peak_signal_noise_ratio(x, y, data_range=2.0), abs=1e-9)


def test_ssim_of_one_window_is_the_textbook_formula():
    x, y = (v[0, :7, :7].astype(np.float64) for v in volume(3))
    c1, c2 = 0.01**2, 0.03**2
    covariance = np.cov(x.ravel(), y.ravel(), ddof=1)
    expected = (2 * x.mean() * y.mean() + c1) / (x.mean() ** 2 + y.mean() ** 2 + c1)
    expected *= (2 * covariance[0, 1] + c2) / (covariance[0, 0] + covariance[1, 1] + c2)
    assert measured(x[None], y[None], 1.0)["ssim"] == pytest.approx(expected, abs=1e-12)


def test_the_reported_ssim_is_that_of_the_training_loss():
    target, prediction = (torch.as_tensor(v, dtype=torch.float64) for v in volume(4))
    maps = ssim_map(target[:, None], prediction[:, None], target.max().expand(len(target)))
    assert measured(target, prediction)["ssim"] == pytest.approx(float(maps.mean()), abs=1e-12)


def test_low_precision_images_are_measured_too():
    target, prediction = (torch.as_tensor(v).bfloat16() for v in volume(4))
    assert measured(target, prediction) == measured(target.float(), prediction.float())


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_slices_changes_no_bit(seed):
    target, prediction = volume(seed, slices=7)
    sums = slice_sums(target, prediction, float(target.max()))
    shuffled = [sums[i] for i in np.random.default_rng(seed).permutation(7)]
    assert combine(shuffled) == combine(sums)


@pytest.mark.parametrize("factor", [2.0**-12, 1e-4, 1e3])
def test_scaling_both_images_changes_nothing(factor):
    target, prediction = (v.astype(np.float64) for v in volume(5))
    scaled = measured(factor * target, factor * prediction)
    assert scaled == pytest.approx(measured(target, prediction), rel=1e-9)


def test_volume_psnr_is_not_the_mean_of_slice_psnrs():
    target, prediction = volume(6)
    peak = float(target.max())
    per_slice = [measured(t[None], p[None])["psnr"] for t, p in zip(target, prediction, strict=True)]
    assert abs(np.mean(per_slice) - measured(target, prediction, peak)["psnr"]) > 0.1


def test_an_exact_prediction():
    target, _ = volume(7)
    assert measured(target, target) == {"psnr": math.inf, "ssim": pytest.approx(1, abs=1e-12), "nmse": 0.0}


def test_a_worse_prediction_scores_worse():
    scores = [combine(slice_sums(*volume(8, noise=noise), 1.0)) for noise in (0.01, 0.05, 0.2)]
    for name, better in zip(METRICS, (1, 1, -1), strict=True):
        values = [better * score[name] for score in scores]
        assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["target", "prediction"])
def test_nan_and_inf_fail(value, where):
    target, prediction = volume(9)
    (target if where == "target" else prediction)[1, 2, 3] = value
    with pytest.raises(ValueError, match=rf"the {where} has NaN or Inf in 1 of"):
        slice_sums(target, prediction, 1.0)


def test_impossible_input_fails():
    image = np.ones((2, 8, 8))
    with pytest.raises(ValueError, match=r"must both be \(slices, h, w\).*\(2, 8, 8\).*\(1, 8, 8\)"):
        slice_sums(image, image[:1], 1.0)
    with pytest.raises(ValueError, match="must both be"):
        slice_sums(image[0], image[0], 1.0)
    with pytest.raises(ValueError, match="win_size exceeds image extent"):
        slice_sums(image[..., :6], image[..., :6], 1.0)
    with pytest.raises(ValueError, match="max_value must be positive"):
        slice_sums(image, image, 0.0)
    with pytest.raises(ValueError, match="zero throughout"):
        measured(0 * image, image, 1.0)
    with pytest.raises(ValueError, match="at least one slice"):
        combine([])
    with pytest.raises(ValueError, match=r"share one max_value, got \[1.0, 2.0\]"):
        combine(slice_sums(image, image, torch.tensor([1.0, 2.0])))
