"""One slice through the network, or, where that fails, a zero-filled image that says so."""

from __future__ import annotations

import logging

import numpy as np
import torch

from scripts.inference.kspace_slices import network_input
from scripts.inference.raw_volume import nonzero_columns
from scripts.kspace.fourier import center_crop
from scripts.networks import ZeroFilled

FALL_BACK = "zero-filled, not the network's image: the network failed"
logger = logging.getLogger(__name__)


class SliceNetwork:
    """Reconstructs k-space slice by slice, as the evaluator of file inference does.

    Args:
        network: The network, in evaluation mode from now on.
        device: The device on which it is.
    """

    def __init__(self, network: torch.nn.Module, device: torch.device) -> None:
        self.network, self.device = network.to(device).eval(), device

    @torch.no_grad()
    def __call__(self, kspace: np.ndarray, crop: tuple[int, int], source: str) -> tuple[np.ndarray, str]:
        """Reconstruct one slice.

        Args:
            kspace: (C, H, W) complex64.
            crop: Size (h, w) of the image.
            source: Named in the log.

        Returns:
            Image (h, w) float32; "" or, where it is the fall-back, what to say about it.
        """
        item = network_input(kspace, nonzero_columns(kspace))
        masked, mask = (item[key][None].to(self.device) for key in ("masked_kspace", "mask"))
        try:
            image = _cropped(self.network(masked, mask), crop)
            if not np.isfinite(image).all():
                raise ValueError("the network's image: expected finite values, found NaN or Inf")
            return image, ""
        except Exception:  # whatever it is: a scan never ends without an image
            logger.exception("%s: the network failed; the image is zero-filled", source)
        return _cropped(ZeroFilled()(masked.cpu()), crop), FALL_BACK


def _cropped(images: torch.Tensor, crop: tuple[int, int]) -> np.ndarray:
    return center_crop(images[0], crop)[0].float().cpu().numpy()
