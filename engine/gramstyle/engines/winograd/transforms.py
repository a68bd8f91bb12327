"""The transforms of tiles and back, with the steps next to a convolution.

Images are stored channels last, (H, V, C), and passed flat: eight channels of a pixel are one load,
whatever the image's width. C and N are multiples of eight. The transformed patches D and the
products Q are (36, tiles, channels), flat. Tiles are numbered in reading order; a call computes
those from `first` to `last`, so that many calls can share an image. `rows` and `columns` are the
tables of `sources`: the positions that the patches read.

Each public function is a loop over tiles around the same two transforms. With `rotated`, it reads
patches rotated by 180°, the only difference between a convolution's backward pass and its forward
pass (`algorithm.conv2d_backward`).
"""

import numpy as np

from gramstyle.engines.winograd.algorithm import FAR, NEAR
from gramstyle.engines.winograd.layout import WIDTH
from gramstyle.engines.winograd.masks import CLOSED
from gramstyle.engines.winograd.simd import (
    load,
    load_bytes,
    splat,
    store,
    store_bytes,
    where_equal,
    where_greater,
)
from gramstyle.system.compiling import compiled, inlined

# In float32, so that Numba does not compute in float64.
_A, _A2, _A3 = (np.float32(NEAR**k) for k in (1, 2, 3))
_B, _B2, _B3 = (np.float32(FAR**k) for k in (1, 2, 3))
_SUM, _PRODUCT = np.float32(NEAR**2 + FAR**2), np.float32(NEAR**2 * FAR**2)
_QUARTER, _ZERO, _ONE = np.float32(0.25), np.float32(0), np.float32(1)
_CLOSED = np.float32(CLOSED)


@inlined
def _input_transform(d):
    """Return Bᵀ d of six numbers: six numbers in the transformed domain."""
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
def _output_transform(q):
    """Return Aᵀ q of six numbers: four outputs."""
    q0, q1, q2, q3, q4, q5 = q
    near, near_odd, far, far_odd = q1 + q2, q1 - q2, q3 + q4, q3 - q4
    return (
        q0 + (near + far),
        _A * near_odd + _B * far_odd,
        _A2 * near + _B2 * far,
        _A3 * near_odd + (_B3 * far_odd + q5),
    )


@inlined
def _load_six(X, at, step):
    return (
        load(X, at),
        load(X, at + step),
        load(X, at + 2 * step),
        load(X, at + 3 * step),
        load(X, at + 4 * step),
        load(X, at + 5 * step),
    )


@inlined
def _store_six(D, at, step, values):
    store(D, at, values[0])
    store(D, at + step, values[1])
    store(D, at + 2 * step, values[2])
    store(D, at + 3 * step, values[3])
    store(D, at + 4 * step, values[4])
    store(D, at + 5 * step, values[5])


@inlined
def _transform_patch(X, at, row, column, C, D, to, plane):
    """Write Bᵀ d B of the patch whose corner is at an index of X, for all channels."""
    for c in range(0, C, WIDTH):
        x, y = at + c, to + c
        a = _input_transform(_load_six(X, x, column))
        b = _input_transform(_load_six(X, x + row, column))
        d = _input_transform(_load_six(X, x + 2 * row, column))
        e = _input_transform(_load_six(X, x + 3 * row, column))
        f = _input_transform(_load_six(X, x + 4 * row, column))
        g = _input_transform(_load_six(X, x + 5 * row, column))
        down = 6 * plane
        _store_six(D, y, down, _input_transform((a[0], b[0], d[0], e[0], f[0], g[0])))
        _store_six(D, y + plane, down, _input_transform((a[1], b[1], d[1], e[1], f[1], g[1])))
        _store_six(D, y + 2 * plane, down, _input_transform((a[2], b[2], d[2], e[2], f[2], g[2])))
        _store_six(D, y + 3 * plane, down, _input_transform((a[3], b[3], d[3], e[3], f[3], g[3])))
        _store_six(D, y + 4 * plane, down, _input_transform((a[4], b[4], d[4], e[4], f[4], g[4])))
        _store_six(D, y + 5 * plane, down, _input_transform((a[5], b[5], d[5], e[5], f[5], g[5])))


@inlined
def _adjacent(table, k):
    """Return whether a patch reads six adjacent positions from an entry of a table on."""
    return table[k] >= 0 and table[k + 5] - table[k] == 5


@inlined
def _transform_gathered(patch, C, D, to, plane, rotated):
    """Write Bᵀ d B of a patch that has been gathered, (6, 6, C)."""
    if rotated:
        _transform_patch(patch, 35 * C, -6 * C, -C, C, D, to, plane)
    else:
        _transform_patch(patch, 0, 6 * C, C, C, D, to, plane)


@compiled
def transform_image(X, rows, columns, V, C, across, first, last, rotated, patch, D):
    """Write D = Bᵀ d B for tiles of X (H, V, C); patch is scratch memory."""
    plane = (last - first) * C
    for tile in range(first, last):
        down, right = tile // across * 4, tile % across * 4
        to = (tile - first) * C
        if _adjacent(rows, down) and _adjacent(columns, right):
            y, x = rows[down], columns[right]
            if rotated:
                _transform_patch(X, ((y + 5) * V + x + 5) * C, -V * C, -C, C, D, to, plane)
            else:
                _transform_patch(X, (y * V + x) * C, V * C, C, C, D, to, plane)
            continue
        for i in range(6):
            for j in range(6):
                y, x = rows[down + i], columns[right + j]
                inside = y >= 0 and x >= 0
                at = (y * V + x) * C
                for c in range(0, C, WIDTH):
                    value = load(X, at + c) if inside else splat(_ZERO)
                    store(patch, (i * 6 + j) * C + c, value)
        _transform_gathered(patch, C, D, to, plane, rotated)


@compiled
def transform_max_pool_backward(dY, argmax, h, v, rows, columns, C, across, first, last, patch, D):
    """Write D, rotated, for dZ: dY (h, v, C) through a max pooling and a ReLU.

    dZ is dY at each window's largest entry and 0 elsewhere. It is never stored as a whole.
    """
    plane = (last - first) * C
    for tile in range(first, last):
        down, right = tile // across * 4, tile % across * 4
        for i in range(6):
            for j in range(6):
                y, x, to = rows[down + i], columns[right + j], (i * 6 + j) * C
                if y >= 0 and x >= 0 and y // 2 < h and x // 2 < v:
                    at = (y // 2 * v + x // 2) * C
                    which = splat(np.float32(y % 2 * 2 + x % 2))
                    for c in range(0, C, WIDTH):
                        largest = load_bytes(argmax, at + c)
                        value = where_equal(largest, which, load(dY, at + c), splat(_ZERO))
                        store(patch, to + c, value)
                else:
                    for c in range(0, C, WIDTH):
                        store(patch, to + c, splat(_ZERO))
        _transform_gathered(patch, C, D, (tile - first) * C, plane, True)


@compiled
def transform_avg_pool_backward(dY, h, v, mask, rows, columns, V, C, across, first, last, patch, D):
    """Write D, rotated, for dZ: dY (h, v, C) through an average pooling and a ReLU.

    dZ is dY / 4 where the mask (H, V, C) is 1, and 0 elsewhere.
    """
    plane = (last - first) * C
    for tile in range(first, last):
        down, right = tile // across * 4, tile % across * 4
        for i in range(6):
            for j in range(6):
                y, x, to = rows[down + i], columns[right + j], (i * 6 + j) * C
                if y >= 0 and x >= 0 and y // 2 < h and x // 2 < v:
                    at, below = (y // 2 * v + x // 2) * C, (y * V + x) * C
                    for c in range(0, C, WIDTH):
                        quarter = _QUARTER * load(dY, at + c)
                        store(patch, to + c, quarter * load_bytes(mask, below + c))
                else:
                    for c in range(0, C, WIDTH):
                        store(patch, to + c, splat(_ZERO))
        _transform_gathered(patch, C, D, (tile - first) * C, plane, True)


@inlined
def _transform_back(Q, at, plane):
    """Return Aᵀ q A of one tile, for eight channels: four rows of four."""
    down = 6 * plane
    a = _output_transform(_load_six(Q, at, down))
    b = _output_transform(_load_six(Q, at + plane, down))
    c = _output_transform(_load_six(Q, at + 2 * plane, down))
    d = _output_transform(_load_six(Q, at + 3 * plane, down))
    e = _output_transform(_load_six(Q, at + 4 * plane, down))
    f = _output_transform(_load_six(Q, at + 5 * plane, down))
    return (
        _output_transform((a[0], b[0], c[0], d[0], e[0], f[0])),
        _output_transform((a[1], b[1], c[1], d[1], e[1], f[1])),
        _output_transform((a[2], b[2], c[2], d[2], e[2], f[2])),
        _output_transform((a[3], b[3], c[3], d[3], e[3], f[3])),
    )


@inlined
def _relu(row, bias):
    """Return max(0, z + b) of a row of four."""
    zero = splat(_ZERO)
    a, b, c, d = row[0] + bias, row[1] + bias, row[2] + bias, row[3] + bias
    return (
        where_greater(a, zero, a, zero),
        where_greater(b, zero, b, zero),
        where_greater(c, zero, c, zero),
        where_greater(d, zero, d, zero),
    )


@inlined
def _store_row(Y, at, step, count, row):
    """Write the first `count` of a row of four."""
    store(Y, at, row[0])
    if count > 1:
        store(Y, at + step, row[1])
    if count > 2:
        store(Y, at + 2 * step, row[2])
    if count > 3:
        store(Y, at + 3 * step, row[3])


@inlined
def _positive(value):
    """Return 1 where a value is above 0, else 0."""
    return where_greater(value, splat(_ZERO), splat(_ONE), splat(_ZERO))


@inlined
def _store_mask_row(mask, at, step, count, row):
    """Write the mask bytes of the first `count` of a row of four."""
    store_bytes(mask, at, _positive(row[0]))
    if count > 1:
        store_bytes(mask, at + step, _positive(row[1]))
    if count > 2:
        store_bytes(mask, at + 2 * step, _positive(row[2]))
    if count > 3:
        store_bytes(mask, at + 3 * step, _positive(row[3]))


@compiled
def write_responses(Q, b, H, V, N, across, first, last, F, mask, store_mask):
    """Write F = max(0, Aᵀ q A + b) for tiles of the image (H, V, N); its mask if `store_mask`."""
    plane = (last - first) * N
    for tile in range(first, last):
        y0, x0 = tile // across * 4, tile % across * 4
        rows, columns = min(4, H - y0), min(4, V - x0)
        for c in range(0, N, WIDTH):
            bias = load(b, c)
            tiled = _transform_back(Q, (tile - first) * N + c, plane)
            at = (y0 * V + x0) * N + c
            for i in range(rows):
                # Numba does not index a tuple with a variable.
                row = (
                    tiled[0] if i == 0 else tiled[1] if i == 1 else tiled[2] if i == 2 else tiled[3]
                )
                row = _relu(row, bias)
                _store_row(F, at + i * V * N, N, columns, row)
                if store_mask:
                    _store_mask_row(mask, at + i * V * N, N, columns, row)


@inlined
def _largest(a, b, c, d):
    """Return the largest entry of a window and its argmax, `CLOSED` if no entry is above 0."""
    value, which = a, splat(_ZERO)
    which = where_greater(b, value, splat(np.float32(1)), which)
    value = where_greater(b, value, b, value)
    which = where_greater(c, value, splat(np.float32(2)), which)
    value = where_greater(c, value, c, value)
    which = where_greater(d, value, splat(np.float32(3)), which)
    value = where_greater(d, value, d, value)
    return value, where_greater(value, splat(_ZERO), which, splat(_CLOSED))


@compiled
def write_max_pooled(Q, b, H, V, N, across, first, last, F, store_f, Y, argmax):
    """Write Y, the largest entry of each 2×2 window of F, and its argmax; F if `store_f`."""
    plane, v = (last - first) * N, V // 2
    for tile in range(first, last):
        y0, x0 = tile // across * 4, tile % across * 4
        rows, columns = min(4, H - y0), min(4, V - x0)
        for c in range(0, N, WIDTH):
            bias = load(b, c)
            tiled = _transform_back(Q, (tile - first) * N + c, plane)
            for i in range(0, rows, 2):
                upper = _relu(tiled[0] if i == 0 else tiled[2], bias)
                lower = _relu(tiled[1] if i == 0 else tiled[3], bias)
                if store_f:
                    at = ((y0 + i) * V + x0) * N + c
                    _store_row(F, at, N, columns, upper)
                    if i + 1 < rows:
                        _store_row(F, at + V * N, N, columns, lower)
                if i + 1 < rows and columns > 1:
                    at = ((y0 + i) // 2 * v + x0 // 2) * N + c
                    value, which = _largest(upper[0], upper[1], lower[0], lower[1])
                    store(Y, at, value)
                    store_bytes(argmax, at, which)
                    if columns > 3:
                        value, which = _largest(upper[2], upper[3], lower[2], lower[3])
                        store(Y, at + N, value)
                        store_bytes(argmax, at + N, which)


@compiled
def write_avg_pooled(Q, b, H, V, N, across, first, last, F, store_f, Y, mask):
    """Write Y, the mean of each 2×2 window of F, and the mask of F; F if `store_f`."""
    plane, v = (last - first) * N, V // 2
    quarter = splat(_QUARTER)
    for tile in range(first, last):
        y0, x0 = tile // across * 4, tile % across * 4
        rows, columns = min(4, H - y0), min(4, V - x0)
        for c in range(0, N, WIDTH):
            bias = load(b, c)
            tiled = _transform_back(Q, (tile - first) * N + c, plane)
            for i in range(0, rows, 2):
                upper = _relu(tiled[0] if i == 0 else tiled[2], bias)
                lower = _relu(tiled[1] if i == 0 else tiled[3], bias)
                at = ((y0 + i) * V + x0) * N + c
                _store_mask_row(mask, at, N, columns, upper)
                if i + 1 < rows:
                    _store_mask_row(mask, at + V * N, N, columns, lower)
                if store_f:
                    _store_row(F, at, N, columns, upper)
                    if i + 1 < rows:
                        _store_row(F, at + V * N, N, columns, lower)
                if i + 1 < rows and columns > 1:
                    at = ((y0 + i) // 2 * v + x0 // 2) * N + c
                    store(Y, at, (upper[0] + upper[1] + lower[0] + lower[1]) * quarter)
                    if columns > 3:
                        store(Y, at + N, (upper[2] + upper[3] + lower[2] + lower[3]) * quarter)


@compiled
def write_derivatives(Q, H, V, C, across, first, last, dX, mask, masked):
    """Write dX = Aᵀ q A, rotated back, for tiles of the image (H, V, C).

    If `masked`, dX is multiplied by the mask of the ReLU below and is that layer's dZ.
    """
    plane = (last - first) * C
    for tile in range(first, last):
        y0, x0 = tile // across * 4, tile % across * 4
        rows, columns = min(4, H - y0), min(4, V - x0)
        for c in range(0, C, WIDTH):
            tiled = _transform_back(Q, (tile - first) * C + c, plane)
            for i in range(rows):
                row = (
                    tiled[3] if i == 0 else tiled[2] if i == 1 else tiled[1] if i == 2 else tiled[0]
                )
                at = ((y0 + i) * V + x0) * C + c
                a, b, d, e = row[3], row[2], row[1], row[0]
                if masked:
                    a = a * load_bytes(mask, at)
                    if columns > 1:
                        b = b * load_bytes(mask, at + C)
                    if columns > 2:
                        d = d * load_bytes(mask, at + 2 * C)
                    if columns > 3:
                        e = e * load_bytes(mask, at + 3 * C)
                _store_row(dX, at, C, columns, (a, b, d, e))
