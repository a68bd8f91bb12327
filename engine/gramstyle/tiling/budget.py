"""Fit an image into the memory budget: whole, or in tiles of a suitable size."""

import math
from dataclasses import dataclass

from gramstyle.core.network import Convolution, Network
from gramstyle.engines.registry import ENGINES
from gramstyle.errors import OptionError
from gramstyle.optimise.lbfgsb import pairs_within
from gramstyle.tiling.areas import Tiling, stride_of

# Measured (docs/large.md): the bytes of a process with the weights, before it reads an image.
FIXED = 600_000_000
# The responses of VGG-19 for each pixel, of all its convolutions and poolings.
VGG19_RESPONSES = 326.5
# Bytes per pixel, in addition to the engine's. SciPy's optimiser with a history of ten pairs, and
# its copies of a whole image:
SCIPY, SCIPY_HISTORY = 900, 10
# A pair more, in float64:
SCIPY_PAIR = 2 * 3 * 8
# The copies of a whole image beside the own optimiser's vectors, in float32.
IMAGES = 100
# The optimiser over array namespaces: six vectors (x, the direction, a trial and up to three
# gradients) in float32, and the image's transparency.
VECTORS = 6 * 3 * 4 + 4
# A step and a difference of gradients in float32.
PAIR = 2 * 3 * 4
# The results of pass 1 that are stored for pass 2, and the content term's targets: see `Recall`.
STORED, TARGETS = 300, 32
# The first x, in float32.
START = 3 * 4
# A scheduler in this process: the windows of the content image, and those of x until pass 2.
SCHEDULED = 2 * 16

# With a shorter history L-BFGS-B makes little progress.
FEWEST_PAIRS = 3
# In smaller tiles, most of the time would go into the pixels around the cores.
SMALLEST = 256
# Larger tiles gain nothing (docs/large.md).
LARGEST = 2048


@dataclass(frozen=True)
class Layout:
    """The layout of a run in memory.

    Attributes
    ----------
    edge
        The edge of the tiles, in pixels; None computes the image whole.
    history
        How many pairs L-BFGS-B's history has.
    history_in_memory
        Whether the history is in memory; otherwise it is in a file.
    spill_memory
        How many bytes of the results of pass 1 stay in memory for pass 2; the rest is in a file.
    """

    edge: int | None
    history: int
    history_in_memory: bool
    spill_memory: int


def choose_layout(
    network: Network,
    height: int,
    width: int,
    *,
    engine: str,
    memory: int,
    history: int,
    disk: int,
    scipy: bool = False,
    edge: int | None = None,
    scheduler: bool = False,
    masks: int = 0,
) -> Layout:
    """Choose tiles, and what goes to disk, for an image and a memory budget.

    Parameters
    ----------
    network
        Up to the deepest layer in use.
    height, width
        The size of the image, in pixels.
    engine
        The engine's name.
    memory
        The memory budget of the run, in bytes.
    history
        How many pairs L-BFGS-B's history should have.
    disk
        How many bytes are free for spill files.
    scipy
        Whether SciPy's optimiser minimises.
    edge
        The edge of the tiles in pixels, if it is given.
    scheduler
        Whether a cluster's scheduler is in this process.
    masks
        How many bytes the masks of regions take.

    Returns
    -------
    Layout
        Whole if the budget allows that, else the largest tiles that fit beside the optimiser's
        vectors. The history is in memory if all of it fits, else in a file: reading that three
        times per iteration costs less than a shorter history. The history is shortened only if
        the disk cannot hold it either. The memory that is left stores the results of pass 1.

    Raises
    ------
    OptionError
        If the given or the smallest tiles do not fit (the message names a sufficient budget), or
        are too small for the network; if the history does not fit; if the engine has no tiles.
    """
    pixels, per_pixel = height * width, bytes_per_pixel(engine, network)
    needed = whole(engine, pixels, history, scipy=scipy, network=network) + masks
    if edge is None and needed <= memory:
        return Layout(None, history, history_in_memory=True, spill_memory=0)
    if not ENGINES[engine].tiles:
        raise OptionError(
            f"the engine {engine} cannot compute tiles, and the whole image takes "
            f"{_gb(needed)} at {width}×{height} pixels; choose another --engine, or a smaller "
            "--size"
        )
    beside = FIXED + masks + (VECTORS + SCHEDULED * scheduler) * pixels
    if edge is None:
        edge = _largest_edge(network, height, width, (memory - beside) // per_pixel)
    smallest = SMALLEST if edge is None else edge
    needed = beside + per_pixel * _window(network, height, width, smallest)
    if edge is None or needed > memory:
        raise OptionError(
            f"a memory budget of {_gb(memory)} is too small for {width}×{height} pixels in tiles "
            f"of {smallest}; the smallest --memory that works is {_gb(needed)}"
        )
    left = memory - needed
    pairs, in_memory = _pairs(3 * pixels, history, left, disk - (TARGETS + START) * pixels)
    if pairs < min(history, FEWEST_PAIRS):
        raise OptionError(
            f"there is room for {pairs} pairs of L-BFGS-B's history at {width}×{height} pixels, "
            f"and it needs at least {FEWEST_PAIRS}; make {_gb(FEWEST_PAIRS * PAIR * pixels)} free "
            "for temporary files, or set TMPDIR to another folder"
        )
    return Layout(edge, pairs, in_memory, left - PAIR * pixels * pairs if in_memory else left)


def _pairs(n: int, wanted: int, memory: int, disk: int) -> tuple[int, bool]:
    """Return how many pairs of vectors with n entries fit, and whether they fit in memory."""
    resident, filed = (pairs_within(n, there, wanted=wanted) for there in (memory, disk))
    return (resident, True) if resident >= filed else (filed, False)


def bytes_per_pixel(engine: str, network: Network | None = None) -> int:
    """Return the memory in bytes that an engine takes per pixel processed at once.

    It was measured on VGG-19. Another network takes more in proportion to its responses, if it has
    more of them; None has those of VGG-19.
    """
    measured = ENGINES[engine].bytes_per_pixel
    if network is None:
        return measured
    more = responses_per_pixel(network) / VGG19_RESPONSES
    return math.ceil(measured * more) if more > 1 else measured


def responses_per_pixel(network: Network) -> float:
    """Return how many responses a network has for each pixel of an image."""
    total, N, area = 0.0, 0, 1.0
    for layer in network.layers:
        if isinstance(layer, Convolution):
            N = len(layer.b)
        else:
            area /= 4
        total += N * area
    return total


def whole(
    engine: str,
    pixels: int,
    history: int,
    *,
    scipy: bool = False,
    network: Network | None = None,
) -> int:
    """Return approximately how many bytes a run on a whole image takes."""
    if scipy:
        optimiser = SCIPY + SCIPY_PAIR * max(0, history - SCIPY_HISTORY)
    else:
        optimiser = VECTORS + IMAGES + PAIR * history
    return FIXED + (bytes_per_pixel(engine, network) + optimiser) * pixels


def on_disk(layout: Layout, tiling: Tiling, *, recalls: bool) -> int:
    """Return how many bytes a run in tiles writes to files.

    Parameters
    ----------
    layout, tiling
        How the run is laid out, and its tiles.
    recalls
        Whether the results of pass 1 are stored.
    """
    pixels, windows = tiling.height * tiling.width, tiling.window_pixels()
    stored = STORED * windows * recalls + (TARGETS + START) * pixels
    spilled = max(0, stored - layout.spill_memory)
    return spilled + (0 if layout.history_in_memory else PAIR * pixels * layout.history)


def _largest_edge(network: Network, height: int, width: int, pixels: int) -> int | None:
    """Return the largest edge whose windows have at most so many pixels; None if there is none."""
    for edge in range(LARGEST, SMALLEST - 1, -stride_of(network)):
        if _window(network, height, width, edge) <= pixels:
            return edge
    return None


def _window(network: Network, height: int, width: int, edge: int) -> int:
    return math.prod(Tiling(network, height, width, edge).largest_window())


def _gb(number: int) -> str:
    """Return bytes as gigabytes, rounded up to a tenth."""
    return f"{math.ceil(number / 1e8) / 10:.1f}GB"
