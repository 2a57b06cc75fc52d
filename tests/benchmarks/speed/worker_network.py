"""What a worker does with a network: load it, run it, time it. State is kept between requests."""

from __future__ import annotations

import time

import torch

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
    _loss(_image()).backward()
    state["optimizer"].step()
    return clock() - start


def write_image(path: str) -> None:
    """Write the image (B, H, W)."""
    with torch.no_grad():
        torch.save({"image": _image()}, path)


def write_gradients(path: str) -> None:
    """Write every parameter's gradient of the loss."""
    state["network"].zero_grad()
    _loss(_image()).backward()
    torch.save({name: weight.grad for name, weight in state["network"].named_parameters()}, path)


def _image() -> torch.Tensor:
    image = state["network"](*state["inputs"])
    return image[:, 0] if image.ndim == 4 else image


def _loss(image: torch.Tensor) -> torch.Tensor:
    return (image - state["target"]).square().mean()


JOBS = {job.__name__: job for job in (load_network, forward, step, write_image, write_gradients)}
