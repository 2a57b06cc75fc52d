"""The network of a bundle in the two forms that need none of its code: TorchScript and a program of torch.export."""

from __future__ import annotations

import contextlib
import itertools
import logging
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from monai.bundle import ckpt_export
from torch.export import Dim

from scripts.run.files import atomic_write

ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def export_network(folder: Path, weights: str, network: torch.nn.Module) -> None:
    """Write ``models/model.ts``, by MONAI's own exporter, and ``models/model.pt2``; compare both with the network.

    Args:
        folder: The bundle, with its configs and ``models/<weights>``.
        weights: The name of the file of weights.
        network: The network with these weights, in evaluation mode.

    Raises:
        AssertionError: what was written gives other images.
    """
    script, program = folder / "models" / "model.ts", folder / "models" / "model.pt2"
    paths = list(sys.path)
    try:
        ckpt_export(
            net_id="network_def",
            filepath=str(script),
            ckpt_file=str(folder / "models" / weights),
            meta_file=str(folder / "configs" / "metadata.json"),
            config_file=str(folder / "configs" / "inference.json"),
            bundle_root=str(folder),
        )
    finally:
        sys.path[:] = paths
    strip_sources(script)
    export_program(network, program)
    side = smallest_side(network)
    kspace = _undersampled(1, 2, side + 31, side + 24)
    with torch.no_grad():
        for written in (torch.jit.load(script), torch.export.load(program).module()):
            torch.testing.assert_close(written(kspace), network(kspace), rtol=1e-5, atol=1e-6)


def export_program(network: torch.nn.Module, path: str | Path) -> None:
    """Write a network as a program of ``torch.export`` that takes k-space alone and infers the mask.

    Batch and coils are free, and so are H and W from the side of the smallest square image that the network takes.
    Tensors that the network makes are on the CPU. Neither places in the sources nor the example are kept, and equal
    networks give equal bytes.

    Args:
        network: Maps k-space (B, C, H, W, 2) float32 to images; in evaluation mode. Its weights lose their gradients.
        path: The file, ``*.pt2``.
    """
    side = smallest_side(network)
    free, pixels = Dim.DYNAMIC, Dim.DYNAMIC(min=max(2, side))
    example = _undersampled(2, 3, side + 48, side + 56)  # all differ, so that none is taken for another
    with torch.no_grad(), _without_warnings():
        network.requires_grad_(False)  # what only training does is no part of the program
        program = torch.export.export(network, (example,), dynamic_shapes=({0: free, 1: free, 2: pixels, 3: pixels},))
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
    program.example_inputs = None
    with atomic_write(path) as temporary, open(temporary, "wb") as file:  # a file's name would be written into it
        torch.export.save(program, file)
    strip_sources(Path(path))


def smallest_side(network: torch.nn.Module) -> int:
    """Pixels of the side of the smallest square image that a network takes.

    >>> from scripts.networks import VarNet
    >>> smallest_side(VarNet(num_cascades=1, sens_chans=1, sens_pools=4, chans=1, pools=4))
    17
    """
    check = getattr(network, "check_image_size", lambda height, width: None)
    return next(side for side in itertools.count(1) if _accepts(check, side))


def _accepts(check: Callable[[int, int], None], side: int) -> bool:
    try:
        check(side, side)
    except ValueError:
        return False
    return True


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """PyTorch's solver of sizes warns that it cannot simplify the square root in ``standardise``: of no harm."""
    solver = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    level = solver.level
    solver.setLevel(logging.ERROR)
    try:
        yield
    finally:
        solver.setLevel(level)


def _undersampled(*shape: int) -> torch.Tensor:
    kspace = torch.randn(*shape, 2, generator=torch.Generator().manual_seed(0))
    kspace[:, :, :, 1:16:2] = 0
    return kspace


def strip_sources(path: Path) -> None:
    """Take what PyTorch keeps for error messages out of a file: paths and lines of the sources on this machine.

    The rest is written in a fixed order with fixed times: equal networks give equal bytes.
    """
    with atomic_write(path) as temporary, zipfile.ZipFile(path) as source, zipfile.ZipFile(temporary, "w") as target:
        for name in sorted(source.namelist()):
            if not name.endswith((".debug_pkl", "/serialization_id")):
                target.writestr(zipfile.ZipInfo(name, ZIP_TIME), source.read(name))
