"""The reconstruction loss J of training, fine-tuning and unlearning."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from scripts.kspace.fourier import crop_like
from scripts.kspace.ssim import ssim_map
from scripts.run.kinds import NotNegative, check_arguments


class ReconstructionLoss(torch.nn.Module):
    """J = ssim_weight * (1 - SSIM) + l1_weight * mean |x - y|, one value a sample, always in float32.

    The prediction is centre-cropped to the target. The trainer takes the mean over the batch.

    Args:
        ssim_weight: The weight of 1 - SSIM. The data range of SSIM is the maximum of the sample's volume.
        l1_weight: The weight of the l1 term, which has the images' own units (fastMRI: maxima of about 3e-4).

    `forward` takes the prediction (B, 1, H, W), any floating dtype, and the label, a mapping with `target`
    (B, 1, h, w), h <= H, w <= W, and `max_value` (B,), the maximum of the sample's volume. It returns
    (B,) float32, NaN where a maximum is not positive.

    Raises:
        ValueError: the target is smaller than the SSIM window or larger than the prediction.

    Source: Xue et al. 2024, released configuration (both weights); Sriram et al. 2020 (SSIM as the loss).

    Example:
        >>> label = {"target": torch.rand(2, 1, 8, 8), "max_value": torch.ones(2)}
        >>> loss = ReconstructionLoss()(torch.nn.functional.pad(label["target"], (2, 2)), label)
        >>> torch.allclose(loss, torch.zeros(2), atol=1e-6)
        True
    """

    def __init__(self, ssim_weight: NotNegative = 1.0, l1_weight: NotNegative = 1e-5) -> None:
        super().__init__()
        check_arguments(self, {"ssim_weight": ssim_weight, "l1_weight": l1_weight})
        self.ssim_weight = ssim_weight
        self.l1_weight = l1_weight

    def forward(self, prediction: Tensor, label: Mapping[str, Tensor]) -> Tensor:
        target = label["target"].float()
        max_value = label["max_value"].to(target)
        max_value = torch.where(max_value > 0, max_value, torch.nan)  # to raise would wait for the device
        prediction = crop_like(prediction.float(), target)
        similarity = ssim_map(target, prediction, max_value).flatten(1).mean(1)
        distance = (prediction - target).abs().flatten(1).mean(1)
        return self.ssim_weight * (1 - similarity) + self.l1_weight * distance
