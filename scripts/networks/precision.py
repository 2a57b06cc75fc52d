"""Half precision where it pays: inside the U-Nets."""

from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


class Conv2d(nn.Conv2d):
    """Convolution in the precision of its input; the weights stay as they are, and so do their gradients."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W'), dtype of the input."""
        bias = self.bias
        return self._conv_forward(input, self.weight.to(input.dtype), bias if bias is None else bias.to(input.dtype))


class ConvTranspose2d(nn.ConvTranspose2d):
    """2x2 transposed convolution of stride 2 without bias, in the precision of its input, as :class:`Conv2d`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=2, stride=2, bias=False)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, 2H, 2W), dtype of the input."""
        return nn.functional.conv_transpose2d(input, self.weight.to(input.dtype), stride=2)


def lowered(x: Tensor, precision: str) -> Tensor:
    """A tensor in a precision; ``fp32`` leaves it as it is, double precision too."""
    if precision == "bf16":
        return x.to(torch.bfloat16)
    if precision == "fp16":
        return x.to(torch.float16)
    return x


def is_half(x: Tensor) -> bool:
    """Whether a tensor is in half precision, of either kind."""
    return x.dtype == torch.bfloat16 or x.dtype == torch.float16


def at_precision(network: Network, precision: str, device: torch.device | str = "cpu") -> Network:
    """Set the precision in which the U-Nets inside a network compute, in place.

    Convolutions and activations of the U-Nets are in half precision. Fourier transforms, data consistency,
    standardisation and the sums of the normalisations stay in single precision, and so do the weights, their
    gradients, the loss and the metrics.

    Args:
        network: e.g. `VarNet` or `ReconUnet`; its weights and keys stay, and copies keep the precision.
        precision: `fp32`, `bf16`, or `fp16`, which is for CUDA and trains with a scaled loss.
        device: Where the network will run.

    Returns:
        The same network.

    Raises:
        ValueError: `fp16` without CUDA, or half precision for a network without a U-Net.

    Example:
        >>> from scripts.networks import Unet
        >>> network = at_precision(Unet(in_chans=2, out_chans=1, chans=2, pools=1), "bf16")
        >>> network.precision, network(torch.zeros(1, 2, 4, 4)).dtype
        ('bf16', torch.float32)
    """
    if precision == "fp16" and torch.device(device).type != "cuda":
        raise ValueError(f"precision: 'fp16' needs a CUDA device, found {device!r}; expected fp32 or bf16 there")
    unets = [module for module in network.modules() if hasattr(module, "precision")]
    if not unets and precision != "fp32":
        raise ValueError(f"precision: {precision!r} needs a network with U-Nets, found {type(network).__name__}")
    for unet in unets:
        setattr(unet, "precision", precision)  # noqa: B010 a module's plain attribute
    return network
