"""Multi-scale runs: the sizes that a run passes through, and the iterations at each.

A response of conv5_1 depends on 156 × 156 pixels. The style loss does not measure larger
structures, so in a large image no stroke is longer. Therefore a run makes a small image first, of
which these pixels are a large part. Each further scale starts from the image of the one before.
"""

import math
from typing import NamedTuple

from gramstyle.errors import OptionError

# The factor between the edges of successive scales, which doubles the number of pixels.
STEP = math.sqrt(2)
# The size of the first scale where the number of scales is not given.
BASE = 512
# The same for a texture: its largest structures come from a scale at which the deepest filters, of
# 156 pixels, see all of them.
TEXTURE_BASE = 128
# The shorter edge of the smallest image with two by two positions of conv5_1, the deepest layer.
SMALLEST = 32
# The fewest iterations of a later scale, for the details that the scale before could not show. The
# scales in between get no more: the same time gives a better result at the last scale.
FEWEST = 10


class Scale(NamedTuple):
    """A scale: the longer edge in pixels, and the maximum number of iterations."""

    edge: int
    iterations: int


def edges(size: int, scales: int | None = None, *, base: int = BASE) -> tuple[int, ...]:
    """Return the longer edges of all scales in pixels, the smallest first and `size` last.

    Parameters
    ----------
    size
        The longer edge of the result, in pixels.
    scales
        How many scales; None for all of `base` pixels and more.
    base
        The edge of the smallest scale in pixels where the number of scales is not given.
    """
    found, edge = [size], size / STEP
    while round(edge) >= base if scales is None else len(found) < scales and round(edge) >= 1:
        found.append(round(edge))
        edge /= STEP
    return tuple(reversed(found))


def scales_of(
    size: int, *, iterations: int, scales: int | None = None, shorter: int, base: int = BASE
) -> tuple[Scale, ...]:
    """Return the scales of a run, the smallest first.

    The first scale is cheap and gets all iterations. The scales in between get ten. The number of
    iterations of the last scale is inversely proportional to its edge, but at least ten.

    Parameters
    ----------
    size
        The longer edge of the result, in pixels.
    iterations
        The iterations of the first scale.
    scales
        How many scales; None for all of `base` pixels and more, as far as the images allow.
    shorter
        The shortest edge of all images at that size, in pixels.
    base
        As in `edges`.

    Raises
    ------
    OptionError
        If so many scales make the images of the first one too small for the network.
    """
    wanted = edges(size, scales, base=base)
    fit = [edge for edge in wanted[:-1] if shorter * edge >= SMALLEST * size]
    if scales is not None and len(fit) < scales - 1:
        raise OptionError(
            f"the first of {scales} scales would have an edge below {SMALLEST} pixels, too few for "
            f"the network; choose --scales {len(fit) + 1}, or fewer"
        )
    if not fit:
        return (Scale(size, iterations),)
    first, *between = fit
    fewest = min(iterations, FEWEST)
    last = Scale(size, max(fewest, round(iterations * first / size)))
    return (Scale(first, iterations), *(Scale(edge, fewest) for edge in between), last)
