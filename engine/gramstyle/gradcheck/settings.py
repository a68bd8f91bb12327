"""How finely a check looks and what it allows, with the reason for every default."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gramstyle.errors import OptionError
from gramstyle.gradcheck.report import Mode

# Relative to the input's size. The error of the extrapolation is of the order of h⁴ / 480, that
# of rounding 3 / h times a few 1e-16: they meet near 4e-3, and kinks ask for less.
STEP = 1e-3

# Below this the roundings of f, 1e-16 / h, leave too little of its difference.
SMALLEST_STEP = 1e-7

# f is taken to be right to 100 roundings of itself, and 3 / h times as much gets into the result.
ROUNDING = 300 * float(np.finfo(np.float64).eps)

# Where more than this share of a derivative may be rounding, the check says so and does not pass.
HIDDEN = 1e-2

# The extrapolation leaves 1e-9 of the derivative even where f turns over within a tenth of the
# input's size; a float32 step anywhere inside leaves 1e-7 and more.
TOLERANCE = 1e-8


@dataclass(frozen=True)
class Settings:
    """The arguments of a check, in order.

    Raises
    ------
    OptionError
        If one makes no sense.
    """

    mode: Mode
    directions: int
    eps: float
    atol: float | None
    rtol: float
    seed: int
    cotangent: Literal["random", "one"] = "random"

    def __post_init__(self) -> None:
        """Check each argument."""
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
