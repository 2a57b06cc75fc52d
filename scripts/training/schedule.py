"""What a training is called, how long it lasts, and what is said at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.data.volumes import Volume
from scripts.run import command_of, tell
from scripts.run.config import bundle_root, config_files, running_config


def model_name(oracle: bool, forget_only: bool, share: float = 1.0) -> str:
    """Name of the weights: ``oracle`` (trained without the forget set), ``forget_only`` or ``original``.

    Weights that are trained on a share of the patients below 1 are a ``reference``.
    """
    if share < 1:
        return "reference"
    return "oracle" if oracle else "forget_only" if forget_only else "original"


def steps_per_epoch(volumes: Sequence[Volume], batch_size: int) -> int:
    """Steps in which every slice of some volumes is read once, the last batch possibly smaller.

    The training data of the original also set the length of the oracle's epochs, so that both are trained equally long.
    """
    return -(-sum(volume.num_slices for volume in volumes) // batch_size)


CALLED = {
    "oracle": "oracle, which never saw the scans to forget,",
    "forget_only": "network that saw the forget set alone",
    "reference": "reference on a share of the patients",
    "prior": "prior on generic images alone",
}


def conclude_training(record: Mapping[str, Any], output_dir: str, name: str) -> None:
    """End a training: say what was trained, where it is and what comes next.

    Args:
        record: The facts of the run, see :class:`scripts.training.RunRecord`.
        output_dir: The folder of the weights.
        name: What the training is called, see :func:`model_name`.
    """
    scans = sum(len(part["volumes"]) for part in record["data"].values())
    given = {key: running_config().get(key) for key in ("datalist", "forget_request")}
    given = {key: value for key, value in given.items() if isinstance(value, str) and not value.startswith("$")}
    path = f"{output_dir}/{name}.pt"
    key = {"original": "weights", "prior": "prior", "oracle": "oracle_weights"}.get(name)
    then = [] if key is None else [("Next", command_of("unlearn", *_network_overlays(), **given, **{key: path}))]
    tell(
        f"Trained the {CALLED.get(name, name)} {f'on {scans} scans ' if scans else ''}in {record['cost']['epochs']} "
        f"epochs and {record['cost']['seconds'] / 60:.1f} minutes.",
        path,
        then,
    )


def _network_overlays() -> list[str]:
    """The overlays of this run that the next one needs as well: those that name a network, and the user's own."""
    configs = Path(bundle_root(), "configs").resolve()
    files = [Path(file).resolve() for file in config_files()[1:]]
    shared = (configs / "networks", configs / "paper.yaml")
    return [str(f) for f in files if not f.is_relative_to(configs) or any(f.is_relative_to(one) for one in shared)]
