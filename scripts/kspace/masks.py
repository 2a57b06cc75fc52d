"""Cartesian undersampling masks: which k-space columns are measured.

The three patterns are those of fastMRI (Zbontar et al. 2018, arXiv 1811.08839; Muckley et al. 2021):
columns of a fully sampled centre, and outside it a pattern that gives each class its name.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from scripts.run.kinds import above, check_arguments, within


class ColumnMask:
    """Base of the masks: the fully sampled centre, and the checks.

    Args:
        acceleration: Nominal undersampling factor R, above 1.
        center_fraction: Share of the columns, around the centre, that is always measured.

    Raises:
        ValueError: settings out of range.
    """

    def __init__(
        self, acceleration: Annotated[float, above(1)], center_fraction: Annotated[float, within(0, 1)]
    ) -> None:
        check_arguments(self, {"acceleration": acceleration, "center_fraction": center_fraction})
        self.acceleration = acceleration
        self.center_fraction = center_fraction

    def __call__(self, width: int, seed: int) -> np.ndarray:
        """Draw the mask of ``width`` columns: (width,) bool, the same for the same seed."""
        self.check_width(width)
        mask = self.outside(width, np.random.default_rng(seed))
        low = self.num_center(width)
        start = (width - low + 1) // 2
        mask[start : start + low] = True
        return mask

    def num_center(self, width: int) -> int:
        """Number of columns of the fully sampled centre."""
        return round(width * self.center_fraction)

    def outside(self, width: int, rng: np.random.Generator) -> np.ndarray:
        """The pattern before the centre is added: (width,) bool."""
        raise NotImplementedError

    def check_width(self, width: int) -> None:
        """Raise ValueError where these settings cannot be met on ``width`` columns."""
        if self.num_center(width) < 1:
            raise ValueError(
                f"{self}: 'center_fraction': no centre column on {width} columns; coil sensitivities need at least "
                f"one (expected at least {0.5 / width:.4f})"
            )
        if self.acceleration > width:
            raise ValueError(f"{self}: 'acceleration': expected at most the width, {width} columns")

    def _check_budget(self, width: int) -> None:
        if self.num_center(width) * self.acceleration >= width:
            raise ValueError(
                f"{self}: on {width} columns the centre alone ({self.num_center(width)} columns) uses up the "
                f"{width / self.acceleration:.1f} columns that the acceleration allows"
            )

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}(acceleration={self.acceleration}, center_fraction={self.center_fraction})"


class RandomMask(ColumnMask):
    """Columns outside the centre drawn independently, so that 1/R of all is expected.

    >>> mask = RandomMask(acceleration=4, center_fraction=0.08)(width=320, seed=0)
    >>> mask.shape, mask.dtype.name, bool(mask[147:173].all())
    ((320,), 'bool', True)
    """

    def check_width(self, width: int) -> None:
        super().check_width(width)
        self._check_budget(width)

    def outside(self, width: int, rng: np.random.Generator) -> np.ndarray:
        low = self.num_center(width)
        return rng.uniform(size=width) < (width / self.acceleration - low) / (width - low)


class EquispacedMask(ColumnMask):
    """Every R-th column from a random offset, plus the centre: the effective rate is below R.

    >>> int(EquispacedMask(acceleration=8, center_fraction=0.04)(width=320, seed=0).sum()) > 320 // 8
    True
    """

    def outside(self, width: int, rng: np.random.Generator) -> np.ndarray:
        mask = np.zeros(width, dtype=bool)
        step = round(self.acceleration)
        mask[rng.integers(step) :: step] = True
        return mask


class EquispacedFractionMask(ColumnMask):
    """Equally spaced columns with the step widened so that, centre included, 1/R of all is measured.

    MONAI's ``EquispacedKspaceMask`` draws the same pattern.

    >>> int(EquispacedFractionMask(acceleration=8, center_fraction=0.04)(width=320, seed=0).sum())
    40
    """

    def check_width(self, width: int) -> None:
        super().check_width(width)
        self._check_budget(width)

    def outside(self, width: int, rng: np.random.Generator) -> np.ndarray:
        low = self.num_center(width)
        step = self.acceleration * (low - width) / (low * self.acceleration - width)
        mask = np.zeros(width, dtype=bool)
        mask[np.around(np.arange(rng.integers(round(step)), width - 1, step)).astype(int)] = True
        return mask


MASKS = (RandomMask, EquispacedMask, EquispacedFractionMask)
