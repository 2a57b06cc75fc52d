"""What decides the last digits of a result: rounding of products, order of sums, and which instructions are used."""

from __future__ import annotations

import os

import torch

# any x86-64 processor has these instructions, and the libraries then take the same path on each
ANY_PROCESSOR = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41"}


def set_numerics(tf32: bool, deterministic: bool) -> None:
    """Set what decides the last digits of a result.

    Args:
        tf32: Whether single-precision convolutions and products may round their factors to TF32's 10 bits, which is
            faster on recent GPUs. PyTorch's own default is True for convolutions.
        deterministic: Whether to use algorithms alone that give the same bits in each run, and to fail where PyTorch
            has none. On a GPU that holds for the same device; on a CPU one thread works, with the instructions that
            every x86-64 processor has and without oneDNN, so that the same bits come out on any of them.

    Raises:
        RuntimeError: This process has computed already, so that the libraries have chosen their instructions.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it starts
        os.environ.update(ANY_PROCESSOR)  # read when each library computes for the first time
        torch.set_num_threads(1)
        if (found := torch.backends.cpu.get_cpu_capability()) != "DEFAULT":
            wanted = " ".join(f"{name}={value}" for name, value in ANY_PROCESSOR.items())
            raise RuntimeError(
                f"'deterministic': expected the instructions of any x86-64 processor, found {found}, which this "
                f"process has begun to use; set the variables before Python starts: {wanted}"
            )
    torch.backends.mkldnn.enabled = not deterministic  # type: ignore[assignment]
    torch.use_deterministic_algorithms(deterministic)
    # filling costs time, and nothing here reads such memory
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def numerics() -> dict[str, bool | str | int]:
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
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "onednn": torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled,
        "mkl": os.environ.get("MKL_CBWR", "as the processor"),
    }
