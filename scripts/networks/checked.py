"""What a network has to be before it is trained, found out by building it twice and running it once."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import inspect
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from importlib.metadata import PackageNotFoundError, packages_distributions, version

import torch
from monai.bundle import ConfigParser
from torch import Tensor, nn

from scripts.networks.adapted import Adapted
from scripts.networks.weights import unwrap
from scripts.run.config import running_workflow

Build = Callable[[], nn.Module]
ADAPT = "scripts.networks.Adapted adapts a network with another signature"
SHOWN = 5  # names in a sentence
SEEDS = 1, 2
logger = logging.getLogger(__name__)


def build_network(seed: int, key: str = "network") -> nn.Module:
    """The network of the running configuration, built anew by its own constructor from a seed.

    The random state of the run is left as it is.

    Raises:
        RuntimeError: no bundle is being run.
    """
    running = running_workflow()[0].parser
    with _seeded(seed):
        return ConfigParser(copy.deepcopy(running.get()), globals=running.globals).get_parsed_content(key)


def check_network(
    network: nn.Module,
    device: torch.device | str = "cpu",
    sizes: Iterable[Sequence[int]] = (),
    build: Build | None = None,
) -> None:
    """Refuse a network that cannot be trained, or be forgotten with, as the bundle does it.

    It is built twice, from two seeds, and runs once on noise of each size; the network that will be trained stays
    as it is, and so does the random state of the run. What is allowed but has to be known is logged: shared and frozen
    parameters, and buffers that no weights file holds.

    Args:
        network: The network that will be trained.
        device: Where it will run.
        sizes: Of the data, (…, C, H, W); without any, 4 coils of 96 x 96.
        build: Makes a new one; None: the constructor in the running configuration.

    Raises:
        ValueError: One sentence that names the network's class and what is wrong: no parameters that train, an output
            of another type, shape or device or with NaN, a changed input, random numbers in evaluation, or parameters
            that begin alike under two seeds, which were loaded.
    """
    inner = unwrap(network)
    name = class_name(inner.network if isinstance(inner, Adapted) else inner)
    first, second = (_built(build, seed) for seed in SEEDS)
    if not any(weight.requires_grad for weight in first.parameters()):
        raise ValueError(f"network: expected parameters that can be trained, found none in {name}")
    _refuse_loaded(first, second, name)
    _report(first, name)
    shapes = list(dict.fromkeys(tuple(size[-3:]) for size in sizes)) or [(4, 96, 96)]
    second.to(device).eval()
    for shape in {shape[1:]: shape for shape in reversed(shapes)}.values():  # one number of coils for each matrix
        _try(second, name, shape, torch.device(device))


def _built(build: Build | None, seed: int) -> nn.Module:
    if build is None:
        return unwrap(build_network(seed))
    with _seeded(seed):
        return unwrap(build())


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Random numbers of the CPU from a seed; afterwards the random state is as it was before."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        yield


def _refuse_loaded(first: nn.Module, second: nn.Module, name: str) -> None:
    fixed = [pattern for module in first.modules() if isinstance(module, Adapted) for pattern in module.fixed]
    other = dict(second.named_parameters())
    alike = [
        key
        for key, value in first.named_parameters()
        if value.numel() > 1
        and not any(fnmatchcase(key, pattern) for pattern in fixed)
        and torch.equal(value, other[key])
        and bool((value != value.flatten()[0]).any())
    ]
    if alike:
        raise ValueError(
            f"network: expected a constructor of {name} that draws its parameters, found {len(alike)} that begin alike "
            f"under two seeds and are not constant ({_some(alike)}): it loads weights or sets the seed, so a new one "
            "is not fresh; parameters that are fixed by design are named by scripts.networks.Adapted's 'fixed'"
        )


def _report(network: nn.Module, name: str) -> None:
    """Log what is allowed and has to be known."""
    frozen = [key for key, weight in network.named_parameters() if not weight.requires_grad]
    tied = shared_parameters(network)
    lost = [key for key, _ in network.named_buffers() if key not in network.state_dict()]
    for found, what in (
        (frozen, "are frozen: training leaves them as they are, and a restart takes them from the prior"),
        (tied, "are shared by several parts of it and count once"),
    ):
        if found:
            logger.warning("network: %d parameters of %s %s (%s)", len(found), name, what, _some(found))
    if lost:
        logger.info(
            "network: %d buffers of %s stay as built: no weights file holds them (%s)", len(lost), name, _some(lost)
        )


def shared_parameters(network: nn.Module) -> list[str]:
    """Further names of parameters that a network has under several names.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> shared_parameters(nn.Sequential(layer, layer))
        ['1.weight', '1.bias']
    """
    once = {key for key, _ in network.named_parameters()}
    return [key for key, _ in network.named_parameters(remove_duplicate=False) if key not in once]


@torch.no_grad()
def _try(network: nn.Module, name: str, shape: tuple[int, ...], device: torch.device) -> None:
    """Run a network in evaluation mode on noise, a third of whose columns and the middle is sampled."""
    coils, height, width = shape
    column = torch.arange(width)
    mask = ((column % 3 == 0) | ((column - width // 2).abs() < max(2, width // 12))).reshape(1, 1, 1, width, 1)
    kspace = torch.randn(1, coils, height, width, 2, generator=torch.Generator().manual_seed(0)) * mask
    given = kspace.to(device), mask.to(device)
    before = _random_states(device)
    try:
        found = network(*(value.clone() for value in given))
        inputs = tuple(value.clone() for value in given)
        network(*inputs)
        network(inputs[0])
    except Exception as error:  # whatever somebody's network raises
        what = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        adapt = f"{ADAPT}, and mask=None lets it do without the mask"
        raise ValueError(
            f"network: expected {name} to map k-space {[1, *shape, 2]} with or without a mask {[1, 1, 1, width, 1]} to "
            f"an image, found {what}; {adapt}"
        ) from error
    expected = [1, 1, height, width]
    if not isinstance(found, Tensor) or found.dtype != torch.float32 or list(found.shape) != expected:
        what = f"{found.dtype} {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"network: expected {name} to give images, torch.float32 {expected}, found {what}; {ADAPT}")
    if found.device != given[0].device:
        raise ValueError(f"network: expected {name} to give images on {given[0].device}, found {found.device}")
    if not torch.isfinite(found).all():
        raise ValueError(f"network: expected {name} to give finite images of noise, found NaN or Inf")
    if not all(torch.equal(one, other) for one, other in zip(given, inputs, strict=True)):
        raise ValueError(f"network: expected {name} to leave k-space and mask as they are, found that it changes them")
    if not all(torch.equal(one, other) for one, other in zip(before, _random_states(device), strict=True)):
        raise ValueError(
            f"network: expected {name} to be without chance in evaluation mode, found that it draws random numbers"
        )


def _random_states(device: torch.device) -> list[Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def may_leave_unused(network: nn.Module) -> bool:
    """Whether processes that train a network together have to look for parameters without a gradient.

    Other people's networks may have some; the project's own have none, and looking takes time at each step.
    """
    return type(unwrap(network)).__module__ not in ("scripts.networks.varnet", "scripts.networks.unet")


def describe_network(network: nn.Module) -> list[dict[str, str | int | None]]:
    """For a record: the classes of which a network is made, without those of PyTorch, the network's own first.

    Returns:
        For each class: ``class``, the ``package`` that it was installed by and its ``version``, None where it belongs
        to none, the SHA-256 of its source, None where there is none, and the number of its ``modules``.
    """
    counts = Counter(type(module) for module in unwrap(network).modules())
    return [
        {"class": _full_name(kind), **_package(kind), "source_sha256": _source_sha256(kind), "modules": count}
        for kind, count in counts.items()
        if kind.__module__.partition(".")[0] != "torch"
    ]


def class_name(network: nn.Module) -> str:
    """The class of a network with its module."""
    return _full_name(type(network))


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _package(kind: type) -> dict[str, str | None]:
    """The installed package of a class; the project's own is installed under another name than its modules have."""
    top = kind.__module__.partition(".")[0]
    for name in ("mri-unlearning" if top == "scripts" else top, *_installed_as(top)):
        with contextlib.suppress(PackageNotFoundError):
            return {"package": name, "version": version(name)}
    return {"package": None, "version": None}


def _installed_as(top: str) -> Iterator[str]:
    """Names of the packages that brought a module; to ask takes seconds, so only for what was installed."""
    file = getattr(sys.modules.get(top), "__file__", None)
    if file and "site-packages" in file:
        yield from packages_distributions().get(top, [])


def _source_sha256(kind: type) -> str | None:
    try:
        return hashlib.sha256(inspect.getsource(kind).encode()).hexdigest()
    except (OSError, TypeError):
        return None


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
