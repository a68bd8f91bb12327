"""The options of the run: its formulas, scales, start, optimiser and engine."""

from dataclasses import dataclass
from typing import Literal, get_args

from gramstyle.core.conventions import CONVENTIONS, Convention
from gramstyle.core.kernels import Pooling
from gramstyle.core.layers import PADDINGS, Padding
from gramstyle.engines.registry import ENGINES
from gramstyle.images import Source

OptimiserName = Literal["own", "scipy"]
OPTIMISERS: tuple[OptimiserName, ...] = get_args(OptimiserName)
# Their names in files of earlier versions, in which "lbfgsb" was the default on a CPU.
EARLIER_OPTIMISERS: dict[str, OptimiserName] = {"lbfgsb": "scipy", "lbfgsb-device": "own"}

STARTS = ("noise", "content", "style")

RUN_CHOICES = {
    "convention": tuple(name for name in CONVENTIONS if name),
    "pooling": ("max", "avg"),
    "padding": PADDINGS,
    "engine": tuple(ENGINES),
    "optimiser": OPTIMISERS,
}


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options of the run.

    Attributes
    ----------
    iterations
        The maximum number of iterations of L-BFGS-B; if there are several scales, at the first.
    scales
        The number of scales of the run, each √2 times larger than the one before (see
        `gramstyle.run.plan.scales`); None uses all scales of 160 pixels or more, with the
        conventions "paper" and "author" of 512 or more.
    convention
        The formulas of the losses, and the defaults that belong to them. "paper": the paper's
        formulas, and a start from noise. "author": the formulas, weights, start and pooling of its
        authors' released code. None: the paper's formulas, and a start from the content image.
    init
        The start: "content", "style" (the first style image), "noise" (white noise, from `seed`),
        or an image; None is the convention's.
    seed
        The seed of the noise.
    pooling
        "avg", which the paper prefers, or "max", as the network was trained; None is the
        convention's.
    padding
        What the convolutions read one position outside their input: "zeros", as the network was
        trained; "replicate", the edge again; "reflect", the positions inside the edge, mirrored; or
        "circular", the opposite edge, with which copies of the result join without a seam if both
        edges are multiples of 16 pixels (docs/defaults.md). None is the convention's.
    tolerance
        The relative tolerance: the run ends early once the loss has fallen by less than this
        fraction of itself in ten iterations; 0 never ends it early.
    optimiser
        The implementation of L-BFGS-B: "own", in bounded memory, on arrays that stay where the
        gradient is computed, with a state that a checkpoint can save; or "scipy", the reference,
        in float64. None is "own".
    history
        How many past steps L-BFGS-B uses.
    engine
        The engine that computes loss and gradient, by its name in `gramstyle.engines.registry`;
        None is "cupy" on a GPU, else "winograd" if Numba is installed, else "numpy".
    tf32
        On a GPU, whether products may be rounded to TF32, which is faster.
    tile
        The edge in pixels of the tiles in which the image is computed; the result is exact. None
        computes the image whole if `memory` allows that, else in the largest tiles that fit.

    Examples
    --------
    >>> from gramstyle import Options
    >>> options = Options(iterations=200)
    >>> options.start, options.pools, options.pads
    ('content', 'avg', 'replicate')
    """

    iterations: int = 100
    scales: int | None = None
    convention: str | None = None
    init: Source | None = None
    seed: int = 0
    pooling: Pooling | None = None
    padding: Padding | None = None
    tolerance: float = 0.0
    optimiser: OptimiserName | None = None
    history: int = 10
    engine: str | None = None
    tf32: bool = False
    tile: int | None = None

    @property
    def formulas(self) -> Convention:
        """The convention, as formulas and defaults."""
        return CONVENTIONS[self.convention]

    @property
    def start(self) -> Source:
        """The start: the one given, or the convention's."""
        return self.formulas.init if self.init is None else self.init

    @property
    def pools(self) -> Pooling:
        """The pooling: the one given, or the convention's."""
        return self.formulas.pooling if self.pooling is None else self.pooling

    @property
    def pads(self) -> Padding:
        """The padding: the one given, or the convention's."""
        return self.formulas.padding if self.padding is None else self.padding


def is_named_start(start: object) -> bool:
    """Return whether a start is one of `STARTS`, not an image."""
    return isinstance(start, str) and start in STARTS
