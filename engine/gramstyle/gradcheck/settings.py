"""The settings of a check, with the reason for every default."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gramstyle.errors import OptionError
from gramstyle.gradcheck.report import Mode

# The step, relative to the input's size. The extrapolation's error is about h⁴ / 480 and that of
# rounding a few 1e-16 times 3 / h. They are equal near 4e-3; kinks favour a smaller step.
STEP = 1e-3

# Below this step, rounding of f, 1e-16 / h, hides too much of its difference.
SMALLEST_STEP = 1e-7

# f is assumed accurate to 100 roundings; the extrapolated difference multiplies that by 3 / h.
ROUNDING = 300 * float(np.finfo(np.float64).eps)

# The largest ratio of rounding to the derivative with which a check may pass.
HIDDEN = 1e-2

# The extrapolation is accurate to 1e-9 of the derivative even if f oscillates within a tenth of
# the input's size; a float32 step anywhere inside f causes 1e-7 or more.
TOLERANCE = 1e-8


@dataclass(frozen=True)
class Settings:
    """The arguments of a check, validated.

    Raises
    ------
    OptionError
        If one is invalid.
    """

    mode: Mode
    directions: int
    eps: float
    atol: float | None
    rtol: float
    seed: int
    cotangent: Literal["random", "one"] = "random"

    def __post_init__(self) -> None:
        """Validate each argument."""
        if self.mode not in ("directional", "full"):
            raise OptionError(f"mode is {self.mode!r}; it must be 'directional' or 'full'")
        if not 0 < self.eps < math.inf:
            raise OptionError(f"eps is {self.eps}; it must be above 0")
        if not 0 <= self.rtol < 1:
            raise OptionError(f"rtol is {self.rtol}; it must be 0 or more, and below 1")
        if self.atol is not None and not 0 <= self.atol < math.inf:
            raise OptionError(f"atol is {self.atol}; it must be 0 or more")
        if self.directions < 1:
            raise OptionError(f"directions is {self.directions}; it must be 1 or more")
        if self.seed < 0:
            raise OptionError(f"seed is {self.seed}; it must be 0 or more")
