"""The loops over the tiles of a strip, with the steps next to a convolution.

Images are stored channels last, (H, V, C), and passed flat: a register's channels of a pixel are
one load, whatever the image's width. A strip is the tiles from `first` to `last`, in reading order;
many calls can share an image. Its transformed patches D are (planes, tiles, channels), flat, and
the products Q (planes, tiles, width): the channels of one panel, which starts at channel `start` of
the image (see `products`). Planes are `GAP` apart. `rows` and `columns` are the tables of
`sources`: the positions that the patches read. The arrays `patch` and `out` are scratch memory.

The functions that read patches differ in what lies in a patch, those that write outputs in what
becomes of them. With `rotated`, patches are rotated by 180°, the only difference between a
convolution's backward pass and its forward pass (`algorithm.conv2d_backward`).
"""

import numpy as np

from gramstyle.engines.winograd.layout import GAP
from gramstyle.engines.winograd.masks import CLOSED
from gramstyle.engines.winograd.simd import (
    WIDTH,
    load,
    load_bytes,
    relu,
    splat,
    store,
    store_bytes,
    store_mask,
    where_equal,
    where_greater,
    where_mask,
)
from gramstyle.engines.winograd.tiles import patch_transform, tile_transform
from gramstyle.system.compiling import compiled, inlined

# In float32, so that Numba does not compute in float64.
_QUARTER, _ZERO = np.float32(0.25), np.float32(0)
_CLOSED = np.float32(CLOSED)

_patch_of_four, _patch_of_six = patch_transform(4), patch_transform(6)
_tile_of_four, _tile_of_six = tile_transform(4), tile_transform(6)


@compiled
def _transform_patch(X, at, row, column, C, tile, D, to, plane):
    """Write Bᵀ d B of the patch whose corner is at an index of X, for all channels."""
    for c in range(0, C, WIDTH):
        if tile == 4:
            _patch_of_four(X, at + c, row, column, D, to + c, plane)
        else:
            _patch_of_six(X, at + c, row, column, D, to + c, plane)


@inlined
def _transform_gathered(patch, C, tile, D, to, plane, rotated):
    """Write Bᵀ d B of a patch that has been gathered, (m + 2, m + 2, C)."""
    edge = tile + 2
    if rotated:
        _transform_patch(patch, (edge * edge - 1) * C, -edge * C, -C, C, tile, D, to, plane)
    else:
        _transform_patch(patch, 0, edge * C, C, C, tile, D, to, plane)


@inlined
def _adjacent(table, k, edge):
    """Return whether a patch reads adjacent positions from an entry of a table on."""
    return table[k] >= 0 and table[k + edge - 1] - table[k] == edge - 1


@compiled
def transform_image(X, rows, columns, V, C, tile, across, first, last, rotated, patch, D):
    """Write D = Bᵀ d B for tiles of X (H, V, C)."""
    plane, edge = (last - first) * C + GAP, tile + 2
    for number in range(first, last):
        down, right = number // across * tile, number % across * tile
        to = (number - first) * C
        if _adjacent(rows, down, edge) and _adjacent(columns, right, edge):
            y, x = rows[down], columns[right]
            if rotated:
                corner = ((y + edge - 1) * V + x + edge - 1) * C
                _transform_patch(X, corner, -V * C, -C, C, tile, D, to, plane)
            else:
                _transform_patch(X, (y * V + x) * C, V * C, C, C, tile, D, to, plane)
            continue
        for i in range(edge):
            for j in range(edge):
                y, x = rows[down + i], columns[right + j]
                inside = y >= 0 and x >= 0
                at = (y * V + x) * C
                for c in range(0, C, WIDTH):
                    value = load(X, at + c) if inside else splat(_ZERO)
                    store(patch, (i * edge + j) * C + c, value)
        _transform_gathered(patch, C, tile, D, to, plane, rotated)


@compiled
def transform_max_pool_backward(
    dY, argmax, h, v, rows, columns, C, tile, across, first, last, patch, D
):
    """Write D, rotated, for dZ: dY (h, v, C) through a max pooling and a ReLU.

    dZ is dY at each window's largest entry and 0 elsewhere. It is never stored as a whole.
    """
    plane, edge = (last - first) * C + GAP, tile + 2
    for number in range(first, last):
        down, right = number // across * tile, number % across * tile
        for i in range(edge):
            for j in range(edge):
                y, x, to = rows[down + i], columns[right + j], (i * edge + j) * C
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
        _transform_gathered(patch, C, tile, D, (number - first) * C, plane, True)


@compiled
def transform_avg_pool_backward(
    dY, h, v, mask, rows, columns, V, C, tile, across, first, last, patch, D
):
    """Write D, rotated, for dZ: dY (h, v, C) through an average pooling and a ReLU.

    dZ is dY / 4 where the mask (H, V, C) is set, and 0 elsewhere.
    """
    plane, edge = (last - first) * C + GAP, tile + 2
    for number in range(first, last):
        down, right = number // across * tile, number % across * tile
        for i in range(edge):
            for j in range(edge):
                y, x, to = rows[down + i], columns[right + j], (i * edge + j) * C
                if y >= 0 and x >= 0 and y // 2 < h and x // 2 < v:
                    at, below = (y // 2 * v + x // 2) * C, (y * V + x) * C
                    for c in range(0, C, WIDTH):
                        quarter = _QUARTER * load(dY, at + c)
                        store(patch, to + c, where_mask(mask, below + c, quarter))
                else:
                    for c in range(0, C, WIDTH):
                        store(patch, to + c, splat(_ZERO))
        _transform_gathered(patch, C, tile, D, (number - first) * C, plane, True)


@inlined
def _transform_back(Q, at, plane, tile, out):
    """Write Aᵀ q A of one tile, for the channels of a register, to `out`."""
    if tile == 4:
        _tile_of_four(Q, at, plane, out)
    else:
        _tile_of_six(Q, at, plane, out)


@inlined
def _response(out, at, bias):
    """Return max(0, z + b)."""
    return relu(load(out, at * WIDTH) + bias)


@compiled
def write_responses(Q, start, width, b, H, V, N, tile, across, first, last, out, F, mask, masked):
    """Write F = max(0, Aᵀ q A + b) for tiles of the image (H, V, N); its mask if `masked`."""
    plane = (last - first) * width + GAP
    for number in range(first, last):
        y0, x0 = number // across * tile, number % across * tile
        rows, columns = min(tile, H - y0), min(tile, V - x0)
        for k in range(0, width, WIDTH):
            bias = load(b, start + k)
            _transform_back(Q, (number - first) * width + k, plane, tile, out)
            for i in range(rows):
                at = ((y0 + i) * V + x0) * N + start + k
                for j in range(columns):
                    value = _response(out, i * tile + j, bias)
                    store(F, at + j * N, value)
                    if masked:
                        store_mask(mask, at + j * N, value)


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
def write_max_pooled(
    Q, start, width, b, H, V, N, tile, across, first, last, out, F, store_f, Y, argmax
):
    """Write Y, the largest entry of each 2×2 window of F, and its argmax; F if `store_f`."""
    plane, v = (last - first) * width + GAP, V // 2
    for number in range(first, last):
        y0, x0 = number // across * tile, number % across * tile
        rows, columns = min(tile, H - y0), min(tile, V - x0)
        for k in range(0, width, WIDTH):
            bias = load(b, start + k)
            _transform_back(Q, (number - first) * width + k, plane, tile, out)
            if store_f:
                for i in range(rows):
                    at = ((y0 + i) * V + x0) * N + start + k
                    for j in range(columns):
                        store(F, at + j * N, _response(out, i * tile + j, bias))
            for i in range(0, rows - 1, 2):
                at = ((y0 + i) // 2 * v + x0 // 2) * N + start + k
                for j in range(0, columns - 1, 2):
                    corner = i * tile + j
                    value, which = _largest(
                        _response(out, corner, bias),
                        _response(out, corner + 1, bias),
                        _response(out, corner + tile, bias),
                        _response(out, corner + tile + 1, bias),
                    )
                    store(Y, at + j // 2 * N, value)
                    store_bytes(argmax, at + j // 2 * N, which)


@compiled
def write_avg_pooled(
    Q, start, width, b, H, V, N, tile, across, first, last, out, F, store_f, Y, mask
):
    """Write Y, the mean of each 2×2 window of F, and the mask of F; F if `store_f`."""
    plane, v = (last - first) * width + GAP, V // 2
    for number in range(first, last):
        y0, x0 = number // across * tile, number % across * tile
        rows, columns = min(tile, H - y0), min(tile, V - x0)
        for k in range(0, width, WIDTH):
            bias = load(b, start + k)
            _transform_back(Q, (number - first) * width + k, plane, tile, out)
            for i in range(rows):
                at = ((y0 + i) * V + x0) * N + start + k
                for j in range(columns):
                    value = _response(out, i * tile + j, bias)
                    store_mask(mask, at + j * N, value)
                    if store_f:
                        store(F, at + j * N, value)
            for i in range(0, rows - 1, 2):
                at = ((y0 + i) // 2 * v + x0 // 2) * N + start + k
                for j in range(0, columns - 1, 2):
                    corner = i * tile + j
                    a, c = _response(out, corner, bias), _response(out, corner + 1, bias)
                    d = _response(out, corner + tile, bias)
                    e = _response(out, corner + tile + 1, bias)
                    store(Y, at + j // 2 * N, _QUARTER * (a + c + d + e))


@compiled
def write_derivatives(
    Q, start, width, H, V, C, ring, tile, across, first, last, out, dX, border, mask, masked
):
    """Write dX (H, V, C) = Aᵀ q A, rotated back, for tiles of the derivative with its border.

    The border is `ring` wide, 0 or 1, and is written to `border` (see `add_border`). If `masked`,
    dX is multiplied by the mask of the ReLU below and is that layer's dZ.
    """
    plane = (last - first) * width + GAP
    for number in range(first, last):
        y0, x0 = number // across * tile, number % across * tile
        rows, columns = min(tile, H + 2 * ring - y0), min(tile, V + 2 * ring - x0)
        for k in range(0, width, WIDTH):
            _transform_back(Q, (number - first) * width + k, plane, tile, out)
            for i in range(rows):
                y = y0 + i - ring
                for j in range(columns):
                    x = x0 + j - ring
                    value = load(out, (tile * tile - 1 - i * tile - j) * WIDTH)
                    if 0 <= y < H and 0 <= x < V:
                        at = (y * V + x) * C + start + k
                        store(dX, at, where_mask(mask, at, value) if masked else value)
                    else:
                        store(border, _border_place(y, x, H, V) * C + start + k, value)


@inlined
def _border_place(y, x, H, V):
    """Return the place of a position of the border: the rows above and below, then the columns."""
    if y < 0:
        place = x + 1
    elif y == H:
        place = V + 3 + x
    else:
        place = 2 * V + 4 + y + (H if x == V else 0)
    return place


@compiled
def add_border(border, H, V, C, above, below, before, behind, dX, mask, masked):
    """Add each derivative of the border to dX where its value comes from.

    `above` and `below` are the rows that the border copies, `before` and `behind` the columns.
    """
    for y in range(-1, H + 1):
        row = above if y < 0 else below if y == H else y
        for x in range(-1, V + 1):
            if 0 <= y < H and 0 <= x < V:
                continue
            column = before if x < 0 else behind if x == V else x
            at, place = (row * V + column) * C, _border_place(y, x, H, V) * C
            for c in range(0, C, WIDTH):
                value = load(border, place + c)
                if masked:
                    value = where_mask(mask, at + c, value)
                store(dX, at + c, load(dX, at + c) + value)
