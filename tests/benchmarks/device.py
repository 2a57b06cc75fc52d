"""The published VarNet on a device, in at most ten minutes. ``python -m tests.benchmarks.device``

Prints two Markdown tables. The first has, in single precision, bf16 and compiled, and beside fastMRI's own network
where its package is installed: seconds of a training step and of a reconstruction, peak memory, and the largest
difference of the image from that of the CPU in single precision, relative to its maximum. The second has the verbs on
drawn slices of the published size: prior, training, unlearning, audit, inference, with seconds and what went wrong.
What does not fit into ten minutes is left out and named. ``--small`` tries the script itself, on any machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import fire
import numpy as np
import torch

from scripts.data.header import make_header
from scripts.data.volumes import write_volume
from scripts.networks import VarNet, at_precision, compiled
from tests.benchmarks.markdown import markdown_table

LIMIT = 600.0  # seconds for all
PUBLISHED = {"num_cascades": 12, "sens_chans": 8, "sens_pools": 4, "chans": 18, "pools": 4}
SMALL = {"num_cascades": 1, "sens_chans": 2, "sens_pools": 2, "chans": 2, "pools": 2}
CONFIGS = Path(__file__).parents[2] / "bundle" / "configs"
started = time.monotonic()


def main(device: str | None = None, small: bool = False, steps: int = 5) -> None:
    """Measure and print.

    Args:
        device: cuda or cpu; None: a GPU if there is one.
        small: A tiny network on tiny images.
        steps: Timed repetitions, after one that is not.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    arguments, shape = (SMALL, (4, 48, 40)) if small else (PUBLISHED, (15, 640, 368))
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {shape[0]} coils, {shape[1]} x {shape[2]}\n")
    torch.manual_seed(0)
    state = VarNet(**arguments).state_dict()
    mask = torch.zeros(1, 1, 1, shape[2], 1, dtype=torch.bool)
    mask[..., ::8, :] = mask[..., shape[2] // 2 - 8 : shape[2] // 2 + 8, :] = True
    kspace = torch.from_numpy(drawn_slice(np.random.default_rng(0), *shape)).unsqueeze(0)
    kspace = torch.view_as_real(kspace) * mask
    with torch.no_grad():
        expected = load(VarNet(**arguments), state, "cpu").eval()(kspace, mask)
    makers: dict[str, Callable[[], torch.nn.Module]] = {
        "fp32": lambda: VarNet(**arguments),
        "fp32, activations not kept": lambda: VarNet(**arguments, checkpoint_activations=True),
        "bf16": lambda: at_precision(VarNet(**arguments), "bf16", device),
        "fp32, compiled": lambda: compiled(VarNet(**arguments)),
        "bf16, compiled": lambda: compiled(at_precision(VarNet(**arguments), "bf16", device)),
        "fastMRI's own, fp32": lambda: fastmri_network(arguments),
    }
    rows = []
    for kind, make in makers.items():
        found = measured(kind, make, state, (kspace.to(device), mask.to(device)), expected, device, steps)
        rows.append([kind, *found])
        print("| " + " | ".join(rows[-1]) + " |", flush=True)
    columns = ["network", "training step [s]", "reconstruction [s]", "memory of a step [GB]", "difference from the CPU"]
    print("\n" + markdown_table(columns, rows) + "\n")
    with tempfile.TemporaryDirectory() as folder:
        print(markdown_table(["verb", "seconds", "found"], list(verbs(Path(folder), arguments, shape, device))))


def measured(
    kind: str, make: Callable, state: dict, inputs: tuple, expected: torch.Tensor, device: str, steps: int
) -> list[str]:
    """Seconds of a step and of a reconstruction, memory, difference; or why there are none."""
    if time.monotonic() - started > LIMIT / 2:
        return ["left out: no time", "", "", ""]
    try:
        network = load(make(), state, device)
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-9)

        def step() -> None:
            optimizer.zero_grad()
            network(*inputs).abs().mean().backward()
            optimizer.step()

        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = timed(step, device, steps)
        memory = f"{torch.cuda.max_memory_allocated() / 2**30:.2f}" if device == "cuda" else "not measured"
        network = load(make(), state, device).eval()
        with torch.no_grad():
            image = network(*inputs).reshape(expected.shape).float().cpu()
            reconstruction = timed(lambda: network(*inputs), device, steps)
    except Exception as error:  # a compiler that is missing, a package that is not installed, a full memory
        return [f"{type(error).__name__}: {str(error).splitlines()[0][:80]}", "", "", ""]
    difference = float((image - expected).abs().max() / expected.abs().max())
    return [f"{seconds:.3f}", f"{reconstruction:.3f}", memory, f"{difference:.1e}"]


def timed(work: Callable[[], object], device: str, steps: int) -> float:
    """Median seconds, after one run that is not counted."""
    seconds = []
    for _ in range(steps + 1):
        begin = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return median(seconds[1:])


def load(network: torch.nn.Module, state: dict, device: str) -> torch.nn.Module:
    """The network with these weights on the device."""
    network.load_state_dict(state)
    return network.to(device)


def fastmri_network(arguments: dict) -> torch.nn.Module:
    """fastMRI's own VarNet, whose state-dict keys are the same."""
    from fastmri.models import VarNet as Theirs

    return Theirs(**arguments)


def drawn_slice(rng: np.random.Generator, coils: int, height: int, width: int) -> np.ndarray:
    """K-space (C, H, W) complex64 of an ellipse with stripes and discs under Gaussian sensitivities."""
    rows, columns = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    image = (rows**2 / 0.7 + columns**2 / 0.5 < 1) * (1 + 0.3 * np.sin(20 * columns + rng.uniform(0, 6)))
    for row, column, radius in rng.uniform(0.05, 0.4, (6, 3)) * rng.choice([-1, 1], (6, 3)):
        image += 0.5 * ((rows - row) ** 2 + (columns - column) ** 2 < radius**2)
    centres = rng.uniform(-1, 1, (coils, 2))
    maps = np.array([np.exp(-((rows - r) ** 2 + (columns - c) ** 2) + 1j * (r + c)) for r, c in centres])
    shifted = np.fft.ifftshift(3e-4 * image * maps, axes=(-2, -1))
    return np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), axes=(-2, -1)).astype(np.complex64)


def write_data(folder: Path, shape: tuple[int, int, int]) -> Path:
    """Volumes of two slices, brain and knee by name, and their datalist."""
    coils, height, width = shape
    size = min(height, width) * 4 // 5
    header = make_header(
        matrix=(height, width), recon=(size, size), spacing=(1.0, 1.0), slice_thickness=5.0, num_coils=coils
    )
    lists: dict[str, list] = {}
    rng = np.random.default_rng(0)
    for section, kinds in (("training", "bbbk"), ("validation", "b"), ("test", "bk")):
        for number, kind in enumerate(kinds):
            slices = []
            for _ in range(2):
                kspace = drawn_slice(rng, *shape)
                shifted = np.fft.ifftshift(kspace, axes=(-2, -1))
                images = np.fft.fftshift(np.fft.ifft2(shifted, norm="ortho"), axes=(-2, -1))
                top, left = (height - size) // 2, (width - size) // 2
                rss = np.sqrt((np.abs(images) ** 2).sum(axis=0))[top : top + size, left : left + size]
                slices.append((kspace, rss.astype(np.float32)))
            path = folder / f"{section}_{number}.h5"
            attributes = {"acquisition": "TEST", "patient_id": f"{section}{number}"}
            write_volume(path, slices, num_slices=2, attributes=attributes, header=header)
            anatomy = "brain" if kind == "b" else "knee"
            lists.setdefault(section, []).append({"kspace": path.name, "anatomy": anatomy})
    (folder / "datalist.json").write_text(json.dumps(lists), encoding="utf-8")
    return folder / "datalist.json"


def verbs(folder: Path, arguments: dict, shape: tuple[int, int, int], device: str):
    """Run the verbs, each in a process of its own: name, seconds, what was found."""
    datalist = write_data(folder, shape)
    network = [f"--network#{key}={value}" for key, value in arguments.items()]
    common = ["--device", device, "--ledger", "false", *network]
    data = ["--datalist", str(datalist)]
    weights = ["--weights", str(folder / "train/original.pt"), "--prior", str(folder / "prior/prior.pt")]
    quick = ["--relearning_steps", "0", "--statistics#samples", "200", "--device", device, "--ledger", "false"]
    inference = [f"--network_def#{key}={value}" for key, value in arguments.items()]
    train = [*common, *data, "--train_epochs", "1", "--output_dir", str(folder / "train")]
    calls = {
        "prior": ("train", ["train.yaml", "prior.yaml"], [
            "--device", device, *network, "--prior_passes", "4", "--train_epochs", "1",
            "--matrix", str(list(shape[1:])), "--output_dir", str(folder / "prior")]),
        "train": ("train", ["train.yaml"], train),
        "train, the oracle": ("train", ["train.yaml"], [*train, "--oracle", "true"]),
        "unlearn": ("unlearn", ["unlearn.yaml"], [
            *common, *data, *weights, "--budget", "0.5", "--train_epochs", "2", "--unlearn_epochs", "1",
            "--retain_fraction", "0.5", "--output_dir", str(folder / "unlearn")]),
        "audit": ("audit", ["audit.yaml"], ["--run", str(folder / "unlearn"), *quick]),
        "inference": ("run", ["inference.json"], [
            "--bundle_root", str(CONFIGS.parent), "--dataset_dir", str(folder / "test_0.h5"), *inference,
            "--weights", str(folder / "unlearn/unlearned.pt"), "--output_dir", str(folder / "images")]),
    }  # fmt: skip
    for name, (verb, files, options) in calls.items():
        left = LIMIT - (time.monotonic() - started)
        begin = time.monotonic()
        files = [str(CONFIGS / file) for file in files]
        command = [sys.executable, "-m", "monai.bundle", "run", verb, "--config_file", str(files), *options]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=max(1.0, left), check=False)
            told = (done.stderr.strip().splitlines() or ["no message"])[-1][:100]
            found = "done" if done.returncode == 0 else f"failed: {told}"
        except subprocess.TimeoutExpired:
            found = "left out: ten minutes are over"
        yield [name, f"{time.monotonic() - begin:.0f}", found]


if __name__ == "__main__":
    fire.Fire(main)
