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
# The shorter edge of the smallest image with two by two positions of conv5_1, the deepest layer.
SMALLEST = 32
# Up to this edge, an iteration takes little time.
CHEAP = 512
# The iterations of a later scale, as a fraction of those of the first one. A scale in between adds
# details that the one before could not show; a few iterations suffice. More of them at the last
# scale give a cleaner image.
BETWEEN, LAST = 0.2, 0.4
# The fewest iterations of a later scale.
FEWEST = 10


class Scale(NamedTuple):
    """A scale: the longer edge in pixels, and the maximum number of iterations."""

    edge: int
    iterations: int


def edges(size: int, scales: int | None = None, *, first: int) -> tuple[int, ...]:
    """Return the longer edges of all scales in pixels, the smallest first and `size` last.

    Parameters
    ----------
    size
        The longer edge of the result, in pixels.
    scales
        How many scales; None for all that have at least `first` pixels.
    first
        The least edge of the first scale, in pixels.
    """
    found, edge = [size], size / STEP
    while round(edge) >= first if scales is None else len(found) < scales and round(edge) >= 1:
        found.append(round(edge))
        edge /= STEP
    return tuple(reversed(found))


def scales_of(
    size: int, *, iterations: int, scales: int | None = None, first: int, shorter: int
) -> tuple[Scale, ...]:
    """Return the scales of a run, the smallest first.

    The first scale is cheap and gets all iterations. Each scale in between gets a fifth of them up
    to 512 pixels, and ten above. The last scale gets two fifths, and fewer above 1280 pixels, where
    their number is inversely proportional to the edge. Each later scale gets at least ten.

    Parameters
    ----------
    size
        The longer edge of the result, in pixels.
    iterations
        The iterations of the first scale.
    scales
        How many scales; None for all that have at least `first` pixels, as far as the images allow.
    first
        The least edge of the first scale, in pixels, where `scales` is None.
    shorter
        The shortest edge of all images at that size, in pixels.

    Raises
    ------
    OptionError
        If so many scales make the images of the first one too small for the network.
    """
    wanted = edges(size, scales, first=first)
    fit = [edge for edge in wanted[:-1] if shorter * edge >= SMALLEST * size]
    if scales is not None and len(fit) < scales - 1:
        raise OptionError(
            f"the first of {scales} scales would have an edge below {SMALLEST} pixels, too few for "
            f"the network; choose --scales {len(fit) + 1}, or fewer"
        )
    if not fit:
        return (Scale(size, iterations),)

    def later(edge: int, fraction: float) -> Scale:
        return Scale(edge, max(min(iterations, FEWEST), round(iterations * fraction)))

    between = (later(edge, BETWEEN if edge <= CHEAP else 0) for edge in fit[1:])
    return (Scale(fit[0], iterations), *between, later(size, min(LAST, CHEAP / size)))
