"""What a worker does with a network: load it, run it, time it. State is kept between requests."""

from __future__ import annotations

import time
from pathlib import Path

import torch

CENTRE = 64  # rows and columns on which gradients are compared
clock = time.perf_counter
state: dict = {"device": "cpu"}


def load_network(
    kind: str,
    case: str,
    compiled: bool = False,
    precision: str = "fp32",
    checkpoint_activations: bool = False,
    device: str = "cpu",
) -> None:
    """Build `ours` or `fastmri`'s VarNet from a case file: arguments, state dict, k-space, mask and target."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    content = torch.load(case)
    if kind == "ours":
        from scripts.networks import VarNet, at_precision
        from scripts.networks import compiled as compile_network

        network = VarNet(**content["arguments"], checkpoint_activations=checkpoint_activations)
        at_precision(network, precision, device)
        network = compile_network(network) if compiled else network
    else:
        from fastmri.models import VarNet

        network = VarNet(**content["arguments"])
    network.load_state_dict(content["state"])
    network.to(device)
    state.update(network=network, device=device, target=content["target"].to(device))
    state["inputs"] = content["masked_kspace"].to(device), content["mask"].to(device)
    state["optimizer"] = torch.optim.Adam(network.parameters(), lr=0.0)  # does its work, but keeps the weights
    state["scaler"] = torch.amp.GradScaler(device, enabled=precision == "fp16")


def now() -> float:
    """The clock's time once all work given to the device is done."""
    if state["device"] == "cuda":
        torch.cuda.synchronize()
    return clock()


def start_peak() -> None:
    """Forget earlier peaks of memory (on a CPU: Linux)."""
    if state["device"] == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> float:
    """Largest memory since `start_peak`, in MB: resident memory of this process (Linux), or PyTorch's on the GPU.

    Not `getrusage`: its peak includes that of the process which started this one.
    """
    if state.get("device") == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def forward() -> float:
    """Seconds of one reconstruction without gradients."""
    start = now()
    with torch.no_grad():
        state["network"](*state["inputs"])
    return now() - start


def step() -> float:
    """Seconds of one training step: forward, squared error, backward, Adam."""
    start, scaler = now(), state["scaler"]
    state["optimizer"].zero_grad()
    scaler.scale((_image(*state["inputs"]) - state["target"]).square().mean()).backward()
    scaler.step(state["optimizer"])
    scaler.update()
    return now() - start


def write_image(path: str) -> None:
    """Write the image (B, H, W)."""
    with torch.no_grad():
        torch.save({"image": _image(*state["inputs"]).cpu()}, path)


def write_gradients(path: str) -> None:
    """Write every parameter's gradient of the loss in double precision, on the centre of k-space.

    In single precision the gradients of a network that was not trained are themselves uncertain by 1e-3 and more.
    """
    network = state["network"].double()
    (kspace, mask), target = state["inputs"], state["target"]
    rows, columns = (slice(size // 2 - CENTRE // 2, size // 2 + CENTRE // 2) for size in kspace.shape[2:4])
    image = _image(kspace[:, :4, rows, columns].double(), mask[..., columns, :])
    network.zero_grad()
    (image - target[:, rows, columns]).square().mean().backward()
    torch.save({name: weight.grad.cpu() for name, weight in network.named_parameters()}, path)
    network.zero_grad()
    network.float()


def _image(kspace: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    image = state["network"](kspace, mask)
    return image[:, 0] if image.ndim == 4 else image


JOBS = {
    job.__name__: job for job in (load_network, forward, step, start_peak, peak_memory, write_image, write_gradients)
}
