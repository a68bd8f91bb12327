"""Matrix products, panel by panel.

A panel is a part of the columns of U (C, N), whose width is a few registers. U is stored in panels,
so that a product reads them in order: for each panel and row of U, the panel's entries of this row.
A library's matrix product would pack them into such a form for every strip anew.

The products between the transforms have many planes: for each one, D (tiles, C) times U (C, N) is
Q (tiles, N), panel by panel. The planes of D and of Q are `GAP` apart.

The inner loop keeps the sums of `ROWS` rows of D and one panel in registers. Each sum is computed
in the order of the rows of U, whatever the width of the panel.
"""

from typing import Any

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.engines.winograd.layout import CHANNELS, GAP
from gramstyle.engines.winograd.simd import (
    INDEX,
    INTEGER,
    REGISTER,
    WIDTH,
    Memory,
    at_index,
    intrinsic,
    plus_product,
    procedure,
    splat_constant,
)
from gramstyle.system.compiling import compiled

# The sums of ROWS rows by one wide panel fill the registers: 24 of AVX-512's 32, 12 of AVX's 16.
# Channels that are left over form narrow panels.
ROWS = 6
WIDE, NARROW = (4 * WIDTH if WIDTH == 16 else 2 * WIDTH), CHANNELS

# For each row of a panel, the inner loop fetches so many floats of what is multiplied next into the
# cache: a wide panel during 96 rows of D.
AHEAD = 4


def panels(channels: int) -> list[tuple[int, int]]:
    """Return the first channel and the width of each panel of a padded number of channels."""
    wide = channels // WIDE * WIDE
    return [
        *((start, WIDE) for start in range(0, wide, WIDE)),
        *((start, NARROW) for start in range(wide, channels, NARROW)),
    ]


def pack(U: Array) -> Array:
    """Return U (planes, C, N) in panels, flat."""
    planes, C, N = U.shape
    packed = np.empty((planes, C * N), U.dtype)
    for start, width in panels(N):
        part = packed[:, C * start : C * (start + width)]
        part.reshape(planes, C, width)[...] = U[:, :, start : start + width]
    return packed.reshape(-1)


def _block(rows: int, registers: int) -> Any:
    """Return a compiled product of some rows of D and one panel of so many registers.

    D starts at `d` and its rows are `step` apart; the panel starts at `u` and has C rows; Q starts
    at `q`, and its rows are one panel's width apart. `ahead` is where the next product reads U.
    """
    width = registers * WIDTH
    places = [(row, register) for row in range(rows) for register in range(registers)]

    @intrinsic
    def block(
        _context: Any,
        D: Any,
        d: Any,
        step: Any,
        U: Any,
        u: Any,
        C: Any,
        Q: Any,
        q: Any,
        ahead: Any,
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            d, step, u, C, q, ahead = (arguments[k] for k in (1, 2, 4, 5, 7, 8))
            factors, panel, out = (
                Memory(context, builder, signature.args[k], arguments[k]) for k in (0, 3, 6)
            )
            before = builder.block
            loop, after = builder.append_basic_block("row"), builder.append_basic_block("sums")
            builder.branch(loop)
            builder.position_at_end(loop)
            c = builder.phi(INDEX)
            sums = {place: builder.phi(REGISTER) for place in places}
            entries = [panel.load(u, (c, width), (at_index(k), WIDTH)) for k in range(registers)]
            panel.prefetch(ahead, (c, AHEAD))
            following = {}
            for row in range(rows):
                factor = factors.load_splat(d, (step, row), (c, 1))
                for k in range(registers):
                    following[row, k] = plus_product(builder, sums[row, k], factor, entries[k])
            next_c = builder.add(c, at_index(1))
            for phi, start, value in (
                (c, at_index(0), next_c),
                *((sums[place], splat_constant(0.0), following[place]) for place in places),
            ):
                phi.add_incoming(start, before)
                phi.add_incoming(value, loop)
            builder.cbranch(builder.icmp_signed("<", next_c, C), loop, after)
            builder.position_at_end(after)
            for row, k in places:
                out.store(following[row, k], q, (at_index(row * width + k * WIDTH), 1))
            return context.get_dummy_value()

        kinds = (D, INTEGER, INTEGER, U, INTEGER, INTEGER, Q, INTEGER, INTEGER)
        return procedure(*kinds), generate

    return block


_wide_block, _wide_row = _block(ROWS, WIDE // WIDTH), _block(1, WIDE // WIDTH)
_narrow_block, _narrow_row = _block(ROWS, NARROW // WIDTH), _block(1, NARROW // WIDTH)


@compiled
def multiply_panel(D, d, rows, U, u, C, width, Q, q, ahead):
    """Write Q (rows, width) from index `q`: D (rows, C) from `d`, times the panel of U from `u`.

    If ROWS does not divide the number of rows, the last ones are computed twice. U is fetched into
    the cache from `ahead` on.
    """
    wide = width == WIDE
    if rows < ROWS:
        for row in range(rows):
            at = ahead + row * C * AHEAD
            if wide:
                _wide_row(D, d + row * C, C, U, u, C, Q, q + row * width, at)
            else:
                _narrow_row(D, d + row * C, C, U, u, C, Q, q + row * width, at)
        return
    for number in range(0, rows, ROWS):
        row = min(number, rows - ROWS)
        at = ahead + number // ROWS * C * AHEAD
        if wide:
            _wide_block(D, d + row * C, C, U, u, C, Q, q + row * width, at)
        else:
            _narrow_block(D, d + row * C, C, U, u, C, Q, q + row * width, at)


@compiled
def multiply(D, U, planes, tiles, C, offset, plane, width, Q):
    """Write Q (planes, tiles, width) = D (planes, tiles, C) times a panel of U (planes, C, width).

    The panel is in U from an offset on, its planes `plane` apart.
    """
    for number in range(planes):
        d, q = number * (tiles * C + GAP), number * (tiles * width + GAP)
        u = number * plane + offset
        multiply_panel(D, d, tiles, U, u, C, width, Q, q, u + plane)
