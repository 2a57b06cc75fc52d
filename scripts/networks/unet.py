"""The fastMRI baseline U-Net, with its two uses: the regulariser of VarNet and a network of its own."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.kspace.fourier import ifft2c, rss
from scripts.networks.norm_relu import NormLeakyRelu
from scripts.networks.precision import Conv2d, ConvTranspose2d, lowered
from scripts.run.kinds import Channels, Pools

PAD_MULTIPLE = 16  # NormUnet pads to multiples of this, whatever its number of pooling layers


def minimum_size(pools: int, multiple: int = 1) -> tuple[int, int]:
    """Smallest image whose bottleneck keeps two pixels, as instance normalisation needs.

    Args:
        pools: Number of pooling layers, each halving the image.
        multiple: The image is padded to a multiple of this before (16 in VarNet).

    Returns:
        Pixels needed in the shorter and in the longer side.

    Example:
        >>> minimum_size(pools=4), minimum_size(pools=4, multiple=16)
        ((16, 32), (1, 17))
    """
    shorter = ((1 << pools) - 1) // multiple * multiple + 1
    longer = ((2 << pools) - 1) // multiple * multiple + 1
    return shorter, max(2, longer)


def check_size(height: int, width: int, pools: int, multiple: int = 1) -> None:
    """Raise ValueError if an image is smaller than `minimum_size`."""
    shorter, longer = minimum_size(pools, multiple)
    if min(height, width) < shorter or max(height, width) < longer:
        raise ValueError(
            f"image of {height} x {width} pixels is too small for {pools} pooling layers: "
            f"the shorter side needs at least {shorter} and the longer at least {longer} pixels"
        )


def standardise(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Zero-mean, unit-variance images; a constant image becomes zero.

    Args:
        x: Images, (N, C, H, W), each channel of each sample by itself.

    Returns:
        Standardised images (N, C, H, W), mean and standard deviation (N, C, 1, 1).
    """
    mean = x.mean(dim=(-2, -1), keepdim=True)
    centred = x - mean
    # the norm's gradient at zero is zero; it is several times faster than `var`
    std = torch.linalg.vector_norm(centred, dim=(-2, -1), keepdim=True) / (x.shape[-2] * x.shape[-1] - 1) ** 0.5
    return centred / torch.where(std > 0, std, 1.0), mean, std


def average_pool(x: Tensor) -> Tensor:
    """Mean of every 2 x 2 pixels, (N, C, H, W) to (N, C, H // 2, W // 2).

    A convolution: on a CPU two to four times faster than `avg_pool2d`, which is not vectorised.
    """
    weight = torch.full([x.shape[1], 1, 2, 2], 0.25, dtype=x.dtype, device=x.device)
    return F.conv2d(x, weight, stride=2, groups=x.shape[1])


class ConvBlock(nn.Module):
    """Two 3x3 convolutions, each with instance normalisation, leaky ReLU and dropout."""

    def __init__(self, in_chans: int, out_chans: int, drop_prob: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Conv2d(in_chans, out_chans, kernel_size=3, padding=1, bias=False),
            NormLeakyRelu(),
            nn.Dropout2d(drop_prob),
            nn.Identity(),  # the second convolution keeps fastMRI's place, and so its name
            Conv2d(out_chans, out_chans, kernel_size=3, padding=1, bias=False),
            NormLeakyRelu(),
            nn.Dropout2d(drop_prob),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_chans, H, W) to (N, out_chans, H, W)."""
        return self.layers(x)


class TransposeConvBlock(nn.Module):
    """2x2 transposed convolution of stride 2 with instance normalisation and leaky ReLU."""

    def __init__(self, in_chans: int, out_chans: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            ConvTranspose2d(in_chans, out_chans),
            NormLeakyRelu(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_chans, H, W) to (N, out_chans, 2H, 2W)."""
        return self.layers(x)


class Unet(nn.Module):
    """U-Net of the fastMRI baseline; the state-dict keys are those of `fastmri.models.Unet`.

    Args:
        in_chans: Channels of the input.
        out_chans: Channels of the output.
        chans: Channels of the first layer, doubled by every pooling layer.
        pools: Number of pooling layers.
        drop_prob: Dropout probability of whole channels.
        odd_sizes: Accept any size; False saves a copy where sizes are multiples of 2**pools.

    Attributes:
        precision: `fp32`, `bf16` or `fp16`, in which it computes; see `scripts.networks.at_precision`.

    Source: Zbontar et al., fastMRI (arXiv 1811.08839); Ronneberger et al., MICCAI 2015.

    Example:
        >>> Unet(in_chans=2, out_chans=1, chans=4, pools=2)(torch.zeros(3, 2, 9, 14)).shape
        torch.Size([3, 1, 9, 14])
    """

    def __init__(
        self,
        in_chans: int,
        out_chans: int,
        chans: int = 32,
        pools: int = 4,
        drop_prob: float = 0.0,
        odd_sizes: bool = True,
    ) -> None:
        super().__init__()
        self.odd_sizes = odd_sizes
        self.precision = "fp32"
        widths = [chans * 2**level for level in range(pools + 1)]
        self.down_sample_layers = nn.ModuleList(
            ConvBlock(before, after, drop_prob)
            for before, after in zip([in_chans, *widths[:-2]], widths[:-1], strict=True)
        )
        self.conv = ConvBlock(widths[-2], widths[-1], drop_prob)
        self.up_conv = nn.ModuleList(ConvBlock(2 * width, width, drop_prob) for width in reversed(widths[:-1]))
        self.up_transpose_conv = nn.ModuleList(TransposeConvBlock(2 * width, width) for width in reversed(widths[:-1]))
        self.up_conv[-1] = nn.Sequential(self.up_conv[-1], Conv2d(chans, out_chans, kernel_size=1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_chans, H, W) to (N, out_chans, H, W), dtype of the input."""
        given = x.dtype
        x = lowered(x, self.precision)
        skips: list[Tensor] = []
        for layer in self.down_sample_layers:
            x = layer(x)
            skips.append(x)
            x = average_pool(x)
        x = self.conv(x)
        for upsample, layer in zip(self.up_transpose_conv, self.up_conv):  # noqa: B905 TorchScript has no strict
            skip = skips.pop()
            x = upsample(x)
            if self.odd_sizes:  # pooling dropped the last row or column of an odd size: mirror it back
                rows, columns = skip.shape[-2] - x.shape[-2], skip.shape[-1] - x.shape[-1]
                x = F.pad(x, [0, columns, 0, rows], mode="reflect")
            x = layer(torch.cat([x, skip], dim=1))
        return x.to(given)


class NormUnet(nn.Module):
    """U-Net on complex images, standardised before and restored after: the network inside VarNet.

    Real and imaginary parts are two channels, standardised each by itself (unbiased variance), then
    zero-padded on both sides to multiples of 16 pixels. A zero image stays zero.

    Args:
        chans: Channels of the first layer of the U-Net.
        pools: Number of pooling layers.

    Source: Sriram et al., MICCAI 2020 (arXiv 2004.06688).
    """

    def __init__(self, chans: int, pools: int) -> None:
        super().__init__()
        self.multiple = PAD_MULTIPLE
        odd_sizes = PAD_MULTIPLE % 2**pools != 0
        self.unet = Unet(in_chans=2, out_chans=2, chans=chans, pools=pools, odd_sizes=odd_sizes)

    def forward(self, x: Tensor) -> Tensor:
        """Map complex images (N, H, W) to complex images (N, H, W)."""
        height, width = x.shape[-2], x.shape[-1]
        # contiguous: the strides of the view would make every layer run channels-last
        channels, mean, std = standardise(torch.view_as_real(x).permute(0, 3, 1, 2).contiguous())
        rows = (height + self.multiple - 1) // self.multiple * self.multiple - height
        columns = (width + self.multiple - 1) // self.multiple * self.multiple - width
        top, left = rows // 2, columns // 2
        channels = self.unet(F.pad(channels, [left, columns - left, top, rows - top]))
        channels = F.pad(channels, [-left, left - columns, -top, top - rows]) * std + mean
        return torch.view_as_complex(channels.permute(0, 2, 3, 1).contiguous())


class ReconUnet(nn.Module):
    """U-Net baseline: the zero-filled image, standardised per sample, through one U-Net.

    Args:
        chans: Channels of the first layer of the U-Net.
        pools: Number of pooling layers.
        drop_prob: Dropout probability of whole channels.

    Source: Zbontar et al., fastMRI (arXiv 1811.08839).
    """

    def __init__(self, chans: Channels = 32, pools: Pools = 4, drop_prob: float = 0.0) -> None:
        super().__init__()
        self.pools = pools
        self.unet = Unet(in_chans=1, out_chans=1, chans=chans, pools=pools, drop_prob=drop_prob)

    def check_image_size(self, height: int, width: int) -> None:
        """Raise ValueError, naming found and needed size, if images of this size cannot be processed."""
        check_size(height, width, self.pools)

    def forward(self, masked_kspace: Tensor, mask: Tensor | None = None) -> Tensor:
        """Reconstruct magnitude images.

        Args:
            masked_kspace: Undersampled k-space, (B, C, H, W, 2) float32.
            mask: Unused; the networks' common signature.

        Returns:
            Images, (B, 1, H, W) float32, in the scale of the k-space.

        Raises:
            ValueError: the image is too small for the pooling layers.
        """
        self.check_image_size(masked_kspace.shape[2], masked_kspace.shape[3])
        image, mean, std = standardise(rss(ifft2c(torch.view_as_complex(masked_kspace))).unsqueeze(1))
        return self.unet(image) * std + mean


def compiled(network: nn.Module) -> nn.Module:
    """Compile every U-Net inside a network, in place; weights, keys and the network's type stay.

    The Fourier transforms and complex products around them stay eager: TorchInductor has no complex code. The first
    pass of each mode (training, evaluation) takes the compiler's time, about a minute; a C++ compiler (CPU) or Triton
    (GPU) is needed. Copies of the network run eagerly.

    Args:
        network: e.g. `VarNet` or `ReconUnet`.

    Returns:
        The same network.

    Raises:
        ValueError: There is nothing to compile: only the project's own U-Nets are known to be worth it.

    Example:
        >>> network = compiled(Unet(in_chans=2, out_chans=1, chans=2, pools=1))
        >>> list(network.state_dict())[0]
        'down_sample_layers.0.layers.0.weight'
    """
    unets = [module for module in network.modules() if isinstance(module, Unet)]
    if not unets:
        raise ValueError(f"compile: expected a network with the project's U-Nets, found {type(network).__name__}")
    for unet in unets:
        unet.compile()
    return network
