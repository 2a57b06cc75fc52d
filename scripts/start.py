"""How every verb begins."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import torch
from monai.utils import set_determinism

from scripts.files import check_disk_space
from scripts.run_config import check_overrides

OUTPUT_BYTES = 50_000_000  # log, TensorBoard, tables and pictures


def begin(seed: int) -> None:
    """Refuse unknown override keys, seed every generator and make errors end in their own message."""
    check_overrides()
    set_determinism(seed)
    sys.excepthook = _cause_last


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


def _cause_last(kind: type[BaseException], error: BaseException, traceback) -> None:
    """Print the traceback as usual, then the error at its root: MONAI wraps it in the expression that failed."""
    sys.__excepthook__(kind, error, traceback)
    root = error
    while root.__cause__ is not None:
        root = root.__cause__
    if root is not error:
        print(f"\n{type(root).__name__}: {root}", file=sys.stderr)
