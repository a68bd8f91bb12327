"""Derivatives checked against differences of the function itself, for any pair of callables."""

from gramstyle.gradcheck.checks import check_gradient, check_vjp
from gramstyle.gradcheck.report import Checked, Flips, GradientCheckError, GradientMismatchError

__all__ = [
    "Checked",
    "Flips",
    "GradientCheckError",
    "GradientMismatchError",
    "check_gradient",
    "check_vjp",
]
