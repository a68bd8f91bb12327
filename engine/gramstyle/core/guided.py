"""Guided Gram matrices: the style of a region of an image, with the gradient below it.

Gatys et al. (2017, arXiv 1611.07865, section 4.1) multiply the responses at each position k by a
guidance T_k from 0 to 1 before the Gram matrix is taken. Not in Gatys et al. (2015).

F are responses (N, M) and T is the guidance (M,) of one region. m = Σ_k T_k² takes the place of M:
the loss of a region is `losses.style_loss` of its guided Gram matrices, with m for M. So where T is
1 everywhere, each function here gives what the one of `losses` gives.
"""

from gramstyle.core import losses
from gramstyle.core.arrays import Array, cast, namespace


def guided_gram(F: Array, T: Array) -> Array:
    """Return G = (T∘F) (T∘F)ᵀ, that is G_ij = Σ_k T_k² F_ik F_jk.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.guided import guided_gram
    >>> guided_gram(np.array([[1.0, 2.0, 9.0], [0.0, 1.0, 9.0]]), T=np.array([1.0, 0.5, 0.0]))
    array([[2.  , 0.5 ],
           [0.5 , 0.25]])
    """
    X = T * F
    return X @ X.T


def guided_gram_jvp(tF: Array, F: Array, T: Array) -> Array:
    """tG = (T∘tF) (T∘F)ᵀ + (T∘F) (T∘tF)ᵀ; the guidance T does not change with the pixels.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.guided import guided_gram_jvp
    >>> F, tF = np.array([[1.0, 2.0, 9.0]]), np.array([[1.0, 1.0, 1.0]])
    >>> guided_gram_jvp(tF, F, T=np.array([1.0, 0.5, 0.0]))
    array([[3.]])
    """
    return losses.gram_jvp(T * tF, T * F)


def guided_style_gradient(F: Array, T: Array, G: Array, A: Array, N: int, m: float) -> Array:
    """∂E/∂F = 1/(N² m²) T∘((G − A) (T∘F)) where F > 0, else 0.

    Parameters
    ----------
    F, T
        The responses (N, M) and the guidance (M,).
    G, A
        The guided Gram matrices (N, N) of the image and of the style image, A rescaled to m.
    N, m
        The number of filters, and Σ T² over the whole image.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.guided import guided_gram, guided_style_gradient
    >>> from gramstyle.core.losses import style_loss
    >>> F, T, A = np.array([[1.0, 2.0], [0.0, 1.0]]), np.array([1.0, 0.5]), np.zeros((2, 2))
    >>> dF = guided_style_gradient(F, T, guided_gram(F, T), A, N=2, m=1.25)
    >>> dF.round(4)
    array([[0.32, 0.18],
           [0.  , 0.05]])
    >>> step = 1e-6 * np.array([[0.0, 1.0], [0.0, 0.0]])
    >>> pair = (style_loss(guided_gram(moved, T), A, 2, 1.25) for moved in (F + step, F - step))
    >>> up, down = pair
    >>> print(f"{(up - down) / 2e-6:.4f}")  # a central difference agrees
    0.1800
    """
    D = cast((G - A) / (float(N) ** 2 * float(m) ** 2), F.dtype)
    return namespace(F).where(F > 0, T * (D @ (T * F)), 0)


def guided_style_gradient_jvp(
    tF: Array, F: Array, T: Array, tG: Array, G: Array, A: Array, N: int, m: float
) -> Array:
    """Return the gradient's tangent, 1/(N² m²) T∘(tG (T∘F) + (G − A) (T∘tF)) where F > 0.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.guided import guided_gram, guided_gram_jvp, guided_style_gradient_jvp
    >>> F, tF, T = np.array([[1.0, 2.0]]), np.array([[1.0, 0.0]]), np.array([1.0, 0.5])
    >>> tG, G = guided_gram_jvp(tF, F, T), guided_gram(F, T)
    >>> guided_style_gradient_jvp(tF, F, T, tG, G, A=np.zeros((1, 1)), N=1, m=1.25)
    array([[2.56, 0.64]])
    """
    X, tX, scale = T * F, T * tF, float(N) ** 2 * float(m) ** 2
    tD, D = cast(tG / scale, F.dtype), cast((G - A) / scale, F.dtype)
    return namespace(F).where(F > 0, T * (tD @ X + D @ tX), 0)
