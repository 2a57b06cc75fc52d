"""Weights on disk: plain state dicts, written whole or not at all, read without unpickling objects."""

import io
import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from torch import Tensor, nn

from scripts.run import report_weights
from scripts.run.config import running_config
from scripts.run.files import file_sha256, json_object, write_bytes
from scripts.run.source import differing

WRAPPERS = ("module.", "_orig_mod.", "varnet.", "unet.")  # DataParallel, torch.compile, fastMRI's Lightning modules
# what fastMRI's Lightning modules hold beside the network: metric sums and the window of the SSIM loss
EXTRAS = ("NMSE.", "SSIM.", "PSNR.", "ValLoss.", "TotExamples.", "TotSliceExamples.", "loss.")
LISTED_KEYS = 10
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")  # in which torch writes bold text


def unwrap(network: nn.Module) -> nn.Module:
    """The bare network inside DistributedDataParallel, DataParallel and `torch.compile` wrappers."""
    parallel = (nn.parallel.DistributedDataParallel, nn.DataParallel)
    inner = network.module if isinstance(network, parallel) else getattr(network, "_orig_mod", None)
    return network if inner is None else unwrap(inner)


@idist.one_rank_only()
def save_weights(network: nn.Module, path: str | Path) -> None:
    """Write the bare network's state dict, first to a temporary name in the same folder, then renamed.

    Equal weights give equal bytes, so a file's digest identifies them. Of several processes the first one writes.

    Args:
        network: Bare or wrapped network, on any device; the file holds CPU tensors.
        path: File to write or replace; its folder is made if missing.
    """
    write_state({key: value.detach().cpu() for key, value in unwrap(network).state_dict().items()}, path)


def write_state(state: dict[str, Tensor], path: str | Path) -> None:
    """Write a state dict as `save_weights` does."""
    content = io.BytesIO()  # no path: torch.save would put its name into the bytes
    torch.save(state, content)
    write_bytes(path, content.getbuffer())


def load_weights(network: nn.Module, path: str | Path) -> nn.Module:
    """Load weights into a network; nothing is changed unless every key and shape fits.

    Accepts a plain state dict, a Lightning checkpoint of fastMRI (`{"state_dict": …}`, metric buffers ignored)
    and a MONAI checkpoint (`{"model": …}`).

    Args:
        network: Bare or wrapped network, on any device.
        path: File written by `torch.save`.

    Returns:
        The same network.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no checkpoint, needs unpickling of objects, or its keys, shapes, types or values do not
            fit, or the record beside it states another hash.
    """
    bare = unwrap(network)
    bare.load_state_dict(_fitting(bare, path))
    return network


def check_fit(network: nn.Module, path: str | Path) -> None:
    """Refuse weights that do not fit a network or are no finite numbers; nothing of them is kept.

    Args:
        network: Bare or wrapped network.
        path: File written by `torch.save`.

    Raises:
        FileNotFoundError, ValueError: See :func:`load_weights`.
    """
    _fitting(unwrap(network), path, report=False)


def _fitting(bare: nn.Module, path: str | Path, report: bool = True) -> dict[str, Tensor]:
    """The state dict in a file, under the keys of a bare network, after every check."""
    expected = bare.state_dict()
    state = align_keys(read_state(path, report), expected)
    _refuse_unfitting(state, expected, path, type(bare).__name__)
    _refuse_implausible(state, path)
    _refuse_other_record(Path(path))
    return state


def _refuse_unfitting(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: str | Path, network: str
) -> None:
    problems = [
        *describe("missing", sorted(expected.keys() - state.keys())),
        *describe("unexpected", sorted(state.keys() - expected.keys())),
        *describe(
            "wrong shape",
            [
                f"{key} (found {tuple(state[key].shape)}, expected {tuple(value.shape)})"
                for key, value in expected.items()
                if key in state and state[key].shape != value.shape
            ],
        ),
        *describe(
            "of another type",
            [
                f"{key} (found {state[key].dtype}, expected {value.dtype})"
                for key, value in expected.items()
                if key in state
                and (state[key].is_floating_point(), state[key].is_complex())
                != (value.is_floating_point(), value.is_complex())
            ],
        ),
    ]
    if problems:
        stated, found = differing((_record_beside(path).get("configuration") or {}).get("network"), _running_network())
        if isinstance(stated, str) and stated:
            raise ValueError(f"{path}: weights of another network: expected {stated} (its record), found {found}")
        raise ValueError(f"{path}: weights do not fit {network}: " + "; ".join(problems))


def _record_beside(path: str | Path) -> dict[str, Any]:
    return json_object(Path(path).with_suffix(".json"))


def _running_network() -> Any:
    """The network of the running configuration; None outside of a running bundle."""
    try:
        return running_config().get("network")
    except RuntimeError:
        return None


def _refuse_implausible(state: Mapping[str, Tensor], path: str | Path) -> None:
    values = [key for key, value in state.items() if not torch.isfinite(value).all()]
    if values:
        raise ValueError(f"{path}: expected tensors of finite numbers: " + describe("with NaN or Inf", values)[0])
    if not any(value.any() for value in state.values()):
        raise ValueError(f"{path}: expected the weights of a trained network, found zeros alone")


def _refuse_other_record(path: Path) -> None:
    """Refuse weights whose run record, the ``.json`` beside them, states the hash of others."""
    written = _record_beside(path).get("weights_out")
    stated = written.get("sha256") if isinstance(written, dict) else None
    if stated is not None and stated != (found := file_sha256(path)):
        raise ValueError(
            f"{path}: 'weights_out': expected SHA-256 {stated} as in {path.stem}.json, found "
            f"{found}: the weights were changed after their run, or the record is another's"
        )


def describe(problem: str, keys: list[str]) -> list[str]:
    """At most one phrase that counts and lists keys.

    Example:
        >>> describe("missing", ["a", "b"])
        ['2 missing: a, b']
    """
    listed = ", ".join(keys[:LISTED_KEYS]) + (", …" if len(keys) > LISTED_KEYS else "")
    return [f"{len(keys)} {problem}: {listed}"] if keys else []


def read_state(path: str | Path, report: bool = True) -> dict[str, Tensor]:
    """State dict inside a checkpoint file, read without unpickling objects.

    Args:
        path: The file.
        report: Whether the run is told that it read these weights; False where they are compared and not kept.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no checkpoint, or needs unpickling of objects.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such weights file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path}: not a file of tensors: it is no torch file, or holds Python objects, which are not unpickled "
            "since that may run code; save its state dict alone"
        ) from error
    except (EOFError, RuntimeError, ValueError, KeyError, OSError) as error:
        raise ValueError(f"{path}: not a readable torch file ({type(error).__name__}: {first_line(error)})") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{path}: holds no state dict but {type(content).__name__}")
    others = [str(key) for key, value in content.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if others:
        raise ValueError(f"{path}: holds no state dict: " + describe("no tensor under a name", others)[0])
    odd = [key for key, v in content.items() if v.layout != torch.strided or v.is_quantized or v.is_meta]
    if odd:
        listed = describe("sparse, quantised or without values", odd)[0]
        raise ValueError(f"{path}: expected dense tensors with values: {listed}")
    if report:
        report_weights(str(path), file_sha256(path))
    return dict(content)


def first_line(error: BaseException) -> str:
    """First line of an error's message without a terminal's escapes, or its type if it has none."""
    return ESCAPES.sub("", str(error)).strip().partition("\n")[0] or type(error).__name__


def align_keys(state: Mapping[str, Tensor], expected: Iterable[str]) -> dict[str, Tensor]:
    """Rename the keys of a checkpoint to those of a network: drop fastMRI's extras, strip or add wrappers and adapters.

    Args:
        state: State dict of a checkpoint.
        expected: Keys of the network.

    Returns:
        The state dict with keys renamed alike; keys that still do not fit are kept.
    """
    expected = set(expected)
    state = {key: value for key, value in state.items() if key in expected or not key.startswith(EXTRAS)}
    candidates = [state]
    for _ in range(2):  # e.g. module.varnet.
        for wrapper in WRAPPERS:
            if any(key.startswith(wrapper) for key in candidates[-1]):
                candidates.append({key.removeprefix(wrapper): value for key, value in candidates[-1].items()})
    candidates += [{key.removeprefix(part): value for key, value in state.items()} for part in prefixes(state)]
    candidates += [{part + key: value for key, value in c.items()} for part in prefixes(expected) for c in candidates]
    return max(candidates, key=lambda candidate: len(expected & candidate.keys()))


def prefixes(keys: Iterable[str]) -> list[str]:
    """The prefixes, each up to a dot, that all keys have in common: of an adapter or of another module around it all.

    Example:
        >>> prefixes(["network.unet.conv.weight", "network.unet.bias"])
        ['network.', 'network.unet.']
    """
    found: list[str] = []
    for parts in zip(*(key.split(".")[:-1] for key in keys), strict=False):
        if len(set(parts)) > 1:
            break
        found.append(f"{found[-1] if found else ''}{parts[0]}.")
    return found
