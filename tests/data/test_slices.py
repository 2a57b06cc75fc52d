"""Slices: items, masks fixed for evaluation and fresh for training, batches."""

import torch
from torch.utils.data import DataLoader

from scripts.data.slices import SliceDataset, Undersample, prepare_batch
from scripts.data.volumes import inspect_volume, read_slice
from scripts.kspace.masks import EquispacedFractionMask
from scripts.requests.cohorts import Cohorts
from tests.conftest import CROP, MATRIX, write_tiny_volume

MASK = EquispacedFractionMask(4, 0.12)


def test_item_is_the_slice_times_the_mask(tiny_datalist):
    volumes = Cohorts(tiny_datalist).test
    dataset = SliceDataset(volumes, Undersample(MASK, seed=0))
    assert len(dataset) == sum(v.num_slices for v in volumes)
    item = dataset[3]
    kspace, target = read_slice(volumes[1], 1)
    assert item["volume"] == volumes[1].name
    assert int(item["slice"]) == 1
    assert item["masked_kspace"].shape == (2, *MATRIX, 2)
    assert item["masked_kspace"].dtype == torch.float32
    assert item["mask"].shape == (1, 1, MATRIX[1], 1)
    expected = torch.from_numpy(kspace) * item["mask"][0, 0, :, 0]
    assert torch.equal(torch.view_as_complex(item["masked_kspace"]), expected)
    assert torch.equal(item["target"][0], torch.from_numpy(target))
    assert float(item["max_value"]) == torch.tensor(volumes[1].max_value).item()


def test_evaluation_masks_belong_to_the_file(tiny_datalist):
    volumes = Cohorts(tiny_datalist).sections["training"]
    dataset = SliceDataset(volumes, Undersample(MASK, seed=0))
    masks = [dataset[i]["mask"] for i in range(len(dataset))]
    assert all(torch.equal(masks[i], masks[i + 1]) for i in range(0, len(masks), 2))  # two slices a volume
    assert len({tuple(m.flatten().tolist()) for m in masks}) > 1
    reversed_dataset = SliceDataset(volumes[::-1], Undersample(MASK, seed=0))
    assert torch.equal(reversed_dataset[0]["mask"], masks[-1])


def test_training_masks_are_fresh_and_follow_the_generator(tiny_datalist):
    dataset = SliceDataset(Cohorts(tiny_datalist).test, Undersample(MASK))
    torch.manual_seed(0)
    first = [dataset[0]["mask"] for _ in range(20)]
    torch.manual_seed(0)
    second = [dataset[0]["mask"] for _ in range(20)]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert any(not torch.equal(first[0], mask) for mask in first)


def test_batch(tiny_datalist):
    cohorts = Cohorts(tiny_datalist, {"request_id": "r", "reason": "", "forget": [{"anatomy": "knee"}]})
    loader = DataLoader(SliceDataset(cohorts.test, Undersample(MASK, seed=0)), batch_size=8)
    inputs, label, args, kwargs = prepare_batch(next(iter(loader)), "cpu")
    assert inputs.shape == (8, 2, *MATRIX, 2)
    assert args[0].shape == (8, 1, 1, MATRIX[1], 1)
    assert kwargs == {}
    assert label["target"].shape == (8, 1, *CROP)
    assert label["forget"].tolist() == [False] * 4 + [True] * 4
    assert label["volume"][0] == cohorts.test[0].name
    assert set(label) == {"target", "max_value", "slice", "forget", "volume", "patient_id", "anatomy"}


def test_coil_counts_may_differ_between_volumes(tmp_path):
    for coils in (1, 3):
        write_tiny_volume(tmp_path / f"{coils}.h5", seed=coils, coils=coils)
    volumes = [inspect_volume(tmp_path / f"{coils}.h5") for coils in (1, 3)]
    shapes = [b["masked_kspace"].shape for b in DataLoader(SliceDataset(volumes, Undersample(MASK)))]
    assert [shape[1] for shape in shapes] == [1, 1, 3, 3]
