"""Tiles to the transformed domain and back, with all that stands next to a convolution.

Images lie in memory positions before channels, (H, V, C), and are given flat: then eight
channels of a pixel are one load, whatever the image's width. C and N are multiples of eight.
Transformed patches D and products Q are (36, tiles, channels), flat. Tiles are numbered in reading
order; a call works on those from `first` to `last`, so that many calls can share an image.

Each function here is a loop over tiles around the same two transforms. `turned` reads a patch or
writes a tile turned by 180°, which is all that the backward of a convolution differs in from its
forward (`algorithm.conv2d_backward`).
"""

import numpy as np

from gramstyle.engines.winograd.algorithm import FAR, NEAR
from gramstyle.engines.winograd.simd import (
    WIDTH,
    compiled,
    inlined,
    load,
    load_bytes,
    splat,
    store,
    store_bytes,
    where_equal,
    where_greater,
)

# In float32, so that Numba does not work in float64.
_A, _A2, _A3 = (np.float32(NEAR**k) for k in (1, 2, 3))
_B, _B2, _B3 = (np.float32(FAR**k) for k in (1, 2, 3))
_SUM, _PRODUCT = np.float32(NEAR**2 + FAR**2), np.float32(NEAR**2 * FAR**2)
_QUARTER, _ZERO, _ONE = np.float32(0.25), np.float32(0), np.float32(1)

# What is noted of a 2×2 window: which of its four is the largest, or that none is above 0.
CLOSED = 4
_CLOSED = np.float32(CLOSED)


@inlined
def _to_points(d):
    """Bᵀ d for six numbers."""
    d0, d1, d2, d3, d4, d5 = d
    even, odd = d4 - _B2 * d2, _A * (d3 - _B2 * d1)
    even_far, odd_far = d4 - _A2 * d2, _B * (d3 - _A2 * d1)
    return (
        (d4 - _SUM * d2) + _PRODUCT * d0,
        even + odd,
        even - odd,
        even_far + odd_far,
        even_far - odd_far,
        (d5 - _SUM * d3) + _PRODUCT * d1,
    )


@inlined
def _from_points(q):
    """Aᵀ q for six numbers: four."""
    q0, q1, q2, q3, q4, q5 = q
    near, near_odd, far, far_odd = q1 + q2, q1 - q2, q3 + q4, q3 - q4
    return (
        q0 + (near + far),
        _A * near_odd + _B * far_odd,
        _A2 * near + _B2 * far,
        _A3 * near_odd + (_B3 * far_odd + q5),
    )


@inlined
def _six(X, at, step):
    return (
        load(X, at),
        load(X, at + step),
        load(X, at + 2 * step),
        load(X, at + 3 * step),
        load(X, at + 4 * step),
        load(X, at + 5 * step),
    )


@inlined
def _put_six(D, at, step, values):
    store(D, at, values[0])
    store(D, at + step, values[1])
    store(D, at + 2 * step, values[2])
    store(D, at + 3 * step, values[3])
    store(D, at + 4 * step, values[4])
    store(D, at + 5 * step, values[5])


@inlined
def _patch(X, at, row, column, C, D, to, plane):
    """Bᵀ d B of the patch whose corner is at an index of X, for all channels."""
    for c in range(0, C, WIDTH):
        x, y = at + c, to + c
        a = _to_points(_six(X, x, column))
        b = _to_points(_six(X, x + row, column))
        d = _to_points(_six(X, x + 2 * row, column))
        e = _to_points(_six(X, x + 3 * row, column))
        f = _to_points(_six(X, x + 4 * row, column))
        g = _to_points(_six(X, x + 5 * row, column))
        down = 6 * plane
        _put_six(D, y, down, _to_points((a[0], b[0], d[0], e[0], f[0], g[0])))
        _put_six(D, y + plane, down, _to_points((a[1], b[1], d[1], e[1], f[1], g[1])))
        _put_six(D, y + 2 * plane, down, _to_points((a[2], b[2], d[2], e[2], f[2], g[2])))
        _put_six(D, y + 3 * plane, down, _to_points((a[3], b[3], d[3], e[3], f[3], g[3])))
        _put_six(D, y + 4 * plane, down, _to_points((a[4], b[4], d[4], e[4], f[4], g[4])))
        _put_six(D, y + 5 * plane, down, _to_points((a[5], b[5], d[5], e[5], f[5], g[5])))


@inlined
def _kept_patch(patch, C, D, to, plane, turned):
    """Transform a patch that has been gathered, (6, 6, C)."""
    if turned:
        _patch(patch, 35 * C, -6 * C, -C, C, D, to, plane)
    else:
        _patch(patch, 0, 6 * C, C, C, D, to, plane)


@compiled
def transform(X, H, V, C, across, first, last, turned, patch, D):
    """D = Bᵀ d B for tiles of the image X (H, V, C), zeros outside it; patch is scratch."""
    plane = (last - first) * C
    for tile in range(first, last):
        y0, x0 = tile // across * 4 - 1, tile % across * 4 - 1
        to = (tile - first) * C
        if y0 >= 0 and x0 >= 0 and y0 + 6 <= H and x0 + 6 <= V:
            if turned:
                _patch(X, ((y0 + 5) * V + x0 + 5) * C, -V * C, -C, C, D, to, plane)
            else:
                _patch(X, (y0 * V + x0) * C, V * C, C, C, D, to, plane)
            continue
        for i in range(6):
            for j in range(6):
                inside = 0 <= y0 + i < H and 0 <= x0 + j < V
                x = ((y0 + i) * V + x0 + j) * C
                for c in range(0, C, WIDTH):
                    value = load(X, x + c) if inside else splat(_ZERO)
                    store(patch, (i * 6 + j) * C + c, value)
        _kept_patch(patch, C, D, to, plane, turned)


@compiled
def transform_max_pooled(dY, choice, h, v, C, across, first, last, patch, D):
    """`transform`, turned, of dZ below a ReLU and a max pooling, from dY (h, v, C).

    dZ is dY where `choice` says so and 0 elsewhere; it is never in memory as a whole.
    """
    plane = (last - first) * C
    for tile in range(first, last):
        y0, x0 = tile // across * 4 - 1, tile % across * 4 - 1
        for i in range(6):
            for j in range(6):
                y, x, to = (y0 + i) // 2, (x0 + j) // 2, (i * 6 + j) * C
                if 0 <= y < h and 0 <= x < v:
                    at = (y * v + x) * C
                    which = splat(np.float32((y0 + i) % 2 * 2 + (x0 + j) % 2))
                    for c in range(0, C, WIDTH):
                        chosen = load_bytes(choice, at + c)
                        value = where_equal(chosen, which, load(dY, at + c), splat(_ZERO))
                        store(patch, to + c, value)
                else:
                    for c in range(0, C, WIDTH):
                        store(patch, to + c, splat(_ZERO))
        _kept_patch(patch, C, D, (tile - first) * C, plane, True)


@compiled
def transform_avg_pooled(dY, h, v, open_, V, C, across, first, last, patch, D):
    """`transform`, turned, of dZ below a ReLU and an average pooling, from dY (h, v, C).

    dZ is dY / 4 where the ReLU is open, `open_` (H, V, C), and 0 elsewhere.
    """
    plane = (last - first) * C
    for tile in range(first, last):
        y0, x0 = tile // across * 4 - 1, tile % across * 4 - 1
        for i in range(6):
            for j in range(6):
                y, x, to = (y0 + i) // 2, (x0 + j) // 2, (i * 6 + j) * C
                if 0 <= y < h and 0 <= x < v:
                    at, below = (y * v + x) * C, ((y0 + i) * V + x0 + j) * C
                    for c in range(0, C, WIDTH):
                        quarter = _QUARTER * load(dY, at + c)
                        store(patch, to + c, quarter * load_bytes(open_, below + c))
                else:
                    for c in range(0, C, WIDTH):
                        store(patch, to + c, splat(_ZERO))
        _kept_patch(patch, C, D, (tile - first) * C, plane, True)


@inlined
def _tile(Q, at, plane):
    """Aᵀ q A of one tile, for eight channels: four rows of four."""
    down = 6 * plane
    a = _from_points(_six(Q, at, down))
    b = _from_points(_six(Q, at + plane, down))
    c = _from_points(_six(Q, at + 2 * plane, down))
    d = _from_points(_six(Q, at + 3 * plane, down))
    e = _from_points(_six(Q, at + 4 * plane, down))
    f = _from_points(_six(Q, at + 5 * plane, down))
    return (
        _from_points((a[0], b[0], c[0], d[0], e[0], f[0])),
        _from_points((a[1], b[1], c[1], d[1], e[1], f[1])),
        _from_points((a[2], b[2], c[2], d[2], e[2], f[2])),
        _from_points((a[3], b[3], c[3], d[3], e[3], f[3])),
    )


@inlined
def _relu(row, bias):
    """max(0, z + b) for a row of four."""
    zero = splat(_ZERO)
    a, b, c, d = row[0] + bias, row[1] + bias, row[2] + bias, row[3] + bias
    return (
        where_greater(a, zero, a, zero),
        where_greater(b, zero, b, zero),
        where_greater(c, zero, c, zero),
        where_greater(d, zero, d, zero),
    )


@inlined
def _put_row(Y, at, step, count, row):
    """Write the first `count` of a row of four."""
    store(Y, at, row[0])
    if count > 1:
        store(Y, at + step, row[1])
    if count > 2:
        store(Y, at + 2 * step, row[2])
    if count > 3:
        store(Y, at + 3 * step, row[3])


@inlined
def _is_open(value):
    """1 where a value is above 0, else 0."""
    return where_greater(value, splat(_ZERO), splat(_ONE), splat(_ZERO))


@inlined
def _put_open_row(open_, at, step, count, row):
    """Note of the first `count` of a row of four whether they are above 0."""
    store_bytes(open_, at, _is_open(row[0]))
    if count > 1:
        store_bytes(open_, at + step, _is_open(row[1]))
    if count > 2:
        store_bytes(open_, at + 2 * step, _is_open(row[2]))
    if count > 3:
        store_bytes(open_, at + 3 * step, _is_open(row[3]))


@compiled
def respond(Q, b, H, V, N, across, first, last, F, open_, keep, note):
    """F = max(0, Aᵀ q A + b) for tiles of the image (H, V, N).

    Written to F if `keep` is set; whether F > 0 is written to `open_` if `note` is.
    """
    plane = (last - first) * N
    for tile in range(first, last):
        y0, x0 = tile // across * 4, tile % across * 4
        rows, columns = min(4, H - y0), min(4, V - x0)
        for c in range(0, N, WIDTH):
            bias = load(b, c)
            tiled = _tile(Q, (tile - first) * N + c, plane)
            at = (y0 * V + x0) * N + c
            for i in range(rows):
                # A tuple has no index that varies.
                row = (
                    tiled[0] if i == 0 else tiled[1] if i == 1 else tiled[2] if i == 2 else tiled[3]
                )
                row = _relu(row, bias)
                if keep:
                    _put_row(F, at + i * V * N, N, columns, row)
                if note:
                    _put_open_row(open_, at + i * V * N, N, columns, row)


@inlined
def _largest(a, b, c, d):
    """Return the largest of a window and which it is, the first of several; `CLOSED` if it is 0."""
    value, which = a, splat(_ZERO)
    which = where_greater(b, value, splat(np.float32(1)), which)
    value = where_greater(b, value, b, value)
    which = where_greater(c, value, splat(np.float32(2)), which)
    value = where_greater(c, value, c, value)
    which = where_greater(d, value, splat(np.float32(3)), which)
    value = where_greater(d, value, d, value)
    return value, where_greater(value, splat(_ZERO), which, splat(_CLOSED))


@compiled
def respond_max_pooled(Q, b, H, V, N, across, first, last, F, keep, Y, choice):
    """Y = the largest of each 2×2 window of F; `choice` notes where it was. F is kept if asked."""
    plane, v = (last - first) * N, V // 2
    for tile in range(first, last):
        y0, x0 = tile // across * 4, tile % across * 4
        rows, columns = min(4, H - y0), min(4, V - x0)
        for c in range(0, N, WIDTH):
            bias = load(b, c)
            tiled = _tile(Q, (tile - first) * N + c, plane)
            for i in range(0, rows, 2):
                upper = _relu(tiled[0] if i == 0 else tiled[2], bias)
                lower = _relu(tiled[1] if i == 0 else tiled[3], bias)
                if keep:
                    at = ((y0 + i) * V + x0) * N + c
                    _put_row(F, at, N, columns, upper)
                    if i + 1 < rows:
                        _put_row(F, at + V * N, N, columns, lower)
                if i + 1 < rows and columns > 1:
                    at = ((y0 + i) // 2 * v + x0 // 2) * N + c
                    value, which = _largest(upper[0], upper[1], lower[0], lower[1])
                    store(Y, at, value)
                    store_bytes(choice, at, which)
                    if columns > 3:
                        value, which = _largest(upper[2], upper[3], lower[2], lower[3])
                        store(Y, at + N, value)
                        store_bytes(choice, at + N, which)


@compiled
def respond_avg_pooled(Q, b, H, V, N, across, first, last, F, keep, Y, open_):
    """Y = the mean of each 2×2 window of F; `open_` notes where F > 0. F is kept if asked."""
    plane, v = (last - first) * N, V // 2
    quarter = splat(_QUARTER)
    for tile in range(first, last):
        y0, x0 = tile // across * 4, tile % across * 4
        rows, columns = min(4, H - y0), min(4, V - x0)
        for c in range(0, N, WIDTH):
            bias = load(b, c)
            tiled = _tile(Q, (tile - first) * N + c, plane)
            for i in range(0, rows, 2):
                upper = _relu(tiled[0] if i == 0 else tiled[2], bias)
                lower = _relu(tiled[1] if i == 0 else tiled[3], bias)
                at = ((y0 + i) * V + x0) * N + c
                _put_open_row(open_, at, N, columns, upper)
                if i + 1 < rows:
                    _put_open_row(open_, at + V * N, N, columns, lower)
                if keep:
                    _put_row(F, at, N, columns, upper)
                    if i + 1 < rows:
                        _put_row(F, at + V * N, N, columns, lower)
                if i + 1 < rows and columns > 1:
                    at = ((y0 + i) // 2 * v + x0 // 2) * N + c
                    store(Y, at, (upper[0] + upper[1] + lower[0] + lower[1]) * quarter)
                    if columns > 3:
                        store(Y, at + N, (upper[2] + upper[3] + lower[2] + lower[3]) * quarter)


@compiled
def derive(Q, H, V, C, across, first, last, dX, open_, masked):
    """dX = Aᵀ q A, turned back, for tiles of the image (H, V, C); only where `open_`, if masked.

    The mask is that of the ReLU below, so that what is written is that layer's dZ.
    """
    plane = (last - first) * C
    for tile in range(first, last):
        y0, x0 = tile // across * 4, tile % across * 4
        rows, columns = min(4, H - y0), min(4, V - x0)
        for c in range(0, C, WIDTH):
            tiled = _tile(Q, (tile - first) * C + c, plane)
            for i in range(rows):
                row = (
                    tiled[3] if i == 0 else tiled[2] if i == 1 else tiled[1] if i == 2 else tiled[0]
                )
                at = ((y0 + i) * V + x0) * C + c
                a, b, d, e = row[3], row[2], row[1], row[0]
                if masked:
                    a = a * load_bytes(open_, at)
                    if columns > 1:
                        b = b * load_bytes(open_, at + C)
                    if columns > 2:
                        d = d * load_bytes(open_, at + 2 * C)
                    if columns > 3:
                        e = e * load_bytes(open_, at + 3 * C)
                _put_row(dX, at, C, columns, (a, b, d, e))


@compiled
def unpool_max(dY, choice, v, C, first, last, V, dX):
    """dX = dY (h, v, C) where `choice` says so, 0 elsewhere, for some rows of windows."""
    for y in range(first, last):
        for x in range(v):
            at = (y * v + x) * C
            for k in range(4):
                to = ((2 * y + k // 2) * V + 2 * x + k % 2) * C
                which = splat(np.float32(k))
                for c in range(0, C, WIDTH):
                    chosen = load_bytes(choice, at + c)
                    value = where_equal(chosen, which, load(dY, at + c), splat(_ZERO))
                    store(dX, to + c, value)


@compiled
def unpool_avg(dY, open_, v, C, first, last, V, dX):
    """dX = dY / 4 at those of a window's positions that are `open_`, for some rows of windows."""
    for y in range(first, last):
        for x in range(v):
            at = (y * v + x) * C
            for k in range(4):
                to = ((2 * y + k // 2) * V + 2 * x + k % 2) * C
                for c in range(0, C, WIDTH):
                    store(dX, to + c, _QUARTER * load(dY, at + c) * load_bytes(open_, to + c))


@compiled
def add_where_open(dF, seed, F, first, last):
    """dF = dF + seed where F > 0, else 0, from one index to another; seed begins at the first."""
    zero = splat(_ZERO)
    for at in range(first, last, WIDTH):
        value = load(dF, at) + load(seed, at - first)
        store(dF, at, where_greater(load(F, at), zero, value, zero))
