"""Whether what was forgotten comes back: resurfacing, relearning, other acquisitions, coarser weights, distances."""

import copy
import json

import numpy as np
import pytest
import torch

from scripts.audit.audit import measures_of
from scripts.audit.continued import ContinuedTraining, canonical, unmoved
from scripts.audit.images import Acquisitions, OutputDistance, acquisition_gaps, other_masks
from scripts.audit.measure import Statistics, is_measured
from scripts.audit.quality import quantised, quantised_network
from scripts.audit.relearning import Relearning, StrongerRelearning, relearning
from scripts.audit.resurfacing import Resurfacing, resurfacing
from scripts.data import EquispacedFractionMask, RandomMask, inspect_volume
from scripts.evaluation.reconstruct import spread
from scripts.evaluation.results import Results, VolumeResult
from scripts.networks import VarNet, ZeroFilled
from scripts.networks.unet import ConvBlock, TransposeConvBlock
from scripts.run.files import file_sha256
from tests.audit.helpers import curve, given
from tests.conftest import write_tiny_volume

STATISTICS = Statistics(samples=200)
MASK = EquispacedFractionMask(4, 0.12)


def test_resurfacing_is_the_rise_beside_the_oracle_where_it_is_highest():
    model, oracle = curve("unlearned", {0: 22.0, 60: 24.0, 500: 23.5}), curve("oracle", {0: 21.0, 60: 21.0, 500: 21.5})
    found = resurfacing(model, oracle, STATISTICS)
    entry = found["KTA"]["psnr"]
    assert (entry["before"], entry["after"], entry["oracle_after"]) == pytest.approx((22.0, 23.5, 21.5))
    assert (entry["rise"]["value"], entry["rise"]["step"]) == (pytest.approx(2.0), 60)
    assert entry["rise"]["interval"] == pytest.approx([2.0, 2.0])
    assert (entry["gap"]["value"], entry["gap"]["step"]) == (pytest.approx(3.0), 60)
    assert found["UA"]["ssim"]["rise"]["value"] == pytest.approx(0.02)
    assert "cannot_accept" not in entry["rise"]


def test_resurfacing_without_an_oracle_is_against_the_models_own_state():
    found = resurfacing(curve("unlearned", {0: 22.0, 60: 24.0}), None, STATISTICS, too_few="60 steps")
    assert found["against"] == "its own state"
    assert found["KTA"]["psnr"]["rise"]["value"] == pytest.approx(2.0)
    assert found["KTA"]["psnr"]["rise"]["cannot_accept"] == "60 steps"
    assert not is_measured(found["KTA"]["psnr"]["gap"])


def test_relearning_areas_are_those_between_straight_lines():
    model, oracle = curve("unlearned", {0: 22.0, 2: 24.0, 4: 26.0}), curve("oracle", {0: 21.0, 2: 21.5, 4: 22.0})
    found = relearning(model, oracle, ["P0", "P1", "P2"], STATISTICS)
    assert found["psnr"]["area"]["value"] == pytest.approx((1.0 + 4.0) / 2)
    assert found["psnr"]["rise"]["value"] == pytest.approx((0.0 + 3.0) / 2)
    assert found["ssim"]["area"]["value"] == pytest.approx(0.025)
    alone = relearning(model, None, ["P0", "P1", "P2"], STATISTICS)
    assert alone["psnr"]["rise"]["value"] == pytest.approx(2.0)
    assert not is_measured(alone["psnr"]["area"])
    assert alone["psnr"]["rise"]["cannot_accept"] == "4 steps, fewer than 20"
    long = curve("unlearned", {0: 22.0, 20: 22.1})
    assert "cannot_accept" not in relearning(long, None, ["P0", "P1", "P2"], STATISTICS)["psnr"]["rise"]


def test_a_training_that_moves_nothing_accepts_nothing():
    """Whatever keeps a model from being trained keeps it from showing that it forgot."""
    still, moving = curve("unlearned", {0: 22.0, 20: 22.01}), curve("oracle", {0: 21.0, 20: 22.0})
    said = "the training changed the PSNR of its scans by 0.010 dB, expected"
    for reference, least in ((None, "0.020"), (moving, "0.100")):
        found = relearning(still, reference, ["P0", "P1", "P2"], STATISTICS)
        assert found["psnr"]["rise"]["cannot_accept"] == f"{said} {least} dB or more"
        assert resurfacing(still, reference, STATISTICS, unmoved(still, reference))["KTA"]["psnr"]["rise"][
            "cannot_accept"
        ].startswith(said)
    assert unmoved(moving, still) is None


def scaled(network: torch.nn.Module, factor: float) -> torch.nn.Module:
    """The same function, with filters before instance norms multiplied by a factor."""
    with torch.no_grad():
        for block in network.modules():
            if isinstance(block, ConvBlock):
                block.layers[0].weight.mul_(factor)
                block.layers[4].weight.mul_(factor)
            elif isinstance(block, TransposeConvBlock):
                block.layers[0].weight.mul_(factor)
    return network


def test_filters_that_were_scaled_are_trained_like_any_others():
    """With filters before instance norms times 1,000 a network gives the same images, and Adam cannot move it."""
    torch.manual_seed(0)
    honest = VarNet(num_cascades=1, chans=4, pools=2, sens_chans=4, sens_pools=2)
    cheat = scaled(copy.deepcopy(honest), 1000.0)
    kspace = torch.randn(1, 2, 32, 30, 2)
    one, other = canonical(honest), canonical(cheat)
    torch.testing.assert_close(one(kspace), honest(kspace), rtol=1e-3, atol=1e-4)
    for first, second in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-7)
    filters = [m.weight for m in one.modules() if isinstance(m, torch.nn.Conv2d) and m.bias is None]
    norms = torch.cat([w.square().sum(dim=(1, 2, 3)).sqrt() for w in filters])
    torch.testing.assert_close(norms, torch.ones_like(norms))


class Bare(torch.nn.Module):
    """Two filters without a normalisation: ReLU is homogeneous, so one may be multiplied by what the other loses."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = (torch.nn.Conv2d(1, 1, 3, padding=1, bias=False) for _ in range(2))
        with torch.no_grad():
            self.first.weight.mul_(factor)
            self.second.weight.div_(factor)

    def forward(self, masked_kspace, mask=None):
        image = ZeroFilled()(masked_kspace)
        return image + self.second(torch.relu(self.first(image)))


def test_no_scale_of_a_layer_hides_a_network_from_the_stronger_relearner(volumes):
    """Times 1,000 and by 1,000: the same images, which Adam can no longer change; the second relearner does alike."""
    seen, found = {"KTA": spread(volumes, 3)}, {}
    for relative in (False, True):
        for factor in (1.0, 1000.0):
            training = ContinuedTraining(given(), volumes, 0.03, relative=relative)
            curve = training.curve("a", Bare(factor), [0, 12], seen)
            found[relative, factor] = curve[12].values("a", "KTA", "psnr") - curve[0].values("a", "KTA", "psnr")
    assert abs(found[False, 1000.0] - found[False, 1.0]).max() > 0.05
    np.testing.assert_allclose(found[True, 1000.0], found[True, 1.0], atol=0.01)
    assert abs(found[True, 1.0]).max() > 0.05


def test_acquisitions_name_the_one_where_most_is_known():
    found = {}
    for name, lead in {"2x": 0.5, "6x": 1.5}.items():
        rows = []
        for model, level in {"unlearned": 20 + lead, "oracle": 20.0, "oracle 2": 20.2}.items():
            rows += [VolumeResult(model, "KTA", f"v{i}", f"P{i}", "", 1, level, level / 100, 0.1) for i in range(3)]
        found[name] = Results(rows)
    table = acquisition_gaps(found, STATISTICS)
    highest = table["highest"]["KTA"]["psnr"]["above"]
    assert (highest["acquisition"], highest["value"]) == ("6x", pytest.approx(1.3))  # beside the better oracle
    assert table["2x"]["KTA"]["psnr"]["gap"]["value"] == pytest.approx(0.5)


def test_other_masks_are_two_accelerations_and_random_columns():
    masks = other_masks(EquispacedFractionMask(8, 0.04))
    assert [mask.acceleration for mask in masks.values()] == pytest.approx([16 / 3, 12, 8])
    assert isinstance(masks["8x random"], RandomMask)
    assert all(mask(320, seed=0).sum() == pytest.approx(320 / mask.acceleration, rel=0.4) for mask in masks.values())


def test_quantised_weights_lie_on_255_levels():
    weight = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
    coarse, scale = quantised(weight), weight.abs().max() / 127
    assert float((coarse - weight).abs().max()) <= float(scale) / 2 + 1e-7
    torch.testing.assert_close((coarse / scale).round() * scale, coarse)
    assert coarse.abs().max() == pytest.approx(float(weight.abs().max()))
    assert quantised(torch.zeros(3)).tolist() == [0, 0, 0]


def test_quantising_a_network_leaves_it_and_its_vectors():
    network = torch.nn.Linear(5, 3)
    before = [parameter.clone() for parameter in network.parameters()]
    coarse = quantised_network(network)
    torch.testing.assert_close(list(network.parameters()), before)
    assert not torch.equal(coarse.weight, network.weight)
    assert torch.equal(coarse.bias, network.bias)


class Gain(torch.nn.Module):
    """The zero-filled image times one weight; counts the slices that go through it or any copy of it."""

    seen = 0

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weight))

    def forward(self, masked_kspace, mask=None):
        Gain.seen += len(masked_kspace)
        return self.weight * ZeroFilled()(masked_kspace)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    root = tmp_path_factory.mktemp("volumes")
    for index in range(3):
        write_tiny_volume(root / f"{index}.h5", index, slices=3, patient_id=f"P{index}")
    return [inspect_volume(root / f"{index}.h5") for index in range(3)]


def training(volumes, **settings):
    return ContinuedTraining(given(), volumes, **{"learning_rate": 0.01, **settings})


def test_training_goes_on_with_a_copy_and_alike_for_every_model(volumes):
    torch.manual_seed(5)
    network = VarNet(num_cascades=1, chans=2, pools=1, sens_chans=2, sens_pools=1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    seen = {"KTA": spread(volumes, 4)}
    first = training(volumes).curve("a", network, [0, 3, 6], seen)
    torch.manual_seed(7)  # what came before does not matter
    again = training(volumes).curve("b", network, [6], seen)
    assert list(first) == [0, 3, 6]
    assert first[6].values("a", "KTA", "psnr").tolist() == again[6].values("b", "KTA", "psnr").tolist()
    assert first[6].values("a", "KTA", "psnr").tolist() != first[0].values("a", "KTA", "psnr").tolist()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    annealed = training(volumes, anneal=True).curve("a", network, [6], seen)
    assert annealed[6].values("a", "KTA", "psnr").tolist() != first[6].values("a", "KTA", "psnr").tolist()


def trained_for(tmp_path, steps) -> dict[str, str]:
    """Weights of an original whose record says how many steps it was trained; no record where steps is None."""
    path = tmp_path / "original.pt"
    path.write_bytes(b"weights")
    record = {"verb": "train", "weights_out": {"sha256": file_sha256(path)}, "cost": {"steps": steps}, "data": {}}
    if steps is not None:
        path.with_suffix(".json").write_text(json.dumps(record))
    return {"G": str(path)}


def experiments(volumes, limit, tmp_path):
    cohorts = {"BTA": volumes[:1], "KTA": volumes[1:2], "UA": volumes[2:]}
    facts = given(cohorts, limit=limit, weights=trained_for(tmp_path, 20), retain=volumes, forget=volumes)
    relearning = [kind(facts, max_steps=4) for kind in (Relearning, StrongerRelearning)]
    return [*relearning, Resurfacing(facts, share=0.5), Acquisitions(facts), OutputDistance(facts)]


@pytest.mark.parametrize("limit", [60, 200])
@pytest.mark.parametrize("oracles", [(), ("oracle",), ("oracle", "oracle 2")])
def test_no_measure_takes_more_slices_than_it_says_or_may(volumes, limit, oracles, tmp_path):
    models = {name: Gain(1.0 + i / 10) for i, name in enumerate(("G", "unlearned", *oracles))}
    results = Results([VolumeResult("G", "KTA", "v", "", "", 1, 30.0, 0.9, 0.1)])
    for experiment in experiments(volumes, limit, tmp_path):
        Gain.seen = 0
        experiment.measure(models, results, STATISTICS)
        assert Gain.seen <= experiment.slices(models) <= limit
        assert Gain.seen == experiment.slices(models)


def test_output_distance_beside_another_oracle(volumes):
    models = {"G": Gain(3.0), "unlearned": Gain(2.0), "oracle": Gain(1.0), "oracle 2": Gain(1.5)}
    distance = OutputDistance(given({"KTA": volumes}, limit=100))
    results = Results([VolumeResult("G", "KTA", "v", "", "", 1, 30.0, 0.9, 0.1)])
    found = distance.measure(models, results, STATISTICS)["KTA"]
    assert found["ratio"]["value"] == pytest.approx(2.0)
    assert found["ratio"]["interval"] == pytest.approx([2.0, 2.0])
    assert found["model"] == pytest.approx(2 * found["oracles"])
    del models["oracle 2"]
    assert not is_measured(distance.measure(models, results, STATISTICS)["KTA"]["ratio"])
    del models["oracle"]
    assert not is_measured(distance.measure(models, results, STATISTICS))


def test_a_short_training_rejects_but_does_not_accept(volumes, tmp_path):
    def too_few(steps, share=0.15, limit=4000):
        for record in tmp_path.glob("*.json"):
            record.unlink()
        facts = given({"KTA": volumes}, limit=limit, weights=trained_for(tmp_path, steps), retain=volumes)
        return Resurfacing(facts, share).too_few

    assert too_few(400) is None
    assert too_few(400, share=0.05) == "20 steps, less than 10% of the 400 of the training"
    assert "less than 10%" in too_few(40000)  # the limit shortens it
    assert "not known" in too_few(None)


@pytest.mark.parametrize(
    ("limit", "settings"),
    [(1000, {"max_steps": 5, "every": 2}), (20, {})],
)
def test_impossible_relearning_is_refused(volumes, limit, settings):
    with pytest.raises(ValueError, match="relearning: '"):
        Relearning(given({"KTA": volumes}, limit=limit, forget=volumes), **settings)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("relearning", {"max_steps": -2}, "Relearning: 'max_steps': expected a whole number from 0, found -2"),
        ("stronger_relearning", {"every": 0}, "StrongerRelearning: 'every': expected a whole number from 1, found 0"),
        ("resurfacing", {"share": 1.5}, "Resurfacing: 'share': expected a number from 0 to 1, found 1.5"),
        ("likelihood", {"rate": 1.0}, "Likelihood: 'rate': expected a number between 0 and 1, found 1.0"),
    ],
)
def test_a_measure_out_of_range_is_refused(volumes, name, settings, words):
    with pytest.raises(ValueError, match=words):
        measures_of(given({"KTA": volumes}), {name: settings})


def test_resurfacing_without_slices_for_a_step_is_refused(volumes, tmp_path):
    with pytest.raises(ValueError, match="resurfacing: 'slices_per_measure'"):
        Resurfacing(given({"KTA": volumes}, limit=6, weights=trained_for(tmp_path, 400), retain=volumes))
