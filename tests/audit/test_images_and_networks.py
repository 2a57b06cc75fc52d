"""Null-space error, distances between networks, and the probe."""

import math

import pytest
import torch
from monai.engines import SupervisedEvaluator

from scripts.audit.distances import linear_cka, weight_distance
from scripts.audit.hallucination import null_space_error, null_space_maps, null_space_part
from scripts.audit.probe import SliceProbe, bottleneck
from scripts.data import EquispacedFractionMask, SliceDataset, Undersample, prepare_batch
from scripts.evaluation.reconstruct import reconstruct
from scripts.kspace.fourier import fft2c
from scripts.networks import VarNet, ZeroFilled
from scripts.requests import Cohorts

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
    with pytest.raises(ValueError, match="at most 16 columns, found 18"):
        null_space_part(torch.zeros(1, 1, 4, 18), MASK)


def test_weight_distance():
    state = {"w": torch.tensor([3.0, 4.0]), "v": torch.zeros(2)}
    assert weight_distance(state, state) == 0
    assert weight_distance({"w": torch.zeros(2), "v": torch.zeros(2)}, state) == 1
    with pytest.raises(ValueError, match="differ in their keys"):
        weight_distance({"w": torch.zeros(2)}, state)


def test_linear_cka():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(400, 6, generator=generator) for _ in range(2))
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=generator)).Q
    assert linear_cka(x, 5 * x @ rotation + 3) == pytest.approx(1, abs=1e-5)
    assert linear_cka(x, y) < 0.1
    centred = [z - z.mean(0) for z in (x, x + y)]
    gram = [z @ z.T for z in centred]
    expected = (gram[0] * gram[1]).sum() / (gram[0].norm() * gram[1].norm())
    assert linear_cka(x, x + y) == pytest.approx(float(expected), rel=1e-4)


def test_probe_follows_an_evaluator(tiny_datalist):
    torch.manual_seed(0)
    volumes = Cohorts(tiny_datalist, {"request_id": "r", "reason": "", "forget": [{"anatomy": "knee"}]}).test
    network = VarNet(num_cascades=1, chans=4, pools=2, sens_chans=2, sens_pools=2).eval()
    transform = Undersample(EquispacedFractionMask(4, 0.12), seed=0)
    dataset = SliceDataset(volumes, transform)
    probe = SliceProbe(null_space=volumes[:2], features=volumes, grid=2)
    evaluator = SupervisedEvaluator(
        torch.device("cpu"),
        torch.utils.data.DataLoader(dataset, batch_size=3),
        network,
        prepare_batch=prepare_batch,
        val_handlers=[probe],
        decollate=False,
    )
    evaluator.run()
    evaluator.network = ZeroFilled()
    evaluator.run()
    first, second = probe.runs
    assert set(first["null_space"]) == {volume.name for volume in volumes[:2]}
    assert {features.shape for features in first["features"].values()} == {(2 * 4, 16)}
    assert second["features"] == {}
    items = [dataset[i] for i in (0, 1)]
    with torch.no_grad():
        images = [network(item["masked_kspace"][None], item["mask"][None]) for item in items]
    alone = [
        null_space_error(item["target"][None], image, item["mask"][None])
        for item, image in zip(items, images, strict=True)
    ]
    expected = sum(float(sums["null"]) for sums in alone)
    assert first["null_space"][volumes[0].name]["null"] == pytest.approx(expected, rel=1e-4)
    assert not bottleneck(network)._forward_hooks


def test_maps_are_drawn_alike_each_time(tiny_datalist, tmp_path):
    (volume,) = Cohorts(tiny_datalist).test[:1]
    transform = Undersample(EquispacedFractionMask(4, 0.12), seed=0)
    for name in ("a.png", "b.png"):
        scan = reconstruct({"zero-filled": ZeroFilled()}, "BTA", volume, [1], transform)
        null_space_maps([scan], tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
