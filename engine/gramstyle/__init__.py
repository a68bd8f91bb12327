"""gramstyle: a photograph in the style of a painting, by explicit gradients.

"A Neural Algorithm of Artistic Style" (Gatys, Ecker, Bethge, arXiv 1508.06576) without a
deep-learning framework: VGG-19 runs forward in ONNX Runtime, a backward pass derived by hand
carries the paper's gradients to the pixels, SciPy's L-BFGS-B moves them.
"""

import logging

from gramstyle.errors import (
    GramstyleError,
    ImageError,
    ModelError,
    NonFiniteError,
    OptionError,
    RuntimeMissingError,
)
from gramstyle.gradcheck import (
    Checked,
    GradientCheckError,
    GradientMismatchError,
    check_gradient,
    check_vjp,
)
from gramstyle.run.open_model import OpenModel, open_model
from gramstyle.run.options import Options
from gramstyle.run.progress import Losses, Progress, Record, Result
from gramstyle.run.reconstruct import reconstruct_content, reconstruct_style
from gramstyle.run.transfer import transfer

# A program that configures no logging sees nothing of the logger "gramstyle".
logging.getLogger("gramstyle").addHandler(logging.NullHandler())

__all__ = [
    "Checked",
    "GradientCheckError",
    "GradientMismatchError",
    "GramstyleError",
    "ImageError",
    "Losses",
    "ModelError",
    "NonFiniteError",
    "OpenModel",
    "OptionError",
    "Options",
    "Progress",
    "Record",
    "Result",
    "RuntimeMissingError",
    "check_gradient",
    "check_vjp",
    "open_model",
    "reconstruct_content",
    "reconstruct_style",
    "transfer",
]
