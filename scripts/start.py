"""How every verb begins."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import ignite.distributed as idist
import torch
from monai.utils import set_determinism

from scripts.files import check_disk_space
from scripts.run_config import check_overrides
from scripts.training import processes

OUTPUT_BYTES = 50_000_000  # log, TensorBoard, tables and pictures


def begin(seed: int, several: bool = False) -> None:
    """Refuse unknown override keys, seed every generator and make errors end in their own message.

    Args:
        seed: the same in every process.
        several: join the other processes that torchrun started.

    Raises:
        RuntimeError: processes of torchrun and ``several`` do not go together.
    """
    if several:
        processes.join()
    else:
        processes.check_single()
    check_overrides()
    set_determinism(seed)
    sys.excepthook = _cause_last


@idist.one_rank_only()
def open_log(path: str | Path, network: torch.nn.Module | None = None, copies: int = 3) -> None:
    """Log to a file as well, once all checks have passed.

    Args:
        path: the log file, in the folder of the outputs; it is appended to.
        network: its size tells how much disk the weights need.
        copies: of the weights, temporary ones included.

    Raises:
        OSError: not enough disk for the outputs.
    """
    weights = 0 if network is None else sum(t.nbytes for t in network.state_dict().values())
    check_disk_space(Path(path).parent, OUTPUT_BYTES + copies * weights)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)


def own_error(error: BaseException) -> BaseException:
    """The error below MONAI's wrappers, which only say which expression or component of a config failed."""
    while error.__cause__ is not None and str(error).startswith("Failed to "):
        error = error.__cause__
    return error


def _cause_last(kind: type[BaseException], error: BaseException, traceback) -> None:
    """Print the traceback as usual, then the error that MONAI wrapped."""
    sys.__excepthook__(kind, error, traceback)
    cause = own_error(error)
    if cause is not error:
        print(f"\n{type(cause).__name__}: {cause}", file=sys.stderr)
