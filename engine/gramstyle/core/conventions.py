"""The two conventions for the losses: the paper's text, and its authors' released code.

The released code has means where the paper has sums, and divides each Gram matrix by M:

    (1 / (N M)) Σ (F − P)²  = 2 / (N M) · L_content     (equation 1 holds the sum and a ½)
    (1 / N²) Σ (G/M − A/M)² = 4 · E_l                   (equation 4 holds 1 / (4 N² M²))

So each loss of the code is a multiple of the paper's, and so is each gradient. A convention has two
factors, and the defaults of the weights, the start, the pooling and the padding.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from gramstyle.core.kernels import Pooling
from gramstyle.core.layers import Padding

# The layers that the paper compares: content at one, style at five.
CONTENT_LAYER = "conv4_2"
STYLE_LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")

# The factor of the default α for a normalised network, whose responses are about 1: the content
# loss is proportional to their square, the style loss to their fourth power. Chosen by eye.
NORMALISED = 1 / 5000

# The factor of each style loss, chosen by eye so that the default α and β give a result like that
# of Gram matrices.
STYLE_FACTORS = {"gram": 1.0, "mean-std": 3e4, "covariance": 1.0}


@dataclass(frozen=True, kw_only=True)
class Convention:
    """The factors of the losses, and the defaults that belong to them.

    Attributes
    ----------
    content_factor
        The factor of equations 1 and 2 at a layer with N filters and M positions.
    style_factor
        The factor of equations 4 and 6.
    layer_weight
        The default w_l of a style layer, from its N filters and the number of style layers.
    alpha
        The default α; None where it depends on the network and the image's size.
    alpha_pixels
        Where `alpha` is None, the default α times the number of pixels of the image.
    init, pooling, padding
        The default start, pooling and padding.
    first_scale
        The least longer edge of the first scale of a run, in pixels.

    Examples
    --------
    >>> from gramstyle.core.conventions import AUTHOR, PAPER
    >>> PAPER.content_factor(512, 4096), AUTHOR.content_factor(512, 4096)
    (1.0, 9.5367431640625e-07)
    >>> PAPER.layer_weight(64, 5)  # w_l of a layer with 64 filters, one of five
    0.2
    """

    content_factor: Callable[[int, int], float]
    style_factor: float
    layer_weight: Callable[[int, int], float]
    alpha: float | None
    # Differs from Gatys et al. (2015), who keep α/β: their content loss is a sum over positions and
    # their style loss is not, so with one α the style fades as images grow. Chosen by eye.
    alpha_pixels: float = 50.0
    init: str
    pooling: Pooling
    padding: Padding = "zeros"
    first_scale: int = 512


def style_factor(style_loss: str, *, normalised: bool) -> float:
    """Return the factor of a style loss, for a network that is normalised or not.

    The loss "mean-std" is proportional to the square of the responses, as the content loss is, so a
    normalised network changes its factor as it changes α.

    Examples
    --------
    >>> from gramstyle.core.conventions import style_factor
    >>> style_factor("covariance", normalised=True), style_factor("mean-std", normalised=False)
    (1.0, 30000.0)
    """
    factor = STYLE_FACTORS[style_loss]
    if style_loss == "mean-std" and normalised:
        factor *= NORMALISED
    return factor


def _one(_N: int, _M: int) -> float:
    """Return the factor 1, which leaves equation 1 as it is."""
    return 1.0


def _mean_of_squares(N: int, M: int) -> float:
    """Return the factor that turns equation 1 into Σ (F − P)² / (N M)."""
    return 2.0 / (N * M)


def _equal_shares(_N: int, layers: int) -> float:
    """Return w_l = 1 / (number of style layers)."""
    return 1.0 / layers


def _inverse_square_of_filters(N: int, _layers: int) -> float:
    """Return w_l = 1000 / N², where N is the layer's number of filters."""
    return 1e3 / N**2


PAPER = Convention(
    content_factor=_one,
    style_factor=1.0,
    layer_weight=_equal_shares,
    alpha=None,
    init="noise",
    pooling="avg",
)

# leongatys/PytorchNeuralStyleTransfer, by the paper's first author.
AUTHOR = Convention(
    content_factor=_mean_of_squares,
    style_factor=4.0,
    layer_weight=_inverse_square_of_filters,
    alpha=1.0,
    init="content",
    pooling="max",
)

# The program's own defaults, chosen by eye (docs/defaults.md), with the paper's formulas. A start
# from the content image needs fewer iterations than one from noise for a clean result. Replicated
# edges leave no frame at the border. A small first scale makes large strokes.
_OWN = replace(PAPER, alpha_pixels=24.0, init="content", padding="replicate", first_scale=160)

CONVENTIONS: Mapping[str | None, Convention] = MappingProxyType(
    {None: _OWN, "paper": PAPER, "author": AUTHOR}
)
