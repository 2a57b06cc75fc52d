"""The reconstruction loss J of training, fine-tuning and unlearning, and the SSIM map it shares with evaluation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from scripts.fourier import center_crop

SSIM_WINDOW = 7
SSIM_K1, SSIM_K2 = 0.01, 0.03


def ssim_map(target: Tensor, prediction: Tensor, data_range: Tensor) -> Tensor:
    """SSIM at every position where the 7x7 uniform window lies inside the image.

    Args:
        target: images, (B, 1, h, w), real.
        prediction: the same shape and dtype.
        data_range: (B,), positive, in the images' units.

    Returns:
        (B, 1, h - 6, w - 6), dtype of the images, differentiable. Its mean over one sample is scikit-image's
        `structural_similarity` (unbiased covariance, K1 = 0.01, K2 = 0.03).

    Raises:
        ValueError: the shapes differ, or the images are smaller than the window.

    Source: Wang et al., IEEE Trans. Image Process. 13 (2004), eq. 13, with fastMRI's window.

    Example:
        >>> x = torch.rand(2, 1, 9, 8)
        >>> ssim_map(x, x, torch.ones(2)).shape
        torch.Size([2, 1, 3, 2])
    """
    # Not MONAI's compute_ssim_and_cs: its convolution is TF32 by default on recent GPUs and half precision
    # under autocast, where the differences of moments below cancel (0.79 for 0.81 in bfloat16). Nothing here
    # is lowered by autocast. A mean over unfolded windows is also faster than a convolution or pooling.
    if target.shape != prediction.shape:
        raise ValueError(f"SSIM: target is {tuple(target.shape)}, prediction is {tuple(prediction.shape)}")
    if min(target.shape[-2:]) < SSIM_WINDOW:
        height, width = target.shape[-2:]
        raise ValueError(f"SSIM: the image is {height}x{width}, smaller than the window of {SSIM_WINDOW}")
    scale = data_range.to(target).view(-1, 1, 1, 1)
    x, y = target / scale, prediction / scale
    moments = torch.cat([x, y, x * x, y * y, x * y], dim=1)
    over_rows = moments.unfold(-2, SSIM_WINDOW, 1).mean(-1)
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = over_rows.unfold(-1, SSIM_WINDOW, 1).mean(-1).split(1, dim=1)
    unbiased = SSIM_WINDOW**2 / (SSIM_WINDOW**2 - 1)
    covariance = unbiased * (mean_xy - mean_x * mean_y)
    variances = unbiased * (mean_xx - mean_x * mean_x + mean_yy - mean_y * mean_y)
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    return luminance * (2 * covariance + c2) / (variances + c2)


class ReconstructionLoss(torch.nn.Module):
    """J = ssim_weight * (1 - SSIM) + l1_weight * mean |x - y|, one value a sample, always in float32.

    The prediction is centre-cropped to the target. The trainer takes the mean over the batch.

    Args:
        ssim_weight: of 1 - SSIM, whose data range is the maximum of the sample's volume.
        l1_weight: of the l1 term, which is in the images' own units (fastMRI: maxima of about 3e-4).

    `forward` takes the prediction (B, 1, H, W), any floating dtype, and the label, a mapping with `target`
    (B, 1, h, w), h <= H, w <= W, and `max_value` (B,), the maximum of the sample's volume. It returns
    (B,) float32.

    Raises:
        ValueError: a maximum is not positive, or the target is smaller than the SSIM window or larger than
            the prediction.

    Source: Xue et al. 2024, released configuration (both weights); Sriram et al. 2020 (SSIM as the loss).

    Example:
        >>> label = {"target": torch.rand(2, 1, 8, 8), "max_value": torch.ones(2)}
        >>> loss = ReconstructionLoss()(torch.nn.functional.pad(label["target"], (2, 2)), label)
        >>> torch.allclose(loss, torch.zeros(2), atol=1e-6)
        True
    """

    def __init__(self, ssim_weight: float = 1.0, l1_weight: float = 1e-5) -> None:
        super().__init__()
        self.ssim_weight = ssim_weight
        self.l1_weight = l1_weight

    def forward(self, prediction: Tensor, label: Mapping[str, Tensor]) -> Tensor:
        target = label["target"].float()
        max_value = label["max_value"].to(target)
        if not bool((max_value > 0).all()):
            raise ValueError(f"max_value must be positive, got {max_value.tolist()}")
        prediction = center_crop(prediction.float(), target.shape[-2:])
        similarity = ssim_map(target, prediction, max_value).flatten(1).mean(1)
        distance = (prediction - target).abs().flatten(1).mean(1)
        return self.ssim_weight * (1 - similarity) + self.l1_weight * distance
