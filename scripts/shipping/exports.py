"""The network of a bundle in forms that need none of its code: TorchScript, a program of torch.export, safetensors."""

from __future__ import annotations

import contextlib
import itertools
import logging
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from monai.bundle import ckpt_export
from torch.export import Dim

from scripts.networks import Adapted
from scripts.networks.weights import first_line
from scripts.run.files import atomic_write

UNKNOWN_SIDE = 64  # of a network that does not say what is too small for it
logger = logging.getLogger(__name__)
ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def export_network(folder: Path, weights: str, network: torch.nn.Module) -> dict[str, str]:
    """Write a network in each form that it has: ``models/model.ts``, ``model.pt2``, ``model.safetensors``.

    Each is compared with the network on an image of another size than it was made with; what gives other images is
    removed again.

    Args:
        folder: The bundle, with its configs and ``models/<weights>``.
        weights: The name of the file of weights.
        network: The network with these weights, in evaluation mode.

    Returns:
        Name of each form that the network does not have -> why, in a line.

    Raises:
        RuntimeError: One of the project's own networks lacks one of the first two.
    """
    models = folder / "models"
    reasons = {}
    for name, write, read in (
        ("TorchScript", partial(_export_script, folder, weights), torch.jit.load),
        ("torch.export", export_program, lambda path: torch.export.load(path).module()),
    ):
        path = models / ("model.ts" if name == "TorchScript" else "model.pt2")
        try:
            write(network, path)
            _compare(read(path), network)
        except Exception as error:  # whatever PyTorch raises where it cannot export somebody's network
            if type(network).__module__ in ("scripts.networks.varnet", "scripts.networks.unet"):
                raise RuntimeError(f"{path}: {name}: {error}") from error
            path.unlink(missing_ok=True)
            reasons[name] = f"{type(error).__name__}: {first_line(error)}"[:200]
            logger.warning("not exported as %s: %s", name, reasons[name])
    try:
        from safetensors.torch import save_model  # an optional package
    except ImportError:
        reasons["safetensors"] = "the package safetensors was not installed"
    else:
        save_model(network, str(models / "model.safetensors"))
    return reasons


def _export_script(folder: Path, weights: str, network: torch.nn.Module, path: Path) -> None:
    """By MONAI's own exporter: compiled, or where that fails recorded on an example."""
    paths = list(sys.path)
    example = [1, 2, *(side + 24 for side in (smallest_side(network),) * 2), 2]
    try:
        for recorded in (False, True):
            with warnings.catch_warnings(), contextlib.suppress(*([] if recorded else [Exception])):
                warnings.simplefilter("ignore", torch.jit.TracerWarning)  # the comparison is with another size
                ckpt_export(
                    net_id="network_def",
                    filepath=str(path),
                    ckpt_file=str(folder / "models" / weights),
                    meta_file=str(folder / "configs" / "metadata.json"),
                    config_file=str(folder / "configs" / "inference.json"),
                    bundle_root=str(folder),
                    use_trace=recorded,
                    input_shape=example if recorded else None,
                )
                break
    finally:
        sys.path[:] = paths
    strip_sources(path)


def _compare(written: Callable, network: torch.nn.Module) -> None:
    side = smallest_side(network)
    kspace = _undersampled(2, 3, side + 31, side + 24)
    with torch.no_grad():
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
    """Pixels of the side of the smallest square image that a network takes; 64 where it does not say.

    >>> from scripts.networks import VarNet
    >>> smallest_side(VarNet(num_cascades=1, sens_chans=1, sens_pools=4, chans=1, pools=4))
    17
    """
    check = getattr(network, "check_image_size", None)
    inner = getattr(network, "network", network) if isinstance(network, Adapted) else network
    if check is None or not hasattr(inner, "check_image_size"):
        return UNKNOWN_SIDE
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
