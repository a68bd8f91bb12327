"""How an image is fitted into the memory that there is: whole, or in tiles of what size."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gramstyle.core.network import Network
from gramstyle.engines.registry import EngineName
from gramstyle.errors import OptionError
from gramstyle.optimise.lbfgsb import pairs_within
from gramstyle.tiling.areas import Tiling

# Measured (docs/large.md): what a process takes before it has seen an image, weights included,
FIXED = 600_000_000
# what an engine takes for each pixel that it works on at once,
PER_PIXEL: Mapping[EngineName, int] = MappingProxyType(
    {"winograd": 950, "numpy": 1900, "hybrid": 2900, "onnx": 3400, "cupy": 1900}
)
# what SciPy's optimiser and its copies take beside a whole image,
SCIPY = 900
# and what ours does beside tiles: six vectors of a run (x, the direction, a trial and up to three
# gradients), in float32, and the image's transparency.
VECTORS = 6 * 3 * 4 + 4
# A step and a difference of gradients in float32.
PAIR = 2 * 3 * 4
# Of less history than this L-BFGS-B makes little.
FEWEST_PAIRS = 3
# What pass 1 leaves for pass 2, and the content's targets: see `Recall`.
ASIDE, TARGETS = 440, 32
# The first x, in float32.
START = 3 * 4
# What a scheduler in this process keeps: the photograph's windows, and those of x until pass 2.
SCHEDULED = 2 * 16

# Tiles smaller than this spend most of their time on their surroundings.
SMALLEST = 256
# Larger ones gain nothing (docs/large.md).
LARGEST = 2048


@dataclass(frozen=True)
class Fit:
    """How a run is laid out in memory.

    Attributes
    ----------
    edge
        Of the tiles, in pixels; None where the image is computed whole.
    history
        How many pairs L-BFGS-B remembers.
    pairs_in_memory
        Whether they are; else they are in a file.
    shelf
        How many bytes of what pass 1 leaves for pass 2 are kept in memory; the rest is in a file.
    """

    edge: int | None
    history: int
    pairs_in_memory: bool
    shelf: int


def fit(
    network: Network,
    height: int,
    width: int,
    *,
    engine: EngineName,
    memory: int,
    history: int,
    disk: int,
    edge: int | None = None,
    scheduler: bool = False,
) -> Fit:
    """Choose tiles, and what goes to disk, for an image and a budget.

    Parameters
    ----------
    network
        Up to the deepest layer in use.
    height, width
        Of the image, in pixels.
    engine
        What computes.
    memory
        How many bytes a run may take.
    history
        How many pairs L-BFGS-B is to remember.
    disk
        How many bytes there are for files.
    edge
        The edge of the tiles where it is not to be chosen.
    scheduler
        Whether a cluster's scheduler is in this process.

    Returns
    -------
    Fit
        Whole where the memory allows that, else the largest tiles that fit beside the optimiser's
        vectors. Then the history, in memory where there is room for all of it, else in a file: it
        is read three times an iteration, which costs less than a shorter one. Only where the disk
        does not hold it either there are fewer pairs. What memory is left is the shelf's.

    Raises
    ------
    OptionError
        If even the smallest tiles do not fit, naming the budget that would do; if the tiles asked
        for do not, or are too small for the network; if there is room for hardly any history; or
        if the engine takes images whole only.
    """
    pixels = height * width
    if edge is None and whole(engine, pixels) <= memory:
        return Fit(None, history, pairs_in_memory=True, shelf=0)
    if engine == "onnx":
        raise OptionError(
            f"the engine onnx computes images whole, which takes {_gb(whole(engine, pixels))} "
            f"at {width}×{height} pixels; choose another --engine, or a smaller --size"
        )
    beside = FIXED + (VECTORS + SCHEDULED * scheduler) * pixels
    room = memory - beside
    if edge is None:
        edge = _largest_edge(network, height, width, room // PER_PIXEL[engine])
    smallest = SMALLEST if edge is None else edge
    needed = beside + PER_PIXEL[engine] * _window(network, height, width, smallest)
    if edge is None or needed > memory:
        raise OptionError(
            f"{_gb(memory)} of memory are too little for {width}×{height} pixels in tiles of "
            f"{smallest}; the smallest --memory that will do is {_gb(needed)}"
        )
    left = memory - needed
    pairs, in_memory = _pairs(3 * pixels, history, left, disk - (TARGETS + START) * pixels)
    if pairs < min(history, FEWEST_PAIRS):
        raise OptionError(
            f"there is room for {pairs} steps of L-BFGS-B's history at {width}×{height} pixels and "
            f"{FEWEST_PAIRS} are the least; make {_gb(FEWEST_PAIRS * PAIR * pixels)} free for "
            "passing files, or name another folder for them by TMPDIR"
        )
    return Fit(edge, pairs, in_memory, left - PAIR * pixels * pairs if in_memory else left)


def _pairs(n: int, wanted: int, memory: int, disk: int) -> tuple[int, bool]:
    """Return how many pairs of n entries to remember, and whether in memory."""
    resident, filed = (pairs_within(n, there, wanted=wanted) for there in (memory, disk))
    return (resident, True) if resident >= filed else (filed, False)


def whole(engine: EngineName, pixels: int) -> int:
    """Return about how many bytes a run on a whole image takes."""
    return FIXED + (PER_PIXEL[engine] + SCIPY) * pixels


def on_disk(fitted: Fit, tiling: Tiling, *, recalls: bool) -> int:
    """Return how many bytes a run in tiles puts into files.

    Parameters
    ----------
    fitted, tiling
        How the run is laid out, and its tiles.
    recalls
        Whether what pass 1 leaves is kept.
    """
    pixels, windows = tiling.height * tiling.width, tiling.window_pixels()
    aside = max(0, ASIDE * windows * recalls + (TARGETS + START) * pixels - fitted.shelf)
    return aside + (0 if fitted.pairs_in_memory else PAIR * pixels * fitted.history)


def _largest_edge(network: Network, height: int, width: int, pixels: int) -> int | None:
    """Return the largest edge for which no window has more pixels than that."""
    stride = Tiling(network, height, width, max(height, width)).stride
    for edge in range(LARGEST, SMALLEST - 1, -stride):
        if _window(network, height, width, edge) <= pixels:
            return edge
    return None


def _window(network: Network, height: int, width: int, edge: int) -> int:
    return math.prod(Tiling(network, height, width, edge).largest_window())


def _gb(number: int) -> str:
    """Return bytes as gigabytes, rounded up to a tenth."""
    return f"{math.ceil(number / 1e8) / 10:.1f}GB"
