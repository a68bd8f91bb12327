"""Objectives with a known minimum."""

from dataclasses import dataclass

import numpy as np

from gramstyle.core.arrays import Array, namespace, on_host


@dataclass(frozen=True)
class At:
    loss: float
    gradient: Array


class Quadratic:
    """½ (x − t)ᵀ A (x − t) with a given condition of A and t partly outside 0..255.

    Records its calls.
    """

    def __init__(self, n: int = 60, condition: float = 1e3, scale: float = 1.0) -> None:
        rng = np.random.default_rng(n)
        Q, _ = np.linalg.qr(rng.standard_normal((n, n)))
        self.A = scale * (Q * np.geomspace(1, condition, n)) @ Q.T
        self.target = rng.uniform(-150, 400, n)
        self.calls: list[Array] = []

    def __call__(self, x: Array) -> At:
        self.calls.append(on_host(x).copy())
        xp = namespace(x)
        A, target = xp.asarray(self.A), xp.asarray(self.target)
        difference = xp.reshape(x, (-1,)) - target
        g = A @ difference
        return At(0.5 * float(xp.sum(difference * g)), xp.reshape(g, x.shape))
