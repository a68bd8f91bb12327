"""A protected part of an image, which stays the photograph. Not in Gatys et al. (2015).

The optimiser moves z instead of x. The image is x = S∘p + (1 − S)∘z, a composite of the photograph
p and z by a mask S from 0 to 1. Its derivative by z is 1 − S, so ∂L/∂z = (1 − S)∘∂L/∂x. Where S is
1, x is p whatever z is; where S is 0, x is z. In between, x is a mixture of both, also while the
loss is computed, so the style meets the photograph without a seam.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from gramstyle.core.arrays import Array, cast, namespace
from gramstyle.core.evaluation import Evaluation


def composite(z: Array, p: Array, S: Array) -> Array:
    """Return x = S∘p + (1 − S)∘z, of z's shape and float type.

    Parameters
    ----------
    z, p
        The image that the optimiser moves, and the photograph, (3, H, V).
    S
        The mask (H, V), from 0 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.protection import composite
    >>> composite(np.array([[[9.0, 9.0, 9.0]]]), np.ones((1, 1, 3)), np.array([[1.0, 0.5, 0.0]]))
    array([[[1., 5., 9.]]])
    """
    return cast(S * p + (1 - S) * z, z.dtype)


def composite_backward(dx: Array, S: Array) -> Array:
    """Return dz = (1 − S)∘dx, of dx's shape and float type.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.protection import composite_backward
    >>> composite_backward(np.full((1, 1, 3), 4.0), np.array([[1.0, 0.5, 0.0]]))
    array([[[0., 2., 4.]]])
    """
    return cast((1 - S) * dx, dx.dtype)


@dataclass(frozen=True, eq=False)
class Protection:
    """The photograph p (3, H, V), and the mask S (H, V) of its protected part.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.protection import Protection
    >>> protection = Protection(p=np.ones((3, 1, 2)), S=np.array([[1.0, 0.0]]))
    >>> protection.image(np.full((3, 1, 2), 9.0))[0]
    array([[1., 9.]])
    """

    p: Array
    S: Array

    def image(self, z: Array) -> Array:
        """Return the image x (3, H, V) that z stands for."""
        return composite(z, self.p, self.S)

    def beside(self, z: Array) -> "Protection":
        """Return the protection in the memory of z, a GPU's or the host's."""
        xp = namespace(z)
        return (
            self if namespace(self.p) is xp else Protection(xp.asarray(self.p), xp.asarray(self.S))
        )

    def around(self, evaluate: Callable[[Array], Evaluation]) -> Callable[[Array], Evaluation]:
        """Return the loss and its gradient as a function of z, from those as a function of x."""
        here = self

        def loss_and_gradient(z: Array) -> Evaluation:
            nonlocal here
            here = here.beside(z)  # placed once
            evaluation = evaluate(here.image(z))
            return replace(evaluation, gradient=composite_backward(evaluation.gradient, here.S))

        return loss_and_gradient
