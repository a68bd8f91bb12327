"""The options of a transfer: their defaults, and the checks of their values.

Each group of options has a module: content, style, result, run and machine.
"""

from dataclasses import dataclass, fields, replace

import numpy as np

from gramstyle.core.conventions import CONTENT_LAYER, STYLE_LAYERS
from gramstyle.core.layer_names import default_layers, poolings_until
from gramstyle.core.network import Network
from gramstyle.engines.registry import ENGINES, default_engine
from gramstyle.errors import OptionError
from gramstyle.run.options.coercion import check_bounds, choose, make_plain, shown
from gramstyle.run.options.content import ContentOptions, check_content
from gramstyle.run.options.machine import MACHINE_CHOICES, MachineOptions, check_machine
from gramstyle.run.options.result import DEPTHS, RESULT_CHOICES, ResultOptions, check_result
from gramstyle.run.options.run import (
    EARLIER_OPTIMISERS,
    OPTIMISERS,
    RUN_CHOICES,
    STARTS,
    OptimiserName,
    RunOptions,
    is_named_start,
)
from gramstyle.run.options.style import (
    MOST_STYLE_SCALES,
    MOST_STYLES,
    STYLE_BOUNDS,
    STYLE_CHOICES,
    StyleOptions,
    check_style,
    several,
)

__all__ = [
    "BOUNDS",
    "CHOICES",
    "DEPTHS",
    "EARLIER_OPTIMISERS",
    "GROUPS",
    "MACHINE",
    "MOST_STYLES",
    "MOST_STYLE_SCALES",
    "OPTIMISERS",
    "STARTS",
    "STYLE_BOUNDS",
    "OptimiserName",
    "Options",
    "is_named_start",
    "options_or_default",
]

# The groups of options, in the order in which help and records list them.
GROUPS = (ContentOptions, StyleOptions, ResultOptions, RunOptions, MachineOptions)
MACHINE = tuple(field.name for field in fields(MachineOptions))

CHOICES = {**STYLE_CHOICES, **RESULT_CHOICES, **RUN_CHOICES, **MACHINE_CHOICES}

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

# The numbers that are at least 0.
_FROM_ZERO = ("alpha", "content_strength", "beta", "tv", "tolerance")


# The fields of a dataclass begin with those of its last base class.
@dataclass(frozen=True, kw_only=True)
class Options(MachineOptions, RunOptions, ResultOptions, StyleOptions, ContentOptions):
    """The options of a transfer, as keyword arguments.

    Five groups of options make up this class: `ContentOptions`, `StyleOptions`, `ResultOptions`,
    `RunOptions` and `MachineOptions`. Their pages describe each option and its default.

    Values whose meaning is clear become plain Python values: numbers and arrays of NumPy, lists,
    whole numbers as floats, numbers and lists as text (``"48"``, ``"conv1_1,conv2_1"``).

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

    def __post_init__(self) -> None:
        """Make the values plain, and check what needs neither images nor a network."""
        make_plain(self)
        check_bounds(self, BOUNDS)
        for name in _FROM_ZERO:
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value >= 0):
                raise OptionError(f"{name} must be a number from 0 upwards, not {value}")
        choose(self, CHOICES)
        check_content(self)
        check_style(self)
        check_result(self)
        if self.style_loss != "gram" and self.convention == "author":
            raise OptionError(
                "the convention author compares Gram matrices; leave --convention or --style-loss "
                "out"
            )
        _check_engine(self)
        check_machine(self)
        if self.size % self.multiple:
            larger = -(-self.size // self.multiple) * self.multiple
            raise OptionError(
                f"size must be a multiple of {self.multiple} with the padding circular, not "
                f"{self.size}; the next one is {larger}"
            )
        if self.on_cluster and (self.device == "cuda" or not ENGINES[self.runs_on].tiles):
            raise OptionError("a cluster computes tiles on CPUs; leave --device and --engine out")

    @property
    def style_scales(self) -> tuple[float, ...]:
        """The longer edges of a style image, as multiples of the result's."""
        if self.style_size is not None:
            return tuple(edge / self.size for edge in several(self.style_size))
        return (1.0,) if self.style_scale is None else several(self.style_scale)

    @property
    def multiple(self) -> int:
        """The number of pixels that the edges of all images of the run are multiples of.

        With circular padding, an image wraps only at such sizes (see `gramstyle.core.wrapping`).
        """
        if self.pads != "circular":
            return 1
        return 1 << max(map(poolings_until, self.named_layers))

    @property
    def named_layers(self) -> tuple[str, ...]:
        """The layers where content or style is compared; a VGG's where the network chooses them.

        No network has default layers above more poolings than a VGG.
        """
        content = (CONTENT_LAYER,) if self.content_layers is None else self.content_layers
        return (*content, *(STYLE_LAYERS if self.style_layers is None else self.style_layers))

    def with_layers_of(self, network: Network) -> "Options":
        """Return the same options with the network's default layers where none are given."""
        default = default_layers(network.names)
        return replace(
            self,
            content_layers=default.content if self.content_layers is None else self.content_layers,
            style_layers=default.style if self.style_layers is None else self.style_layers,
        )

    @property
    def runs_on(self) -> str:
        """The engine: the one given, or the default of this installation."""
        return default_engine(self.device) if self.engine is None else self.engine

    @property
    def minimises_by(self) -> OptimiserName:
        """The optimiser: the one given, or the default."""
        return "own" if self.optimiser is None else self.optimiser


def options_or_default(options: Options | None) -> Options:
    """Return the options, or the default ones for None; raises OptionError for anything else."""
    if options is None:
        return Options()
    if not isinstance(options, Options):
        raise OptionError(f"options must be an Options(...), not {shown(options)}")
    return options


def _check_engine(options: Options) -> None:
    """Check that the engine runs on the device; raises OptionError."""
    devices = ENGINES[options.runs_on].devices
    if options.device not in devices:
        raise OptionError(
            f"the engine {options.runs_on} does not run on {options.device}; leave --engine out, "
            f"or give --device {devices[0]}"
        )
    if options.tf32 and options.device != "cuda":
        raise OptionError("tf32 is for GPUs; add --device cuda, or leave --tf32 out")
