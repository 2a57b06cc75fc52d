"""How a GPU computes: rounding of products and order of sums."""

from __future__ import annotations

import os

import torch


def set_numerics(tf32: bool, deterministic: bool) -> None:
    """Set what decides the last digits on a GPU; on a CPU only ``deterministic`` acts.

    Args:
        tf32: Whether single-precision convolutions and products may round their factors to TF32's 10 bits, which is
            faster on recent GPUs. PyTorch's own default is True for convolutions.
        deterministic: Whether to use algorithms alone that give the same bits in each run on the same device, and to
            fail where PyTorch has none. cuDNN's choice of algorithms is deterministic in any case.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it starts
    torch.use_deterministic_algorithms(deterministic)
    # filling costs time, and nothing here reads such memory
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def numerics() -> dict[str, bool]:
    """The settings in force, for the record of a run.

    Example:
        >>> set_numerics(tf32=False, deterministic=False)
        >>> numerics()["cudnn_tf32"]
        False
    """
    return {
        "matmul_tf32": torch.backends.cuda.matmul.allow_tf32,
        "cudnn_tf32": torch.backends.cudnn.allow_tf32,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
    }
