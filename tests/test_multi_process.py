"""Several processes give what one gives; one that is killed ends the job, and a new start goes on."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import monai.bundle
import pytest
import torch

from scripts.data import EndlessBatches, SliceDataset, TrainingLoader, Undersample, inspect_volume
from scripts.data.loaders import ShareOfBatch
from scripts.kspace.masks import RandomMask
from scripts.run import processes
from scripts.run.errors import own_error
from scripts.run.files import file_sha256
from scripts.run.start import begin
from tests.conftest import MATRIX, write_tiny_volume

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "bundle" / "configs"
# Rounding must stay rounding: no kinks in the network, and no full steps by Adam where a gradient is nearly 0.
SMALL = {"network": {"_target_": "tests.multi_process_jobs.smooth_varnet"}, "mask#center_fraction": 0.12}
# Adam makes a step of the rounding error of a gradient that is nearly 0; SGD shows whether the gradients agree
SGD = {"optimizer#_target_": "torch.optim.SGD", "optimizer#lr": 0.05}
METHODS = (
    "fine_tune",
    "gain_target",
    "mirror_target",
    "mirror_image",
    "blindspot",
    "gradient_ascent",
    "ssd",
    "reset_and_heal",
    "restart",
)  # of each level
AVERAGED = {  # a method whose every part has a state
    "method_name": "averaged",
    "method": [
        "@teacher",
        {"_target_": "scripts.unlearning.Blindspot", "teacher": "@teacher", "forget_loader": "@forget_loader"},
        {"_target_": "scripts.unlearning.Rewind", "forget_loader": "@forget_loader", "reference": 1.0},
        {"_target_": "scripts.unlearning.WeightAverage", "decay": 0.5, "start": 0.0},
        {"_target_": "tests.multi_process_jobs.Die"},
    ],
    "unlearn_epochs": 3,
    "evaluate_models": False,
}


@pytest.fixture(autouse=True)
def _contained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    yield
    monai.utils.set_determinism(None)


@pytest.fixture(scope="module")
def datalist(tmp_path_factory) -> str:
    """Volumes of 2 and 3 slices: 10 retain and 5 forget slices, so that the last batches are smaller."""
    root = tmp_path_factory.mktemp("uneven")
    sizes = {
        "training": {"brain": (2, 3, 2, 3), "knee": (3, 2)},
        "validation": {"brain": (3,)},
        "test": {"brain": (3,)},
    }
    lists, seed = {}, 0
    for section, anatomies in sizes.items():
        lists[section] = []
        for anatomy, counts in anatomies.items():
            for count in counts:
                name = f"{anatomy}_{seed}.h5"
                write_tiny_volume(root / name, seed, slices=count, upright=anatomy == "brain", patient_id=str(seed))
                lists[section].append({"kspace": name, "anatomy": anatomy})
                seed += 1
    (root / "datalist.json").write_text(json.dumps(lists))
    return str(root / "datalist.json")


def files(verb: str, *overlays: str) -> list[str]:
    if any(overlay.startswith("methods/") for overlay in overlays):
        overlays = ("approximate", *overlays)
    return [str(CONFIGS / f"{name}.yaml") for name in (verb, *overlays)]


def alone(verb: str, *overlays: str, **overrides) -> None:
    """Run a verb in this process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "parsing config_file", UserWarning)
        monai.bundle.run(verb, config_file=files(verb, *overlays), **overrides)


def torchrun(jobs: list[dict], folder: Path, restarts: int = 0, die: str = "") -> subprocess.CompletedProcess:
    """Run verbs in two processes, in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "jobs.json").write_text(json.dumps(jobs))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [f"--max-restarts={restarts}", "--monitor-interval=0.1"]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'bundle'}",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "DIE": die,
    }
    command += [str(ROOT / "tests" / "multi_process_jobs.py"), "jobs.json"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1200)


@pytest.fixture(scope="module")
def original(datalist, tmp_path_factory) -> Path:
    """Weights trained in one process, in batches of two."""
    output = tmp_path_factory.mktemp("original")
    alone("train", datalist=datalist, output_dir=str(output), train_epochs=1, batch_size=2, **SGD, **SMALL)
    few = {"prior_passes": 20, "train_epochs": 1, "matrix": list(MATRIX)}
    alone("train", "prior", output_dir=str(output), **few, **SMALL)
    return output


def settings(datalist: str, original: Path) -> dict:
    weights = str(original / "original.pt")
    numbers = {"unlearn_epochs": 2, "train_epochs": 1, "retain_fraction": 0.5, **SGD}
    return {"datalist": datalist, "weights": weights, "prior": str(original / "prior.pt"), **numbers, **SMALL}


def of_method(name: str) -> list[str]:
    """The overlays of a method; ``restart`` needs none."""
    return [] if name == "restart" else [f"methods/{name}"]


@pytest.fixture(scope="module")
def together(datalist, original, tmp_path_factory) -> Path:
    """The three verbs, and methods of each level, in two processes."""
    folder = tmp_path_factory.mktemp("together")
    common = settings(datalist, original)
    jobs = [
        {
            "verb": "unlearn",
            "files": files("unlearn", *of_method(name), "multi_gpu"),
            "overrides": {**common, "output_dir": name, "evaluate_models": name == "blindspot"},
        }
        for name in METHODS
    ]
    # in a folder of their own: what was erased in a folder is no longer trained on there
    train = {"datalist": datalist, "output_dir": "before/train", "train_epochs": 1, **SGD, **SMALL}
    jobs.append({"verb": "train", "files": files("train", "multi_gpu"), "overrides": train})
    evaluate = {"datalist": datalist, "output_dir": "before/evaluate", "weights": common["weights"], **SMALL}
    jobs.append({"verb": "evaluate", "files": files("evaluate", "multi_gpu"), "overrides": evaluate})
    result = torchrun(jobs, folder)
    assert result.returncode == 0, result.stderr[-4000:]
    return folder


def assert_close(one: Path, other: Path) -> None:
    first, second = (torch.load(path, weights_only=True) for path in (one, other))
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.allclose(value, second[name], rtol=0, atol=1e-5), (name, float((value - second[name]).abs().max()))


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_unlearn_as_one_with_the_same_batches(together, datalist, original, method):
    common = settings(datalist, original)
    alone("unlearn", *of_method(method), output_dir="one", batch_size=2, evaluate_models=False, **common)
    assert_close(Path("one/unlearned.pt"), together / method / "unlearned.pt")
    one, two = (json.loads((path / "unlearned.json").read_text()) for path in (Path("one"), together / method))
    assert one["data"] == two["data"]
    assert (one["cost"]["steps"], one["cost"]["processes"]) == (two["cost"]["steps"], two["cost"]["processes"] - 1)
    # a process without a sample in a last batch runs the first one again: at most once in each of the passes
    assert 0 <= two["cost"]["backward_slices"] - one["cost"]["backward_slices"] <= 12
    start = torch.load(original / "original.pt", weights_only=True)
    end = torch.load("one/unlearned.pt", weights_only=True)
    assert max(float((start[name] - end[name]).abs().max()) for name in start) > 1e-4  # else any method passes


def test_two_processes_train_and_evaluate_as_one(together, datalist, original):
    assert_close(original / "original.pt", together / "before" / "train" / "original.pt")
    alone("evaluate", datalist=datalist, output_dir="one", weights=str(original / "original.pt"), **SMALL)
    for name in ("metrics.csv", "table.md"):
        assert Path("one", name).read_bytes() == (together / "before" / "evaluate" / name).read_bytes()


def test_only_the_first_process_writes_and_once(together, tmp_path):
    """That the others write nothing is checked in them, see ``watch_writes``."""
    found = {path.name for path in (together / "blindspot").iterdir()}
    assert found == {
        "metrics.csv", "metrics.json", "panels.png", "report.html", "table.md", "teachers",
        "tensorboard", "unlearn.log", "unlearned.json", "unlearned.pt",
    }  # fmt: skip
    assert len(list((together / "blindspot" / "tensorboard").rglob("events*"))) == 1
    assert (together / "blindspot" / "unlearn.log").read_text().count("reads retain") == 1
    code = "import sys; from tests.multi_process_jobs import watch_writes; watch_writes(sys.argv[1]); open('x', 'w')"
    tried = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True,
                           env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    assert "process 0 writes x" in tried.stderr


def test_a_killed_process_ends_the_job_and_a_new_start_goes_on(datalist, original, tmp_path):
    """Killed in epoch 2, started again by torchrun, killed in epoch 3; what two processes began, one then ends."""
    common = {**settings(datalist, original), **AVERAGED}
    job = {
        "verb": "unlearn",
        "files": files("unlearn", "approximate", "multi_gpu"),
        "overrides": {**common, "output_dir": "out"},
    }
    killed = torchrun([job], tmp_path, restarts=1, die="1:2:0,0:3:1")
    assert killed.returncode != 0
    assert "Signal 9 (SIGKILL)" in killed.stderr
    log = Path("out/unlearn.log")
    assert log.read_text().count("resumes after epoch 1") == 1
    checkpoint = torch.load("out/unlearned.checkpoint", weights_only=True)
    assert checkpoint["trainer"]["iteration"] == 2 * checkpoint["trainer"]["epoch_length"]
    assert not Path("out/unlearned.pt").exists()

    alone("unlearn", "approximate", output_dir="out", batch_size=2, resume=True, **common)
    assert log.read_text().count("resumes after epoch 2") == 1
    assert not list(Path("out").glob("*checkpoint*"))
    alone("unlearn", "approximate", output_dir="one", batch_size=2, **common)
    assert_close(Path("one/unlearned.pt"), Path("out/unlearned.pt"))


class Stop:
    """Handler that ends the run with an error at the start of an epoch, while ``epoch`` is set."""

    epoch = 0

    def attach(self, engine) -> None:
        from ignite.engine import Events

        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine) -> None:
        if engine.state.epoch == type(self).epoch:
            raise KeyboardInterrupt


def test_a_stopped_run_goes_on_bit_by_bit(datalist, original, monkeypatch):
    method = [*AVERAGED["method"][:-1], {"_target_": "tests.test_multi_process.Stop"}]
    common = {**settings(datalist, original), **AVERAGED, "method": method, "resume": True}
    alone("unlearn", "approximate", output_dir="whole", **common)
    with monkeypatch.context() as stopped:
        stopped.setattr(Stop, "epoch", 3)
        with pytest.raises((KeyboardInterrupt, RuntimeError)):
            alone("unlearn", "approximate", output_dir="parts", **common)
    with pytest.raises(RuntimeError) as error:
        alone("unlearn", "approximate", output_dir="parts", **common, learning_rate=0.5)
    message = (
        r"parts/unlearned.checkpoint: checkpoint of another run: 'configuration#learning_rate': expected 0.5, found"
    )
    assert message in str(own_error(error.value))
    alone("unlearn", "approximate", output_dir="parts", **common)
    assert file_sha256("parts/unlearned.pt") == file_sha256("whole/unlearned.pt")
    assert not list(Path("parts").glob(".*"))  # no lock is left
    whole, parts = (json.loads(Path(name, "unlearned.json").read_text()) for name in ("whole", "parts"))
    for name in ("steps", "forward_slices", "backward_slices"):
        assert whole["cost"][name] == parts["cost"][name]
    Path("parts/unlearned.checkpoint").write_bytes(b"half a file")
    with pytest.raises(RuntimeError) as error:
        alone("unlearn", "approximate", output_dir="parts", **common)
    assert "parts/unlearned.checkpoint: expected a checkpoint" in str(own_error(error.value))


def test_a_stopped_default_run_goes_on_bit_by_bit(datalist, original, monkeypatch):
    """Its handlers exchange the weights, the optimiser and what is read at the start, also of a resumed run."""
    common = {**settings(datalist, original), "train#handlers#0": {"_target_": "tests.test_multi_process.Stop"}}
    common.update(unlearn_epochs=3, budget=None, evaluate_models=False, resume=True)
    alone("unlearn", output_dir="whole", **common)
    with monkeypatch.context() as stopped:
        stopped.setattr(Stop, "epoch", 3)
        with pytest.raises((KeyboardInterrupt, RuntimeError)):
            alone("unlearn", output_dir="parts", **common)
    kept = torch.load("parts/unlearned.checkpoint", weights_only=True)
    assert any("momentum" in state for state in kept["method 3"]["state"].values())
    alone("unlearn", output_dir="parts", **common)
    assert Path("parts/unlearn.log").read_text().count("resumes after epoch 2") == 1
    assert file_sha256("parts/unlearned.pt") == file_sha256("whole/unlearned.pt")


@pytest.mark.parametrize(("processes_", "size"), [(2, 1), (2, 2), (3, 2)])
def test_shares_are_the_batches_of_one_process(tmp_path, processes_, size):
    """No sample twice, none lost, the same masks; weights make means of shares the mean of the batch."""
    for seed, count in enumerate((3, 2, 2)):
        write_tiny_volume(tmp_path / f"{seed}.h5", seed, slices=count)
    volumes = [inspect_volume(tmp_path / f"{seed}.h5") for seed in range(3)]
    dataset = SliceDataset(volumes, Undersample(RandomMask(acceleration=3, center_fraction=0.12)))

    def batches(data) -> list[dict]:
        torch.manual_seed(5)
        return list(TrainingLoader(data, batch_size=processes_ * size, shuffle=True))

    whole = batches(dataset)
    shares = [batches(ShareOfBatch(dataset, rank, processes_)) for rank in range(processes_)]
    assert all(len(share) == len(whole) for share in shares)
    for batch, *parts in zip(whole, *shares, strict=True):
        places = [int(p) for part in parts for p in part["place"] if part["weight"].any()]
        assert sorted(places) == list(range(len(batch["volume"])))
        for part in parts:
            for key in ("masked_kspace", "mask", "target"):
                assert torch.equal(part[key], batch[key][part["place"]])
        mean = sum(float((part["weight"] * part["max_value"]).mean()) for part in parts) / processes_
        assert mean == pytest.approx(float(batch["max_value"].mean()), rel=1e-5)


def test_an_endless_stream_is_found_again():
    loader = torch.utils.data.DataLoader(range(5), batch_size=2, shuffle=True)
    torch.manual_seed(3)
    stream = EndlessBatches(loader)
    for _ in range(4):
        next(stream)
    kept, random = stream.state_dict(), torch.get_rng_state()
    expected = [next(stream).tolist() for _ in range(7)]
    torch.manual_seed(4)
    found = EndlessBatches(loader)
    found.load_state_dict(kept)
    torch.set_rng_state(random)
    assert [next(found).tolist() for _ in range(7)] == expected


def test_torchrun_and_the_overlay_need_each_other(monkeypatch):
    with pytest.raises(RuntimeError, match="expected to be started by torchrun, found a single process"):
        begin("train", several=True)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match="torchrun started 2 processes: expected 'configs/multi_gpu.yaml'"):
        begin("train")


def test_processes_out_of_step_are_told(monkeypatch):
    monkeypatch.setattr(processes.idist, "get_world_size", lambda: 2)
    monkeypatch.setattr(processes.idist, "all_gather", lambda mine: [mine, mine])
    processes.check_in_step()
    monkeypatch.setattr(processes.idist, "all_gather", lambda mine: [mine, "0"])
    with pytest.raises(RuntimeError, match="expected the same random numbers"):
        processes.check_in_step()
