"""An implementation of the paper's loss, tested on the conformance cases.

    gramstyle conformance run --against conformance_adapter:value_and_grad

Run it in this folder. The implementation is plain NumPy, a stand-in for yours: what counts is
where each number of a case belongs. docs/conformance.md lists them all with their shapes.
"""

import numpy as np

# NumPy's names of the paddings.
MODES = {"zeros": "constant", "replicate": "edge", "reflect": "reflect", "circular": "wrap"}


def value_and_grad(image, case):
    """Return the loss, its gradient at the image (3, H, V), and dF (N, H, V) of every layer."""
    sees, dtype = case.preprocessing, image.dtype
    order = [2, 1, 0] if sees.channels == "BGR" else [0, 1, 2]
    mean, scale = (np.array(each, dtype).reshape(3, 1, 1) for each in (sees.mean, sees.scale))

    # The forward pass: X[name] is what a layer reads, F[name] what it returns.
    X, F, v = {}, {}, (image[order] - mean) * scale
    for layer in case.layers:
        X[layer.name] = v
        if hasattr(layer, "W"):
            v = np.pad(v, ((0, 0), (1, 1), (1, 1)), MODES[layer.padding])
            v = np.maximum(
                convolve(v, layer.W.astype(dtype)) + layer.b.astype(dtype)[:, None, None], 0
            )
        else:
            v = np.max(windows(v), axis=3) if layer.kind == "max" else np.mean(windows(v), axis=3)
        F[layer.name] = v

    # Each loss term is a factor times a sum of squares; `seeds` holds its derivative by F.
    loss, seeds = 0.0, {name: np.zeros_like(responses) for name, responses in F.items()}
    if case.content is not None:
        name, factor = case.content.layer, case.content.factor
        D = F[name] - case.content.P.astype(dtype)
        loss += factor * np.square(D).sum()
        seeds[name] += 2 * factor * D
    for name, term in case.style.items():
        F_l = F[name].reshape(len(F[name]), -1)
        M = F_l.shape[1]
        D = F_l @ F_l.T / M - term.A.astype(dtype)
        loss += term.factor * np.square(D).sum()
        seeds[name] += (4 * term.factor / M * (D @ F_l)).reshape(F[name].shape)

    for name, regions in case.regions.items():
        F_l = F[name].reshape(len(F[name]), -1)
        for term in regions:  # the style of a region: T weights the positions
            T = term.T.reshape(-1).astype(dtype)
            guided, m = T * F_l, np.square(T).sum()
            D = guided @ guided.T / m - term.A.astype(dtype)
            loss += term.factor * np.square(D).sum()
            seeds[name] += (4 * term.factor / m * T * (D @ guided)).reshape(F[name].shape)
    for name, term in case.statistics.items():
        F_l = F[name].reshape(len(F[name]), -1)
        M, mu = F_l.shape[1], F_l.mean(axis=1)
        H = F_l - mu[:, None]
        if term.statistic == "mean-std":
            sigma = np.sqrt(np.square(H).mean(axis=1) + 1e-5)
            D = np.stack([mu, sigma]) - term.A.astype(dtype)
            slope = D[0][:, None] + D[1][:, None] * H / sigma[:, None]
        else:
            D = H @ H.T / M - term.A.astype(dtype)
            slope = 2 * D @ H
        loss += term.factor * np.square(D).sum()
        seeds[name] += (2 * term.factor / M * slope).reshape(F[name].shape)

    # The backward pass: the same layers from the deepest down.
    dF, dX = {}, 0.0
    for layer in case.layers[::-1]:
        name = layer.name
        dF[name] = dX + seeds[name]
        if hasattr(layer, "W"):
            turned = layer.W.astype(dtype)[:, :, ::-1, ::-1].swapaxes(0, 1)
            dZ = np.pad(dF[name] * (F[name] > 0), ((0, 0), (2, 2), (2, 2)))
            dX = unpad(convolve(dZ, turned), layer.padding)
        else:
            dX = unpool(dF[name], X[name], layer.kind)
    gradient = (dX * scale)[order]

    # Total variation looks at the pixels themselves.
    for axis in (1, 2):
        d = np.diff(image, axis=axis)
        loss += case.tv * np.square(d).sum()
        gradient -= 2 * case.tv * np.diff(d, axis=axis, prepend=0, append=0)
    return loss, gradient, dF


def convolve(X, W):
    """Return the 3×3 convolution of X (C, H + 2, V + 2) with W (N, C, 3, 3): (N, H, V)."""
    patches = np.lib.stride_tricks.sliding_window_view(X, (3, 3), (1, 2))
    return np.tensordot(W, patches, ((1, 2, 3), (0, 3, 4)))


def unpad(dX, padding):
    """Add the derivative by the padding to the positions that it copies."""
    C, H, V = dX.shape[0], dX.shape[1] - 2, dX.shape[2] - 2
    if padding == "zeros":
        return dX[:, 1:-1, 1:-1]
    copied = np.pad(np.arange(H * V).reshape(H, V), 1, MODES[padding]).ravel()
    total = [np.bincount(copied, channel.ravel()) for channel in dX]
    return np.array(total, dX.dtype).reshape(C, H, V)


def windows(X):
    """Return the 2×2 windows of X (C, H, V) as (C, H // 2, V // 2, 4); odd edges are left out."""
    C, H, V = X.shape[0], X.shape[1] // 2, X.shape[2] // 2
    return X[:, : 2 * H, : 2 * V].reshape(C, H, 2, V, 2).swapaxes(2, 3).reshape(C, H, V, 4)


def unpool(dY, X, kind):
    """Return dX of a pooling: all of dY at a window's first maximum, or a quarter at all four."""
    first = windows(X).argmax(axis=3)[..., None] == np.arange(4)
    parts = dY[..., None] * (first if kind == "max" else np.full(4, 0.25, X.dtype))
    (C, H, V), dX = dY.shape, np.zeros_like(X)
    dX[:, : 2 * H, : 2 * V] = parts.reshape(C, H, V, 2, 2).swapaxes(2, 3).reshape(C, 2 * H, 2 * V)
    return dX
