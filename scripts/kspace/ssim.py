"""The SSIM map that the reconstruction loss and the evaluation share."""

import torch
from torch import Tensor

SSIM_WINDOW = 7
SSIM_K1, SSIM_K2 = 0.01, 0.03


def ssim_map(target: Tensor, prediction: Tensor, data_range: Tensor) -> Tensor:
    """SSIM at every position where the 7x7 uniform window lies inside the image.

    Args:
        target: Images, (B, 1, h, w), real.
        prediction: The same shape and dtype.
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
