"""The reconstruction without a network."""

import torch
from torch import Tensor, nn

from scripts.kspace.fourier import ifft2c, rss


class ZeroFilled(nn.Module):
    """Root-sum-of-squares of the inverse Fourier transform of the measured k-space; has no parameters."""

    def forward(self, masked_kspace: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map k-space (B, C, H, W, 2) to images (B, 1, H, W), both float32 and in one scale; no mask is needed."""
        return rss(ifft2c(torch.view_as_complex(masked_kspace))).unsqueeze(1)

    def check_image_size(self, height: int, width: int) -> None:
        """Take images of any size."""
