"""End-to-end variational network (E2E-VarNet) for undersampled multi-coil k-space.

The sampling mask varies along W alone, so data consistency needs the Fourier transform of that dimension
only. Each cascade therefore holds coil images, and transforms their rows to and fro without shifts: moving
the image's origin multiplies a frequency by a phase, which a mask leaves as it is.
"""

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling
from torch.utils.checkpoint import checkpoint

from scripts.kspace.fourier import ifft2c, rss
from scripts.networks.unet import PAD_MULTIPLE, NormUnet, check_size
from scripts.run.kinds import Channels, Pools

CACHED_VALUES = 2_500_000  # of one activation, 10 MB: a few of these fit a processor's cache


def sampled_columns(kspace: Tensor) -> Tensor:
    """Mask of the columns that hold any non-zero sample.

    Args:
        kspace: Undersampled k-space, (B, C, H, W, 2).

    Returns:
        (B, 1, 1, W, 1) bool.
    """
    return (kspace != 0).any(dim=4, keepdim=True).any(dim=2, keepdim=True).any(dim=1, keepdim=True)


def low_frequency_window(mask: Tensor) -> Tensor:
    """The fully sampled low frequencies of each mask: the longest symmetric run about the centre, at least one.

    A run of n columns begins at column (W - n + 1) // 2, and n is even unless it is one, as in fastMRI.
    Where one half of the mask is sampled to its edge, fastMRI falls back to one column; this does not.

    Args:
        mask: Sampled columns, (B, 1, 1, W, 1) bool.

    Returns:
        (B, W) bool.

    Example:
        >>> low_frequency_window(torch.tensor([1, 0, 1, 1, 1, 1, 1, 0]).reshape(1, 1, 1, 8, 1)).int()
        tensor([[0, 0, 1, 1, 1, 1, 0, 0]], dtype=torch.int32)
    """
    sampled = (mask[:, 0, 0, :, 0] != 0).to(torch.int64)
    width = sampled.shape[1]
    left = sampled[:, : width // 2].flip(1).cumprod(dim=1).sum(dim=1)
    right = sampled[:, width // 2 :].cumprod(dim=1).sum(dim=1)
    count = (2 * torch.minimum(left, right)).clamp(min=1).unsqueeze(1)
    start = torch.div(width - count + 1, 2, rounding_mode="floor")
    column = torch.arange(width, device=mask.device)
    return (column >= start) & (column < start + count)


def computed_again(part: nn.Module, *inputs: Tensor) -> Tensor:
    """A part's output; of its activations none is kept: for the gradient it is run again.

    Source: Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost (arXiv 1604.06174).
    """
    if is_compiling() or not torch.is_grad_enabled():
        return part(*inputs)
    return checkpoint(part, *inputs, use_reentrant=False, preserve_rng_state=False)


class SensitivityModel(nn.Module):
    """Estimates coil sensitivities from the fully sampled low frequencies.

    The U-Net sees one coil image as one sample. On a CPU they are taken a few at a time, so that the activations stay
    in its cache; as samples do not mix, the result is the same.

    Args:
        chans: Channels of the first layer of the U-Net.
        pools: Number of pooling layers.
        checkpoint_activations: See `VarNet`.

    Source: Sriram et al. 2020: S = dSS(CNN(F⁻¹ M_centre k)), dSS dividing by the coils' RSS.
    """

    def __init__(self, chans: int, pools: int, checkpoint_activations: bool = False) -> None:
        super().__init__()
        self.checkpoint_activations = checkpoint_activations
        self.norm_unet = NormUnet(chans, pools)
        self.cached_pixels = CACHED_VALUES // chans

    def forward(self, masked_kspace: Tensor, mask: Tensor) -> Tensor:
        """Map complex k-space (B, C, H, W) and its mask (B, 1, 1, W, 1) to sensitivities (B, C, H, W).

        The squared magnitudes of the sensitivities sum to one over the coils, or to zero where all are zero.
        """
        images = ifft2c(masked_kspace * low_frequency_window(mask)[:, None, None, :])
        maps = self.refine(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        norm = rss(maps).unsqueeze(1)
        return maps / torch.where(norm > 0, norm, 1.0)

    def refine(self, images: Tensor) -> Tensor:
        """Map complex coil images (N, H, W) to (N, H, W) by the U-Net."""
        if is_compiling():
            return self.norm_unet(images)
        at_once = images.shape[0]
        if images.device.type == "cpu":
            at_once = max(1, self.cached_pixels // (images.shape[1] * images.shape[2]))
        refined: list[Tensor] = []
        for part in images.split(at_once):
            if not torch.jit.is_scripting():  # noqa: SIM102 TorchScript must not look inside
                if self.checkpoint_activations:
                    refined.append(computed_again(self.norm_unet, part))
                    continue
            refined.append(self.norm_unet(part))
        return refined[0] if len(refined) == 1 else torch.cat(refined)


class Cascade(nn.Module):
    """One step of the variational network: soft data consistency and a learned refinement.

    With k = Fx, the update k ← k − η M (k − k₀) − F E R(E* F⁻¹ k) of Sriram et al. 2020 reads
    x ← x − F⁻¹ η M (F x − k₀) − E R(E* x) in coil images. E multiplies an image by the sensitivities, E* is
    its adjoint, R is the U-Net.
    """

    def __init__(self, chans: int, pools: int) -> None:
        super().__init__()
        self.model = NormUnet(chans, pools)
        self.dc_weight = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor, reference: Tensor, mask: Tensor, maps: Tensor, maps_conj: Tensor) -> Tensor:
        """Refine coil images.

        Args:
            images: Current coil images, (B, C, H, W) complex.
            reference: Measured samples, Fourier transform of the first images along W, (B, C, H, W) complex.
            mask: Sampled columns in the order of that transform, (B, 1, 1, W) float.
            maps: Coil sensitivities, (B, C, H, W) complex.
            maps_conj: Their complex conjugate.

        Returns:
            Coil images, (B, C, H, W) complex.
        """
        residual = torch.fft.ifft(self.dc_weight * mask * (torch.fft.fft(images) - reference))
        refined = self.model((maps_conj * images).sum(dim=1)).unsqueeze(1)
        return images - residual - maps * refined


class VarNet(nn.Module):
    """End-to-end variational network; its state-dict keys are those of `fastmri.models.VarNet`.

    Args:
        num_cascades: Number of cascades.
        sens_chans: Channels of the first layer of the sensitivity U-Net.
        sens_pools: Pooling layers of the sensitivity U-Net.
        chans: Channels of the first layer of each cascade's U-Net.
        pools: Pooling layers of each cascade's U-Net.
        checkpoint_activations: In training keep only the images between the cascades, and compute each cascade again
            for its gradient, as well as the sensitivity U-Net: less memory, the same gradients, the time of a second
            forward pass.

    The defaults are the published setting with 29,936,966 parameters.

    Source: Sriram et al., MICCAI 2020 (arXiv 2004.06688).

    Example:
        >>> network = VarNet(num_cascades=1, sens_chans=2, sens_pools=2, chans=2, pools=2)
        >>> network(torch.zeros(1, 3, 20, 18, 2)).shape
        torch.Size([1, 1, 20, 18])
    """

    def __init__(
        self,
        num_cascades: Channels = 12,
        sens_chans: Channels = 8,
        sens_pools: Pools = 4,
        chans: Channels = 18,
        pools: Pools = 4,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        self.checkpoint_activations = checkpoint_activations
        self.most_pools = max(pools, sens_pools)
        self.multiple = PAD_MULTIPLE
        self.sens_net = SensitivityModel(sens_chans, sens_pools, checkpoint_activations)
        self.cascades = nn.ModuleList(Cascade(chans, pools) for _ in range(num_cascades))

    def check_image_size(self, height: int, width: int) -> None:
        """Raise ValueError, naming found and needed size, if images of this size cannot be processed."""
        check_size(height, width, self.most_pools, self.multiple)

    def forward(self, masked_kspace: Tensor, mask: Tensor | None = None) -> Tensor:
        """Reconstruct magnitude images.

        Args:
            masked_kspace: Undersampled k-space, (B, C, H, W, 2) float32, zero where not sampled.
            mask: Sampled columns, (B, 1, 1, W, 1) bool; by default those that are not all zero.

        Returns:
            Root-sum-of-squares images, (B, 1, H, W) float32, in the scale of the k-space.

        Raises:
            ValueError: the image is too small for the pooling layers.
        """
        self.check_image_size(masked_kspace.shape[2], masked_kspace.shape[3])
        if mask is None:
            mask = sampled_columns(masked_kspace)
        kspace = torch.view_as_complex(masked_kspace)
        maps = self.sens_net(kspace, mask)
        maps_conj = maps.conj().resolve_conj()
        images = ifft2c(kspace)
        reference = torch.fft.fft(images)
        columns = torch.fft.ifftshift(mask[..., 0] != 0, dim=[-1]).to(images.real.dtype)
        for cascade in self.cascades:
            if not torch.jit.is_scripting():  # noqa: SIM102 TorchScript must not look inside
                if self.checkpoint_activations:
                    images = computed_again(cascade, images, reference, columns, maps, maps_conj)
                    continue
            images = cascade(images, reference, columns, maps, maps_conj)
        return rss(images).unsqueeze(1)
