"""Coarse to fine: through which sizes a run climbs to its own, and for how long it stays at each.

A response of conv5_1 sees 156 × 156 pixels: what is larger than that, the style cannot tell from
anything else, and in a large image no stroke is longer. So a large image is made small first,
where such a field is a good part of it, and then larger, level by level, each started from the
last one's image.
"""

import math
from typing import NamedTuple

from gramstyle.errors import OptionError

# From level to level: twice the pixels.
STEP = math.sqrt(2)
# Where a climb begins that was not told how many levels to take.
BASE = 512
# The shorter edge of the smallest image for which the deepest layers still have positions to
# compare: two by two of conv5_1.
SMALLEST = 32
# A level starts near its end, yet what the last one could not show takes some iterations; on the
# way that is all, since more of them did no better than as much time at the end.
FEWEST = 10


class Level(NamedTuple):
    """A size on the way: the longer edge, and how many iterations at most."""

    edge: int
    iterations: int


def edges(size: int, scales: int | None = None) -> tuple[int, ...]:
    """Return the longer edges of all levels, the smallest first and `size` last.

    Parameters
    ----------
    size
        The longer edge in the end.
    scales
        How many levels; None for all of 512 pixels and more.
    """
    found, edge = [size], size / STEP
    while round(edge) >= BASE if scales is None else len(found) < scales and round(edge) >= 1:
        found.append(round(edge))
        edge /= STEP
    return tuple(reversed(found))


def levels(
    size: int, *, iterations: int, scales: int | None = None, shorter: int
) -> tuple[Level, ...]:
    """Return the levels of a run.

    The first has all the iterations, being cheap; those on the way ten; the last fewer as its edge
    grows, half as many at twice the first's, but at least ten.

    Parameters
    ----------
    size
        The longer edge in the end.
    iterations
        Of the first level.
    scales
        How many levels; None for all of 512 pixels and more, as far as the images allow.
    shorter
        The shortest edge of all images at that size.

    Raises
    ------
    OptionError
        If as many levels as asked for begin with images too small for the network.
    """
    wanted = edges(size, scales)
    fit = [edge for edge in wanted[:-1] if shorter * edge >= SMALLEST * size]
    if scales is not None and len(fit) < scales - 1:
        raise OptionError(
            f"the first of {scales} scales would have an edge below {SMALLEST} pixels, too few for "
            f"the network; choose --scales {len(fit) + 1}, or fewer"
        )
    if not fit:
        return (Level(size, iterations),)
    first, *between = fit
    fewest = min(iterations, FEWEST)
    last = Level(size, max(fewest, round(iterations * first / size)))
    return (Level(first, iterations), *(Level(edge, fewest) for edge in between), last)
