"""The options of a transfer: their defaults, and the checks of their values."""

from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import numpy as np

from gramstyle.core.conventions import CONTENT_LAYER, CONVENTIONS, STYLE_LAYERS, Convention
from gramstyle.core.kernels import Pooling
from gramstyle.engines.registry import ENGINES, default_engine
from gramstyle.engines.spec import DEVICES, DeviceName
from gramstyle.errors import OptionError
from gramstyle.images import MAX_PIXELS, Source
from gramstyle.run.coercion import check_bounds, choose, make_plain, shown

T = TypeVar("T")

OptimiserName = Literal["lbfgsb", "lbfgsb-device"]
OPTIMISERS: tuple[OptimiserName, ...] = get_args(OptimiserName)

STARTS = ("noise", "content", "style")

CHOICES = {
    "convention": tuple(name for name in CONVENTIONS if name),
    "pooling": ("max", "avg"),
    "engine": tuple(ENGINES),
    "device": DEVICES,
    "optimiser": OPTIMISERS,
}

# The least and the largest value of each whole number. No useful run needs more than the largest
# values; far larger numbers of threads, processes or rows would fill the machine.
BOUNDS = {
    "size": (1, 1_000_000),
    "iterations": (1, 1_000_000),
    "scales": (1, 100),
    "seed": (0, 2**128 - 1),  # as many bits as NumPy's own seeds
    "history": (1, 1000),
    "threads": (1, 1024),
    "tile": (1, 1_000_000),
    "memory": (1, 2**63 - 1),
    "workers": (1, 1024),
    "max_pixels": (1, 10**10),
}

# How many style images a run has at most, and at how many scales it samples each of them.
MOST_STYLES, MOST_STYLE_SCALES = 64, 16
# The largest values of the options of the style, whose least values are above 0.
STYLE_BOUNDS = {"style_blend": 1e100, "style_scale": 100.0, "style_size": 1_000_000}


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a transfer. All defaults of the program are defined here and nowhere else.

    Values whose meaning is clear become plain Python values: numbers and arrays of NumPy, lists,
    whole numbers as floats, numbers and lists as text (``"48"``, ``"conv1_1,conv2_1"``).

    Attributes
    ----------
    size
        The longer edge of the result, in pixels; the shorter one follows from the content image.
    iterations
        The maximum number of iterations of L-BFGS-B; if there are several scales, at the first.
    scales
        The number of scales of the run, each √2 times larger than the one before (see
        `gramstyle.run.scales`); None uses all scales of 512 pixels or more.
    convention
        The formulas of the losses, and the defaults that belong to them. "paper": the paper's
        formulas, and a start from noise. "author": the formulas, weights, start and pooling of its
        authors' released code. None: the paper's formulas, and a start from the content image.
    alpha, beta
        The weights α and β of equation 7. If α is None, it is 1 for the convention "author", else
        50 / (width · height), or 0.01 / (width · height) for a normalised network, of the result.
    content_layers
        The layers where content is compared.
    content_weights
        One weight for each content layer; None is 1 each.
    content_layer
        Short for `content_layers` with one layer; the constructor resets it to None.
    style_layers
        The layers where style is compared.
    style_weights
        One w_l for each style layer; None is the convention's: 1 / (number of layers), or
        1000 / N² for "author".
    style_blend
        A number above 0 for each style image: the shares of the images, whose sum may be any.
        None gives equal shares.
    style_scale
        The size of the strokes: the longer edge of the style image as a multiple of the result's.
        Several samples each style image at all of them, in equal shares. None is 1, unless
        `style_size` is given.
    style_size
        The longer edge of the style image in pixels, or several, instead of `style_scale`.
    tv
        The weight of the total variation; 0 leaves it out.
    init
        The start: "content", "style" (the first style image), "noise" (white noise, from `seed`),
        or an image; None is the convention's.
    seed
        The seed of the noise.
    pooling
        "avg", which the paper prefers, or "max", as the network was trained; None is the
        convention's.
    tolerance
        The relative tolerance: the run ends early once the loss has fallen by less than this
        fraction of itself in ten iterations; 0 never ends it early.
    history
        How many past steps L-BFGS-B uses.
    engine
        The engine that computes loss and gradient, by its name in `gramstyle.engines.registry`;
        None is "cupy" on a GPU, else "winograd" if Numba is installed, else "numpy".
    device
        Where the engine runs: "cpu", or "cuda" on an NVIDIA GPU.
    tf32
        On a GPU, whether products may be rounded to TF32, which is faster.
    optimiser
        "lbfgsb" is SciPy's; "lbfgsb-device" is the same method in bounded memory, for arrays that
        stay where the gradient is computed. None is "lbfgsb-device" on a GPU, in tiles and on a
        cluster, else "lbfgsb".
    threads
        How many processor cores to use; None uses all that the machine or the container has.
    tile
        The edge in pixels of the tiles in which the image is computed; the result is exact. None
        computes the image whole if `memory` allows that, else in the largest tiles that fit.
    memory
        The memory budget of the run, in bytes or as text like ``"2GB"``; None is three quarters of
        what the machine or the container has.
    scheduler
        The address of a Dask scheduler whose workers compute the tiles. With "tls://" it is used
        with the certificates of Dask's configuration (docs/scaling.md).
    workers
        The number of Dask workers to start on this machine, instead of a scheduler's address.
    max_pixels
        Images with more pixels are refused before they are decoded.

    Raises
    ------
    OptionError
        If a value is invalid, or options contradict each other; names the option.

    Examples
    --------
    >>> from gramstyle import Options
    >>> options = Options(size=1024, iterations=200, tv=1.0)
    >>> options.size, options.start, options.pools
    (1024, 'content', 'avg')
    >>> Options(size=0)
    Traceback (most recent call last):
        ...
    gramstyle.errors.OptionError: size must be at least 1, not 0
    """

    size: int = 512
    iterations: int = 100
    scales: int | None = None
    convention: str | None = None
    alpha: float | None = None
    beta: float = 1.0
    content_layers: tuple[str, ...] = (CONTENT_LAYER,)
    content_weights: tuple[float, ...] | None = None
    content_layer: str | None = None
    style_layers: tuple[str, ...] = STYLE_LAYERS
    style_weights: tuple[float, ...] | None = None
    style_blend: tuple[float, ...] | None = None
    style_scale: float | tuple[float, ...] | None = None
    style_size: int | tuple[int, ...] | None = None
    tv: float = 0.0
    init: Source | None = None
    seed: int = 0
    pooling: Pooling | None = None
    tolerance: float = 0.0
    history: int = 10
    engine: str | None = None
    device: DeviceName = "cpu"
    tf32: bool = False
    optimiser: OptimiserName | None = None
    threads: int | None = None
    tile: int | None = None
    memory: int | None = None
    scheduler: str | None = None
    workers: int | None = None
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        """Make the values plain, and check what needs neither images nor a network."""
        make_plain(self)
        check_bounds(self, BOUNDS)
        for name in ("alpha", "beta", "tv", "tolerance"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value >= 0):
                raise OptionError(f"{name} must be a number from 0 upwards, not {value}")
        choose(self, CHOICES)
        if self.content_layer is not None:
            if self.content_layers not in ((CONTENT_LAYER,), (self.content_layer,)):
                raise OptionError("give content_layers or content_layer, not both")
            object.__setattr__(self, "content_layers", (self.content_layer,))
            object.__setattr__(self, "content_layer", None)
        _check_layers("content", self.content_layers, self.content_weights)
        _check_layers("style", self.style_layers, self.style_weights)
        _check_style(self)
        entry = ENGINES[self.runs_on]
        if self.device not in entry.devices:
            raise OptionError(
                f"the engine {self.runs_on} does not run on {self.device}; leave --engine out, or "
                f"give --device {entry.devices[0]}"
            )
        if self.tf32 and self.device != "cuda":
            raise OptionError("tf32 is for GPUs; add --device cuda, or leave --tf32 out")
        if self.scheduler is not None and self.workers is not None:
            raise OptionError(
                "a scheduler has its own workers; give scheduler or workers, not both"
            )
        if self.on_cluster and (self.device == "cuda" or not entry.tiles):
            raise OptionError("a cluster computes tiles on CPUs; leave --device and --engine out")

    @property
    def style_scales(self) -> tuple[float, ...]:
        """The longer edges of a style image, as multiples of the result's."""
        if self.style_size is not None:
            return tuple(edge / self.size for edge in _several(self.style_size))
        return (1.0,) if self.style_scale is None else _several(self.style_scale)

    def style_shares(self, count: int) -> tuple[float, ...]:
        """Return the shares of so many style images, which add up to 1; raises OptionError."""
        blend = (1.0,) * count if self.style_blend is None else self.style_blend
        if len(blend) != count:
            images = "style image" if count == 1 else "style images"
            raise OptionError(
                f"style_blend has {len(blend)} numbers for {count} {images}; give one each"
            )
        return tuple(each / sum(blend) for each in blend)

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
    def runs_on(self) -> str:
        """The engine: the one given, or the default of this installation."""
        return default_engine(self.device) if self.engine is None else self.engine

    @property
    def minimises_by(self) -> OptimiserName:
        """The optimiser: the one given, or the one for the device and the tiles."""
        if self.optimiser is not None:
            return self.optimiser
        elsewhere = self.device == "cuda" or self.tile is not None or self.on_cluster
        return "lbfgsb-device" if elsewhere else "lbfgsb"

    @property
    def on_cluster(self) -> bool:
        """Whether a cluster computes the tiles."""
        return self.scheduler is not None or self.workers is not None


def options_or_default(options: Options | None) -> Options:
    """Return the options, or the default ones for None; raises OptionError for anything else."""
    if options is None:
        return Options()
    if not isinstance(options, Options):
        raise OptionError(f"options must be an Options(...), not {shown(options)}")
    return options


def is_named_start(start: Source) -> bool:
    """Return whether a start is one of `STARTS`, not an image."""
    return isinstance(start, str) and start in STARTS


def _check_layers(name: str, layers: tuple[str, ...], weights: tuple[float, ...] | None) -> None:
    if not layers or len(set(layers)) != len(layers):
        raise OptionError(f"{name}_layers must name at least one layer, and none twice")
    if weights is not None and len(weights) != len(layers):
        raise OptionError(
            f"there are {len(weights)} {name}_weights for {len(layers)} {name}_layers; give one "
            "each"
        )
    if not all(np.isfinite(weight) and weight >= 0 for weight in weights or ()):
        raise OptionError(f"each of {name}_weights must be a number from 0 upwards")


def _several(values: T | tuple[T, ...]) -> tuple[T, ...]:
    return values if isinstance(values, tuple) else (values,)


def _check_style(options: Options) -> None:
    """Check the options of the style that need no images."""
    for name, most in STYLE_BOUNDS.items():
        values = getattr(options, name)
        if values is None:
            continue
        items = MOST_STYLES if name == "style_blend" else MOST_STYLE_SCALES
        if not 1 <= len(values) <= items:
            raise OptionError(f"{name} must have from 1 to {items} numbers, not {len(values)}")
        for value in values:
            if not 0 < value <= most:
                raise OptionError(
                    f"each number of {name} must be above 0 and at most {most:g}, not {value:g}"
                )
        if name != "style_blend" and len(set(values)) != len(values):
            raise OptionError(f"{name} must not have the same number twice")
    if options.style_scale is not None and options.style_size is not None:
        raise OptionError("give style_scale or style_size, not both")
    blend = options.style_blend
    if blend is not None and min(blend) < 1e-9 * sum(blend):
        raise OptionError("each number of style_blend must be at least a billionth of their sum")
