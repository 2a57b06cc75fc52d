"""Networks with another signature as ones that reconstruct, and the reconstruction without a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.compiler import is_compiling

from scripts.kspace.fourier import ifft2c, rss
from scripts.networks.unet import standardise
from scripts.networks.varnet import low_frequency_window, sampled_columns
from scripts.run.kinds import Count, check_arguments, list_of, one_of


class Measurement:
    """A batch of undersampled k-space in every form that a network may ask for, each made when it is asked for.

    Args:
        kspace: (B, C, H, W, 2) float.
        mask: (B, 1, 1, W, 1) bool.
    """

    def __init__(self, kspace: Tensor, mask: Tensor) -> None:
        self.kspace = kspace
        self.mask = mask

    @cached_property
    def complex_kspace(self) -> Tensor:
        """(B, C, H, W) complex."""
        return torch.view_as_complex(self.kspace.contiguous())

    @cached_property
    def coil_images(self) -> Tensor:
        """Zero-filled images of the coils, (B, C, H, W) complex."""
        return ifft2c(self.complex_kspace)

    @cached_property
    def image(self) -> Tensor:
        """Root sum of squares of the coil images, (B, 1, H, W)."""
        return rss(self.coil_images).unsqueeze(1)

    @cached_property
    def complex_maps(self) -> Tensor:
        """Coil sensitivities, (B, C, H, W) complex: images of the low frequencies over their root sum of squares."""
        images = ifft2c(self.complex_kspace * low_frequency_window(self.mask)[:, None, None, :])
        norm = rss(images).unsqueeze(1)
        return images / torch.where(norm > 0, norm, 1.0)

    @property
    def maps(self) -> Tensor:
        """Coil sensitivities, (B, C, H, W, 2)."""
        return torch.view_as_real(self.complex_maps)

    @property
    def complex_image(self) -> Tensor:
        """Coil images combined by the sensitivities, real and imaginary part as channels, (B, 2, H, W)."""
        combined = (self.complex_maps.conj() * self.coil_images).sum(dim=1)
        return torch.stack([combined.real, combined.imag], dim=1)

    @property
    def deepinv_kspace(self) -> Tensor:
        """(B, 2, C, H, W), as deepinv has it."""
        return self.kspace.movedim(-1, 1)

    @property
    def deepinv_physics(self) -> nn.Module:
        """deepinv's `MultiCoilMRI` with this mask and these sensitivities."""
        from deepinv.physics import MultiCoilMRI  # an optional package

        height, width = self.kspace.shape[2:4]
        mask = self.mask[..., 0].to(self.kspace.dtype).expand(-1, 2, height, width)
        return MultiCoilMRI(mask=mask, coil_maps=self.complex_maps, device=self.kspace.device)


INPUTS = tuple(name for name in ("kspace", "mask", *vars(Measurement)) if not name.startswith("_"))


class Adapted(nn.Module):
    """A network of another signature as one that reconstructs: k-space and mask in, magnitude images out.

    Args:
        network: The network; its weights keep their names under ``network.``, and files load with or without it.
        inputs: What it takes, in this order, by name: the attributes of :class:`Measurement`.
        output: What it returns: ``image``, magnitudes with or without a channel; ``complex_image``, complex or with
            real and imaginary part as channels or last; ``kspace`` of all coils, complex or with both parts last. Of
            several outputs the last counts.
        scale: ``none``; ``maximum``: the k-space is divided by the maximum of the zero-filled image of each sample and
            the result multiplied by it; ``standardised``: the input, which has to be ``image`` or ``complex_image``,
            has mean 0 and variance 1, which the result gets back.
        multiple: An image is padded by zeros to a multiple of this, and the result cropped; 1: as it is.
        one_by_one: Reconstruct the samples of a batch one after the other.
        fixed: Patterns of names of parameters that begin alike in every new network, by design.

    Raises:
        ValueError: A scale or a multiple that does not go with the inputs, or a pattern that matches no parameter.

    Example:
        >>> network = Adapted(nn.Conv2d(1, 1, 3, padding=1), inputs=["image"], scale="standardised")
        >>> network(torch.zeros(1, 3, 20, 18, 2)).shape
        torch.Size([1, 1, 20, 18])
    """

    def __init__(
        self,
        network: nn.Module,
        inputs: Annotated[Sequence[str], list_of(one_of(*INPUTS), 1)] = ("kspace", "mask"),
        output: Literal["image", "complex_image", "kspace"] = "image",
        scale: Literal["none", "maximum", "standardised"] = "none",
        multiple: Count = 1,
        one_by_one: bool = False,
        fixed: Sequence[str] = (),
    ) -> None:
        super().__init__()
        check_arguments(self, {"inputs": inputs, "output": output, "scale": scale, "multiple": multiple})
        images = set(inputs) <= {"image", "complex_image"}
        if (scale == "standardised" or multiple != 1) and not (images and len(inputs) == 1 and output != "kspace"):
            raise ValueError(
                "Adapted: 'scale', 'multiple': expected a network from one image to one image where an image is "
                f"standardised or padded, found inputs {list(inputs)} and output {output!r}"
            )
        self.network = network
        names = [name for name, _ in self.named_parameters()]
        for pattern in fixed:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ValueError(f"Adapted: 'fixed': expected patterns of {', '.join(names[:3])}, …, found {pattern!r}")
        self.inputs = list(inputs)
        self.output = output
        self.scale = scale
        self.multiple = multiple
        self.one_by_one = one_by_one
        self.fixed = list(fixed)

    def check_image_size(self, height: int, width: int) -> None:
        """Raise ValueError if the network says that images of this size cannot be processed."""
        check: Callable[[int, int], None] | None = getattr(self.network, "check_image_size", None)
        if check is not None:
            check(height, width)

    def forward(self, masked_kspace: Tensor, mask: Tensor | None = None) -> Tensor:
        """Reconstruct magnitude images.

        Args:
            masked_kspace: Undersampled k-space, (B, C, H, W, 2) float32, zero where not sampled.
            mask: Sampled columns, (B, 1, 1, W, 1) bool; by default those that are not all zero.

        Returns:
            Images, (B, 1, H, W) float32, in the scale of the k-space.

        Raises:
            ValueError: The network returned something that is not its ``output``.
        """
        if mask is None:
            mask = sampled_columns(masked_kspace)
        if self.one_by_one and masked_kspace.shape[0] > 1:
            parts = zip(masked_kspace.split(1), mask.split(1), strict=True)
            return torch.cat([self._reconstruct(Measurement(*part)) for part in parts])
        return self._reconstruct(Measurement(masked_kspace, mask))

    def _reconstruct(self, measured: Measurement) -> Tensor:
        if self.scale == "maximum":
            largest = measured.image.flatten(1).amax(dim=1)
            largest = torch.where(largest > 0, largest, 1.0)
            measured = Measurement(measured.kspace / largest.reshape(-1, 1, 1, 1, 1), measured.mask)
            return self._magnitude(self._outputs(measured), measured) * largest.reshape(-1, 1, 1, 1)
        return self._magnitude(self._outputs(measured), measured)

    def _outputs(self, measured: Measurement) -> Any:
        values = [getattr(measured, name) for name in self.inputs]
        if self.scale != "standardised" and self.multiple == 1:
            return self.network(*values)
        image, mean, std = standardise(values[0]) if self.scale == "standardised" else (values[0], 0.0, 1.0)
        (height, width), m = image.shape[-2:], self.multiple
        rows, columns = (height + m - 1) // m * m - height, (width + m - 1) // m * m - width
        result = _last(self.network(F.pad(image, [0, columns, 0, rows])))
        return result[..., :height, :width] * std + mean

    def _magnitude(self, outputs: Any, measured: Measurement) -> Tensor:
        found = _last(outputs)
        shape = measured.kspace.shape
        if not isinstance(found, Tensor):
            raise ValueError(f"Adapted: 'output': expected a tensor, found {type(found).__name__}")
        if self.output == "image":
            image = found
        elif self.output == "complex_image":
            image = as_complex(found).abs()
        else:
            image = rss(ifft2c(as_complex(found))).unsqueeze(1)
        if is_compiling():  # the sizes are free, and were checked before
            return image.reshape(shape[0], 1, shape[2], shape[3])
        size = (shape[0], 1, *shape[2:4])
        if image.numel() != torch.Size(size).numel() or image.shape[-2:] != size[-2:]:
            raise ValueError(
                f"Adapted: 'output': expected {self.output} that gives images of {list(size)}, found a tensor of "
                f"{list(found.shape)}"
            )
        return image.reshape(size)


def as_complex(values: Tensor) -> Tensor:
    """Complex values; of real ones the parts stand last (…, 2), or as the two channels of images (B, 2, H, W).

    Example:
        >>> as_complex(torch.ones(1, 2, 3, 4)).shape, as_complex(torch.ones(1, 5, 3, 4, 2)).shape
        (torch.Size([1, 3, 4]), torch.Size([1, 5, 3, 4]))
    """
    if values.is_complex():
        return values
    if values.shape[-1] == 2:
        return torch.view_as_complex(values.contiguous())
    if values.ndim == 4 and values.shape[1] == 2:
        return torch.complex(values[:, 0], values[:, 1])
    raise ValueError(
        f"Adapted: 'output': expected complex values, or both parts last or as two channels, found {list(values.shape)}"
    )


def _last(outputs: Any) -> Any:
    return outputs[-1] if isinstance(outputs, (list, tuple)) and outputs else outputs


class ZeroFilled(nn.Module):
    """Root-sum-of-squares of the inverse Fourier transform of the measured k-space; has no parameters."""

    def forward(self, masked_kspace: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map k-space (B, C, H, W, 2) to images (B, 1, H, W), both float32 and in one scale; no mask is needed."""
        return rss(ifft2c(torch.view_as_complex(masked_kspace))).unsqueeze(1)

    def check_image_size(self, height: int, width: int) -> None:
        """Take images of any size."""
