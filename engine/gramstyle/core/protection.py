"""A protected part of an image, which stays the photograph. Not in Gatys et al. (2015).

The optimiser moves z instead of x. The image is x = S∘p + (1 − S)∘z, a composite of the photograph
p and z by a mask S from 0 to 1. Its derivative by z is 1 − S, so ∂L/∂z = (1 − S)∘∂L/∂x. Where S is
1, x is p whatever z is; where S is 0, x is z. In between, x is a mixture of both, also while the
loss is computed, so the style meets the photograph without a seam.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from gramstyle.core.arrays import Array, cast, namespace
from gramstyle.core.evaluation import Evaluation, LossValues


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


def composite_jvp(tz: Array, S: Array) -> Array:
    """Return tx = (1 − S)∘tz, of tz's shape and float type; p does not change with z.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.protection import composite_jvp
    >>> composite_jvp(np.full((1, 1, 3), 4.0), np.array([[1.0, 0.5, 0.0]]))
    array([[[0., 2., 4.]]])
    """
    return cast((1 - S) * tz, tz.dtype)


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

    def around_jvp(
        self, jvp: Callable[[Array, Array], LossValues]
    ) -> Callable[[Array, Array], LossValues]:
        """Return the derivative along tz at z as a function, from that along tx at x."""

        def along(z: Array, tz: Array) -> LossValues:
            here = self.beside(z)
            return jvp(here.image(z), composite_jvp(tz, here.S))

        return along

    def around_hvp(self, hvp: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
        """Return the Hessian by z times tz as a function of both, from the Hessian by x times tx.

        x is affine in z, so it adds no second derivative of its own.
        """

        def along(z: Array, tz: Array) -> Array:
            here = self.beside(z)
            return composite_backward(hvp(here.image(z), composite_jvp(tz, here.S)), here.S)

        return along
