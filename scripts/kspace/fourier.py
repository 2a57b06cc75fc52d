"""Centred Fourier transforms and coil combination. Every function also compiles with `torch.jit.script`."""

import torch
from torch import Tensor


def fft2c(x: Tensor) -> Tensor:
    """Centred orthonormal 2-D Fourier transform: image to k-space.

    The origin of both domains is at index `(H // 2, W // 2)`.

    Args:
        x: Complex images, (..., H, W).

    Returns:
        Complex k-space, (..., H, W).

    Example:
        >>> fft2c(torch.ones(4, 4, dtype=torch.complex64))[2, 2]
        tensor(4.+0.j)
    """
    x = torch.fft.ifftshift(x, dim=[-2, -1])
    return torch.fft.fftshift(torch.fft.fft2(x, norm="ortho"), dim=[-2, -1])


def ifft2c(x: Tensor) -> Tensor:
    """Centred orthonormal 2-D inverse Fourier transform: k-space to image, inverse and adjoint of `fft2c`.

    Args:
        x: Complex k-space, (..., H, W).

    Returns:
        Complex images, (..., H, W).
    """
    x = torch.fft.ifftshift(x, dim=[-2, -1])
    return torch.fft.fftshift(torch.fft.ifft2(x, norm="ortho"), dim=[-2, -1])


def mirrored(x: Tensor, dim: int = -1) -> Tensor:
    """Reverse a dimension of n values about its origin, index `n // 2`; the transform of the mirrored is mirrored.

    Example:
        >>> mirrored(torch.arange(5)), mirrored(torch.arange(4))
        (tensor([4, 3, 2, 1, 0]), tensor([0, 3, 2, 1]))
    """
    return x.flip([dim]).roll(1 - x.shape[dim] % 2, dim)


def sqrt_or_zero(x: Tensor) -> Tensor:
    """Square root of a non-negative tensor whose gradient at zero is zero instead of infinite; NaN stays NaN.

    Example:
        >>> x = torch.tensor([0.0, 4.0], requires_grad=True)
        >>> sqrt_or_zero(x).sum().backward()
        >>> x.grad
        tensor([0.0000, 0.2500])
    """
    zero = x == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, x).sqrt())


def rss(x: Tensor, dim: int = 1) -> Tensor:
    """Root-sum-of-squares combination of coil images; its gradient is finite where every coil is zero.

    Args:
        x: Complex coil images, (B, C, H, W) with the coils in dimension `dim`.
        dim: The dimension of the coils.

    Returns:
        Real magnitude images without the dimension `dim`, (B, H, W).

    Source: Roemer et al., Magn. Reson. Med. 16 (1990).
    """
    return sqrt_or_zero((x.real.square() + x.imag.square()).sum(dim))


def center_crop(x: Tensor, shape: tuple[int, int]) -> Tensor:
    """Central part of the last two dimensions, as a view.

    Args:
        x: Images, (..., H, W).
        shape: Height and width to keep, in pixels.

    Returns:
        (..., height, width).

    Raises:
        ValueError: the images are smaller than `shape`.

    Example:
        >>> center_crop(torch.arange(5).expand(3, 5), (1, 3))
        tensor([[1, 2, 3]])
    """
    height, width = shape
    found_height, found_width = x.shape[-2], x.shape[-1]
    if not (0 < height <= found_height and 0 < width <= found_width):
        raise ValueError(f"cannot crop images of {found_height} x {found_width} pixels to {height} x {width}")
    top, left = (found_height - height) // 2, (found_width - width) // 2
    return x[..., top : top + height, left : left + width]


def crop_like(x: Tensor, reference: Tensor) -> Tensor:
    """Central part of images (..., H, W), of the size (h, w) of the reference images (..., h, w); see `center_crop`."""
    return center_crop(x, (reference.shape[-2], reference.shape[-1]))
