"""How a transfer is done: every option, its default, and what values make sense."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from gramstyle.core.conventions import CONTENT_LAYER, CONVENTIONS, STYLE_LAYERS, Convention
from gramstyle.core.kernels import Pooling
from gramstyle.engines.registry import (
    DEVICES,
    ENGINES,
    RUNS_ON,
    DeviceName,
    EngineName,
    default_engine,
)
from gramstyle.errors import OptionError
from gramstyle.images import MAX_PIXELS, Source

OptimiserName = Literal["lbfgsb", "lbfgsb-device"]
OPTIMISERS: tuple[OptimiserName, ...] = get_args(OptimiserName)

STARTS = ("noise", "content", "style")


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a transfer is done. All defaults of the program stand here and nowhere else.

    Attributes
    ----------
    size
        The longer edge of the result, in pixels; the shorter one follows from the content.
    iterations
        How many iterations of L-BFGS-B at most; of several levels, at the first.
    scales
        How many levels a run climbs to `size`, each √2 larger than the one before and started from
        its image, see `gramstyle.run.scales`; None is as many as begin at 512 pixels or more.
    convention
        The formulas and what goes with them: "paper", the text's, with its start from noise;
        "author", those of its authors' released code, with its weights, start and pooling; None
        is the paper's formulas and a start from the photograph.
    alpha, beta
        The weights α and β of equation 7. None for α is the convention's, which is 1 for
        "author" and else 50 / (width · height) of the result (0.01 / (width · height) for a
        normalised network), which looks alike at every size.
    content_layer
        Where content is compared.
    style_layers
        Where style is compared.
    style_weights
        One w_l for each style layer; None is the convention's: 1 / (number of layers), or
        1000 / N² for "author".
    init
        The start: "content", "style", "noise" (white noise, from `seed`), or an image; None
        is the convention's.
    seed
        Of the noise.
    pooling
        "avg", which the paper prefers, or "max", as the network was trained; None is the
        convention's.
    tolerance
        End early once the loss has fallen by less than this share in ten iterations; 0 never.
    history
        How many past steps L-BFGS-B learns from.
    engine
        What computes loss and gradient: "numpy", "winograd", "hybrid", "onnx" or "cupy", see
        `gramstyle.engines`; None is "cupy" on a GPU, else "winograd" where Numba is installed,
        else "numpy".
    device
        Where it is computed: "cpu", or "cuda" on an NVIDIA GPU.
    tf32
        On a GPU, whether products may be rounded to TF32, which is faster.
    optimiser
        "lbfgsb" is SciPy's; "lbfgsb-device" the same method written for arrays that stay where
        the gradient is computed, and in bounded memory. None is the second one on a GPU, in tiles
        and on a cluster, else SciPy's.
    threads
        How many processor cores to use; None takes all that this process may run on.
    tile
        The edge in pixels of the tiles in which the image is computed, exactly; None takes it
        whole where `memory` allows, and else the largest tiles that it does.
    memory
        How many bytes a run may take; None is three quarters of the machine's memory.
    scheduler
        The address of a Dask scheduler on whose workers the tiles are computed.
    workers
        How many workers to start on this machine for that instead.
    max_pixels
        Larger images are refused before they are decoded.
    """

    size: int = 512
    iterations: int = 100
    scales: int | None = None
    convention: str | None = None
    alpha: float | None = None
    beta: float = 1.0
    content_layer: str = CONTENT_LAYER
    style_layers: tuple[str, ...] = STYLE_LAYERS
    style_weights: tuple[float, ...] | None = None
    init: Source | None = None
    seed: int = 0
    pooling: Pooling | None = None
    tolerance: float = 0.0
    history: int = 10
    engine: EngineName | None = None
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
        """Check what can be checked without images and network; raises OptionError."""
        for name in (
            "size", "iterations", "history", "max_pixels", "threads", "scales", "tile", "memory",
            "workers",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < 1:
                raise OptionError(f"{name} must be at least 1, not {value}")
        if self.seed < 0:
            raise OptionError(f"seed must not be negative, as {self.seed} is")
        for name in ("alpha", "beta", "tolerance"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value >= 0):
                raise OptionError(f"{name} must be a number from 0 upwards, not {value}")
        if isinstance(self.style_layers, str):
            raise OptionError(f"style_layers must be a tuple of names, not {self.style_layers!r}")
        if not self.style_layers or len(set(self.style_layers)) != len(self.style_layers):
            raise OptionError("style_layers must name at least one layer, and none twice")
        weights = self.style_weights
        if weights is not None and len(weights) != len(self.style_layers):
            raise OptionError(
                f"there are {len(weights)} style_weights for "
                f"{len(self.style_layers)} style_layers; give one each"
            )
        if not all(np.isfinite(weight) and weight >= 0 for weight in weights or ()):
            raise OptionError("each of style_weights must be a number from 0 upwards")
        if self.pooling not in ("max", "avg", None):
            raise OptionError(f"pooling must be max or avg, not {self.pooling!r}")
        if self.engine is not None and self.engine not in ENGINES:
            raise OptionError(f"engine must be one of {', '.join(ENGINES)}, not {self.engine!r}")
        if self.device not in DEVICES:
            raise OptionError(f"device must be {' or '.join(DEVICES)}, not {self.device!r}")
        if self.device not in RUNS_ON[self.runs_on]:
            raise OptionError(
                f"the engine {self.runs_on} does not run on {self.device}; leave --engine out, or "
                f"give --device {RUNS_ON[self.runs_on][0]}"
            )
        if self.tf32 and self.device != "cuda":
            raise OptionError("tf32 is for GPUs; add --device cuda, or leave --tf32 out")
        if self.optimiser is not None and self.optimiser not in OPTIMISERS:
            raise OptionError(
                f"optimiser must be {' or '.join(OPTIMISERS)}, not {self.optimiser!r}"
            )
        if self.scheduler is not None and self.workers is not None:
            raise OptionError(
                "a scheduler has its own workers; give scheduler or workers, not both"
            )
        if self.on_cluster and (self.device == "cuda" or self.runs_on == "onnx"):
            raise OptionError(
                "a cluster computes tiles on processors; leave --device and --engine out"
            )
        if self.convention not in CONVENTIONS:
            raise OptionError(f"convention must be paper or author, not {self.convention!r}")

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
    def runs_on(self) -> EngineName:
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
        """Whether a cluster computes."""
        return self.scheduler is not None or self.workers is not None
