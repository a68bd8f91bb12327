"""Check derivatives against finite differences, for any function and its hand-derived backward."""

from gramstyle.gradcheck.checks import check_gradient, check_vjp
from gramstyle.gradcheck.forward_checks import check_hvp, check_jvp
from gramstyle.gradcheck.report import Checked, Flips, GradientCheckError, GradientMismatchError

__all__ = [
    "Checked",
    "Flips",
    "GradientCheckError",
    "GradientMismatchError",
    "check_gradient",
    "check_hvp",
    "check_jvp",
    "check_vjp",
]
