"""Null-space error, and its maps."""

import math

import pytest
import torch
from monai.engines import SupervisedEvaluator

from scripts.audit.hallucination import Hallucination, null_space_error, null_space_maps, null_space_part
from scripts.audit.measure import Statistics
from scripts.data import EquispacedFractionMask, SliceDataset, Undersample, prepare_batch
from scripts.evaluation.reconstruct import reconstruct
from scripts.kspace.fourier import fft2c
from scripts.networks import VarNet, ZeroFilled
from scripts.requests import Cohorts
from tests.audit.helpers import given

MASK = torch.zeros(1, 1, 1, 16, 1, dtype=torch.bool)
MASK[..., [4, 7, 8, 9, 12], :] = True  # the centre is column 8; 4 and 12 are frequency ±4


def wave(frequency: int) -> torch.Tensor:
    """A cosine along the columns, (1, 1, 6, 16), its rows of differing height."""
    columns = torch.cos(2 * math.pi * frequency * torch.arange(16) / 16)
    return torch.arange(1.0, 7.0)[:, None] * columns.expand(1, 1, 6, 16)


@pytest.mark.parametrize(("frequency", "measured"), [(0, True), (1, True), (4, True), (2, False), (5, False)])
def test_null_space_of_waves(frequency, measured):
    part = null_space_part(wave(frequency), MASK)
    expected = torch.zeros_like(part) if measured else wave(frequency)
    torch.testing.assert_close(part, expected, atol=1e-5, rtol=0)


def test_null_space_part_is_what_fft2c_has_outside_the_mask():
    error = torch.randn(2, 1, 6, 16, generator=torch.Generator().manual_seed(0))
    masks = torch.cat([MASK, ~MASK])
    kspace = fft2c(error.to(torch.complex64))
    outside = kspace * ~masks[..., 0]
    sums = null_space_error(torch.zeros_like(error), error, masks)
    # of a real image, only what lies outside the mask in both halves of k-space comes back real
    both = 0.5 * (outside + torch.roll(outside.flip(-1, -2), (1, 1), (-2, -1)).conj())
    torch.testing.assert_close(sums["null"].float(), both.abs().square().flatten(1).sum(1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(sums["error"], error.double().square().flatten(1).sum(1))


def test_a_cropped_image_keeps_its_place_in_the_field_of_view():
    part = null_space_part(wave(3)[..., 4:12], MASK)
    assert part.shape == (1, 1, 6, 8)
    with pytest.raises(ValueError, match="cannot crop images of 4 x 16 pixels to 4 x 18"):
        null_space_part(torch.zeros(1, 1, 4, 18), MASK)


def test_sums_follow_an_evaluator(tiny_datalist):
    torch.manual_seed(0)
    volumes = Cohorts(tiny_datalist, {"request_id": "r", "reason": "", "forget": [{"anatomy": "knee"}]}).test
    network = VarNet(num_cascades=1, chans=4, pools=2, sens_chans=2, sens_pools=2).eval()
    dataset = SliceDataset(volumes, Undersample(EquispacedFractionMask(4, 0.12), seed=0))
    measure = Hallucination(given({"BTA": volumes[:2]}))
    evaluator = SupervisedEvaluator(
        torch.device("cpu"),
        torch.utils.data.DataLoader(dataset, batch_size=3),
        network,
        prepare_batch=prepare_batch,
        decollate=False,
    )
    measure.attach(evaluator)
    for model in (network, network, zero := ZeroFilled()):  # run again: not counted twice
        evaluator.network = model
        evaluator.run()
    items = [dataset[i] for i in (0, 1)]
    with torch.no_grad():
        images = [network(item["masked_kspace"][None], item["mask"][None]) for item in items]
    alone = [
        null_space_error(item["target"][None], image, item["mask"][None])
        for item, image in zip(items, images, strict=True)
    ]
    expected = sum(float(sums["null"]) for sums in alone)
    assert set(measure.sums[network]) == {volume.name for volume in volumes[:2]}
    assert measure.sums[network][volumes[0].name]["null"] == pytest.approx(expected, rel=1e-4)
    models = {"G": zero, "unlearned": network, "unlearned, int8": torch.nn.Identity()}
    found = measure.measure(models, None, Statistics(samples=100))
    assert set(found["models"]) == {"G", "unlearned"}


def test_maps_are_drawn_alike_each_time(tiny_datalist, tmp_path):
    (volume,) = Cohorts(tiny_datalist).test[:1]
    transform = Undersample(EquispacedFractionMask(4, 0.12), seed=0)
    for name in ("a.png", "b.png"):
        scan = reconstruct({"zero-filled": ZeroFilled()}, "BTA", volume, [1], transform)
        null_space_maps([scan], tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
