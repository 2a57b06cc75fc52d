import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.exceptions import NotComputableError
from monai.engines import SupervisedEvaluator
from skimage.metrics import normalized_root_mse, peak_signal_noise_ratio, structural_similarity
from torch.utils.data import DataLoader

from scripts.evaluation import volume_metrics
from scripts.evaluation.volume_metrics import MeanOverVolumes, VolumeMetrics

SIZES = {"brain_1": (5, (16, 12)), "brain_2": (3, (16, 12)), "knee_1": (4, (16, 12))}


def volumes(seed=0):
    """{name: (target (S, h, w), prediction (S, 1, h + 4, w + 6))}."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, (count, shape) in SIZES.items():
        target = torch.rand(count, *shape, generator=generator)
        noisy = target + 0.1 * torch.randn(target.shape, generator=generator)
        made[name] = (target, torch.nn.functional.pad(noisy, (3, 3, 2, 2), value=5.0)[:, None])
    return made


def samples(made):
    """One dictionary a slice, as a dataset gives them; the k-space is replaced by the prediction itself."""
    return [
        {
            "prediction": predictions[index],
            "target": target[index][None],
            "max_value": target.max(),
            "volume": name,
            "slice": index,
            "patient_id": f"patient of {name}",
            "anatomy": name.split("_")[0],
        }
        for name, (target, predictions) in made.items()
        for index in range(len(target))
    ]


def loader(items, batch_size=2, seed=None):
    if seed is not None:
        items = [items[i] for i in np.random.default_rng(seed).permutation(len(items))]
    return DataLoader(items, batch_size=batch_size)


def feed(metric, batches):
    for batch in batches:
        metric.update((batch["prediction"], batch))
    return metric


def crop(prediction):
    return prediction[:, 0, 2:-2, 3:-3]


def by_scikit_image(target, prediction):
    """PSNR, SSIM and NMSE of a volume, with its maximum as peak."""
    x, y = (image.double().numpy() for image in (target, crop(prediction)))
    similarities = [structural_similarity(a, b, data_range=x.max()) for a, b in zip(x, y, strict=True)]
    return peak_signal_noise_ratio(x, y, data_range=x.max()), np.mean(similarities), normalized_root_mse(x, y) ** 2


@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize("seed", [None, 0, 1])
def test_slices_in_any_order_and_batch_equal_the_whole_volume(batch_size, seed):
    made = volumes()
    result = feed(VolumeMetrics(), loader(samples(made), batch_size, seed)).compute()
    assert list(result) == sorted(made)
    for name, (target, prediction) in made.items():
        found = result[name].psnr, result[name].ssim, result[name].nmse
        assert found == pytest.approx(by_scikit_image(target, prediction), rel=1e-9)
        assert result[name].slices == len(target)
        assert result[name].patient_id == f"patient of {name}"
        assert result[name].anatomy == name.split("_")[0]


def test_the_order_changes_no_bit():
    items = samples(volumes())
    results = [feed(VolumeMetrics(), loader(items, 2, seed)).compute() for seed in (None, 3, 4)]
    assert results[0] == results[1] == results[2]


def evaluator(items, **arguments):
    volume_metric = VolumeMetrics()
    return SupervisedEvaluator(
        torch.device("cpu"),
        val_data_loader=loader(items, seed=0),
        network=torch.nn.Identity(),
        prepare_batch=lambda batch, *_args, **_kwargs: (batch["prediction"], batch),
        key_val_metric={"psnr": MeanOverVolumes(volume_metric, "psnr")},
        additional_metrics={"ssim": MeanOverVolumes(volume_metric, "ssim"), "volumes": volume_metric},
        decollate=False,
        **arguments,
    )


def test_in_monais_evaluator():
    made = volumes()
    engine = evaluator(samples(made))
    for _ in range(2):  # a second run starts anew
        engine.run()
        metrics = engine.state.metrics
        assert set(metrics) == {"psnr", "ssim", "volumes"}  # and no entry for each volume
        expected = np.mean([by_scikit_image(*scan)[0] for scan in made.values()])
        assert metrics["psnr"] == pytest.approx(expected, abs=1e-10)
        assert metrics["ssim"] == pytest.approx(np.mean([v.ssim for v in metrics["volumes"].values()]))
        assert engine.state.best_metric == metrics["psnr"]


def test_a_key_metric_needs_no_second_attachment():
    engine = SupervisedEvaluator(
        torch.device("cpu"),
        val_data_loader=loader(samples(volumes())),
        network=torch.nn.Identity(),
        prepare_batch=lambda batch, *_args, **_kwargs: (batch["prediction"], batch),
        key_val_metric={"nmse": MeanOverVolumes(VolumeMetrics(), "nmse")},
        decollate=False,
    )
    engine.run()
    assert list(engine.state.metrics) == ["nmse"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_diverged_prediction_stops_the_run_by_name(value):
    items = samples(volumes())
    items[7]["prediction"] = items[7]["prediction"].clone()
    items[7]["prediction"][0, 8, 8] = value
    with pytest.raises(ValueError, match="volume brain_2, slice 2: the prediction has NaN or Inf in 1 of 192"):
        evaluator(items).run()


def test_nan_outside_the_crop_is_no_failure():
    items = samples(volumes())
    items[0]["prediction"] = items[0]["prediction"].clone()
    items[0]["prediction"][0, 0, 0] = float("nan")
    feed(VolumeMetrics(), loader(items)).compute()


def test_half_precision_predictions_are_taken():
    items = [{**s, "prediction": s["prediction"].bfloat16()} for s in samples(volumes())]
    exact = feed(VolumeMetrics(), loader(samples(volumes()))).compute()
    for name, values in feed(VolumeMetrics(), loader(items)).compute().items():
        assert values.psnr == pytest.approx(exact[name].psnr, abs=0.1)


def changed(index, **fields):
    items = samples(volumes())
    items[index] = {**items[index], **fields}
    return loader(items, batch_size=1)


def test_contradictions_fail_by_name():
    with pytest.raises(ValueError, match="volume brain_1, slice 2: seen twice"):
        feed(VolumeMetrics(), changed(3, slice=2))
    with pytest.raises(ValueError, match=r"volume brain_1, slice 0: the target reaches .* max_value 0.5"):
        feed(VolumeMetrics(), changed(0, max_value=torch.tensor(0.5)))
    with pytest.raises(ValueError, match="volume brain_1: the slices of a volume must share one max_value"):
        feed(VolumeMetrics(), changed(0, max_value=torch.tensor(2.0))).compute()
    with pytest.raises(ValueError, match=r"volume brain_1: its slices name different .*somebody else"):
        feed(VolumeMetrics(), changed(0, patient_id="somebody else")).compute()
    with pytest.raises(ValueError, match=r"must both be \(B, 1, height, width\)"):
        feed(VolumeMetrics(), changed(0, prediction=torch.zeros(2, 20, 18)))


def test_misuse_fails():
    with pytest.raises(NotComputableError, match="at least one slice"):
        VolumeMetrics().compute()
    metric = VolumeMetrics()
    mean = MeanOverVolumes(metric, "psnr")
    target = torch.rand(1, 1, 8, 8)
    metric.update((target, {"target": target, "max_value": [1.0], "volume": ["exact"], "slice": [0]}))
    with pytest.raises(ValueError, match="volume exact: psnr is inf"):
        mean.compute()


def test_a_slice_on_two_processes_fails(monkeypatch):
    metric = feed(VolumeMetrics(), loader(samples(volumes())))
    monkeypatch.setattr(volume_metrics.idist, "get_world_size", lambda: 2)
    monkeypatch.setattr(volume_metrics.idist, "all_gather", lambda mine: [mine, {"knee_1": dict(mine["knee_1"])}])
    with pytest.raises(ValueError, match=r"volume knee_1: slices \[0, 1, 2, 3\] were evaluated by two processes"):
        metric.compute()


WORKER = """
import dataclasses, json, sys, torch
from scripts.evaluation.volume_metrics import VolumeMetrics
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
metric = VolumeMetrics()
for batch in torch.load(f"{folder}/batches.pt")[rank::2]:
    metric.update((batch["prediction"], batch))
print(json.dumps({name: dataclasses.asdict(values) for name, values in metric.compute().items()}))
torch.distributed.destroy_process_group()
"""


def test_two_processes_share_volumes(tmp_path):
    batches = list(loader(samples(volumes()), batch_size=1))
    torch.save(batches, tmp_path / "batches.pt")
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(rank), str(tmp_path)], env=environment, stdout=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    answers = [json.loads(worker.communicate(timeout=120)[0].splitlines()[-1]) for worker in workers]
    alone = feed(VolumeMetrics(), batches).compute()
    assert answers[0] == answers[1] == {name: asdict(values) for name, values in alone.items()}
