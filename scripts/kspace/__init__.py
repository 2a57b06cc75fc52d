"""Physics as pure functions: centred FFT, root sum of squares, SSIM, sampling masks; one of each."""

from scripts.kspace import masks as masks
