"""Equations 1 to 7 of Gatys, Ecker, Bethge (2015), each loss with its gradient below it.

F, P are responses of one layer, shape (N, M): N filters at M positions. G, A are Gram matrices,
shape (N, N). M is an argument, never F.shape[1]: on a part of an image the two differ. tF and tG
are tangents, the derivatives of F and G along a direction in the pixels. The jvp of a loss is its
derivative along that direction, the jvp of a gradient that of the gradient. The losses
are summed in float64, whatever the float type of the responses. On a GPU a loss is an array
without axes, which counts like a float (`core.arrays.number`).
"""

from collections.abc import Mapping
from functools import reduce
from operator import add

from gramstyle.core.arrays import Array, cast, namespace, number


def content_loss(F: Array, P: Array) -> float:
    """L_content = ½ Σ_ij (F_ij − P_ij)²  (equation 1).

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.losses import content_loss
    >>> content_loss(np.array([[3.0, 0.0]]), np.array([[1.0, 2.0]]))
    4.0
    """
    xp = namespace(F)
    return 0.5 * number(xp.sum(xp.square(F - P), dtype=xp.float64))


def content_gradient(F: Array, P: Array) -> Array:
    """∂L_content/∂F = F − P where F > 0, else 0  (equation 2).

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.losses import content_gradient
    >>> content_gradient(np.array([[3.0, 0.0]]), np.array([[1.0, 2.0]]))  # 0 where F = 0
    array([[2., 0.]])
    """
    return namespace(F).where(F > 0, F - P, 0)


def content_loss_jvp(tF: Array, F: Array, P: Array) -> float:
    """Σ_ij (F_ij − P_ij) tF_ij: the derivative of equation 1 along tF.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.losses import content_loss_jvp
    >>> F, P = np.array([[3.0, 0.0]]), np.array([[1.0, 2.0]])
    >>> content_loss_jvp(np.array([[0.5, 0.0]]), F, P)
    1.0
    """
    xp = namespace(F)
    return number(xp.sum((F - P) * tF, dtype=xp.float64))


def content_gradient_jvp(tF: Array, F: Array) -> Array:
    """Return the tangent of equation 2: tF where F > 0, else 0.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.losses import content_gradient_jvp
    >>> content_gradient_jvp(np.array([[0.5, 7.0]]), np.array([[3.0, 0.0]]))
    array([[0.5, 0. ]])
    """
    return namespace(F).where(F > 0, tF, 0)


def gram(F: Array) -> Array:
    """G_ij = Σ_k F_ik F_jk, that is G = F Fᵀ  (equation 3).

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.losses import gram
    >>> gram(np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0]]))
    array([[5., 2.],
           [2., 2.]])
    """
    return F @ F.T


def gram_jvp(tF: Array, F: Array) -> Array:
    """tG = tF Fᵀ + F tFᵀ: the tangent of equation 3.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.losses import gram_jvp
    >>> gram_jvp(np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[3.0, 2.0], [1.0, 5.0]]))
    array([[6., 1.],
           [1., 0.]])
    """
    half = tF @ F.T
    return half + half.T


def style_loss(G: Array, A: Array, N: int, M: float) -> float:
    """E_l = 1/(4 N² M²) Σ_ij (G_ij − A_ij)²  (equation 4).

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.losses import gram, style_loss
    >>> F, A = np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0]]), np.zeros((2, 2))
    >>> style_loss(gram(F), A, N=2, M=3)
    0.2569444444444444
    """
    xp = namespace(G)
    return number(xp.sum(xp.square(G - A), dtype=xp.float64)) / (4.0 * N**2 * M**2)


def style_loss_jvp(tG: Array, G: Array, A: Array, N: int, M: float) -> float:
    """1/(2 N² M²) Σ_ij (G_ij − A_ij) tG_ij: the derivative of equation 4 along tG.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.losses import style_loss_jvp
    >>> style_loss_jvp(np.eye(2), G=4 * np.eye(2), A=np.eye(2), N=2, M=3)
    0.08333333333333333
    """
    xp = namespace(G)
    return number(xp.sum((G - A) * tG, dtype=xp.float64)) / (2.0 * N**2 * M**2)


def weighted_sum(values: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """Σ_k weights_k values_k, over the names of `values`.

    Examples
    --------
    >>> from gramstyle.core.losses import weighted_sum
    >>> weighted_sum({"content": 4.0, "style": 3.0}, {"content": 0.5, "style": 2.0})
    8.0
    """
    # One addition after the other: what `sum` does with floats changed in Python 3.12.
    return reduce(add, (weights[name] * value for name, value in values.items()), 0.0)


def total_style_loss(E: Mapping[str, float], w: Mapping[str, float]) -> float:
    """L_style = Σ_l w_l E_l  (equation 5).

    Examples
    --------
    >>> from gramstyle.core.losses import total_style_loss
    >>> total_style_loss({"conv1_1": 4.0, "conv2_1": 2.0}, {"conv1_1": 0.5, "conv2_1": 0.5})
    3.0
    """
    return weighted_sum({layer: E[layer] for layer in w}, w)


def style_gradient(F: Array, G: Array, A: Array, N: int, M: float) -> Array:
    """∂E_l/∂F = 1/(N² M²) ((Fᵀ (G − A))ᵀ) where F > 0, else 0  (equation 6).

    G and A are symmetric, so (Fᵀ (G − A))ᵀ = (G − A) F.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.losses import gram, style_gradient, style_loss
    >>> F, A = np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0]]), np.zeros((2, 2))
    >>> dF = style_gradient(F, gram(F), A, N=2, M=3)
    >>> dF.round(4)
    array([[0.1389, 0.3333, 0.    ],
           [0.    , 0.1667, 0.0556]])
    >>> step = 1e-6 * np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    >>> up, down = (style_loss(gram(moved), A, N=2, M=3) for moved in (F + step, F - step))
    >>> print(f"{(up - down) / 2e-6:.4f}")  # a central difference agrees
    0.1389
    """
    xp = namespace(F)
    D = cast((G - A) / (float(N) ** 2 * float(M) ** 2), F.dtype)
    return xp.where(F > 0, D @ F, 0)


def style_gradient_jvp(
    tF: Array, F: Array, tG: Array, G: Array, A: Array, N: int, M: float
) -> Array:
    """Return the tangent of equation 6: 1/(N² M²) (tG F + (G − A) tF) where F > 0, else 0.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.losses import gram, gram_jvp, style_gradient, style_gradient_jvp
    >>> F, A = np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0]]), np.zeros((2, 2))
    >>> tF = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    >>> style_gradient_jvp(tF, F, gram_jvp(tF, F), gram(F), A, N=2, M=3).round(4)
    array([[0.1944, 0.1111, 0.    ],
           [0.    , 0.    , 0.    ]])
    >>> up, down = (style_gradient(f, gram(f), A, N=2, M=3) for f in (F + 1e-6 * tF, F - 1e-6 * tF))
    >>> print(f"{((up - down) / 2e-6)[0, 0]:.4f}")  # a central difference agrees
    0.1944
    """
    xp = namespace(F)
    scale = float(N) ** 2 * float(M) ** 2
    tD, D = cast(tG / scale, F.dtype), cast((G - A) / scale, F.dtype)
    return xp.where(F > 0, tD @ F + D @ tF, 0)


def total_loss(content: float, style: float, alpha: float, beta: float) -> float:
    """L_total = α L_content + β L_style  (equation 7).

    Examples
    --------
    >>> from gramstyle.core.losses import total_loss
    >>> total_loss(content=200.0, style=3.0, alpha=0.001, beta=1.0)
    3.2
    """
    return alpha * content + beta * style
