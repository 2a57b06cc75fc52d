"""What a worker does with a network: load it, run it, time it. State is kept between requests."""

from __future__ import annotations

import time

import torch

CENTRE = 64  # rows and columns on which gradients are compared
clock = time.perf_counter
state: dict = {}


def load_network(kind: str, case: str, compiled: bool = False) -> None:
    """Build `ours` or `fastmri`'s VarNet from a case file: arguments, state dict, k-space, mask and target."""
    if kind == "ours":
        from scripts.networks import VarNet
    else:
        from fastmri.models import VarNet
    content = torch.load(case)
    network = VarNet(**content["arguments"])
    network.load_state_dict(content["state"])
    if compiled:
        from scripts.networks import compiled as compile_network

        compile_network(network)
    state.update(network=network, inputs=(content["masked_kspace"], content["mask"]), target=content["target"])
    state["optimizer"] = torch.optim.Adam(network.parameters(), lr=0.0)  # does its work, but keeps the weights


def forward() -> float:
    """Seconds of one reconstruction without gradients."""
    start = clock()
    with torch.no_grad():
        state["network"](*state["inputs"])
    return clock() - start


def step() -> float:
    """Seconds of one training step: forward, squared error, backward, Adam."""
    start = clock()
    state["optimizer"].zero_grad()
    (_image(*state["inputs"]) - state["target"]).square().mean().backward()
    state["optimizer"].step()
    return clock() - start


def write_image(path: str) -> None:
    """Write the image (B, H, W)."""
    with torch.no_grad():
        torch.save({"image": _image(*state["inputs"])}, path)


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
    torch.save({name: weight.grad for name, weight in network.named_parameters()}, path)
    network.zero_grad()
    network.float()


def _image(kspace: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    image = state["network"](kspace, mask)
    return image[:, 0] if image.ndim == 4 else image


JOBS = {job.__name__: job for job in (load_network, forward, step, write_image, write_gradients)}
