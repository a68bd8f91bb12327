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

# The default α times the number of pixels. Differs from Gatys et al. (2015), who keep α/β: their
# content loss is a sum over positions and their style loss is not, so with one α the style fades as
# images grow.
ALPHA_PIXELS = 50.0
# The same for a normalised network, whose responses are about 1: the content loss is proportional
# to their square, the style loss to their fourth power. Both constants were chosen by eye.
ALPHA_PIXELS_NORMALISED = 0.01


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
    init, pooling, padding
        The default start, pooling and padding.

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
    init: str
    pooling: Pooling
    padding: Padding = "zeros"


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

# None: the paper's formulas. Differs from Gatys et al. (2015), who start from noise: a start from
# the content image needs fewer iterations for a clean result.
CONVENTIONS: Mapping[str | None, Convention] = MappingProxyType(
    {None: replace(PAPER, init="content"), "paper": PAPER, "author": AUTHOR}
)
