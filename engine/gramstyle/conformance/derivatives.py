"""The derivatives that an answer may have beside the gradient, and their truth.

jvp and hvp are along one direction tx in the pixels, which follows from the name of the case.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from gramstyle.conformance.exact.hashed import Numbers
from gramstyle.conformance.exact.ordered import OrderedKernels
from gramstyle.core.arrays import Array
from gramstyle.core.network import WeightGradients
from gramstyle.core.objective import Objective
from gramstyle.core.terms import with_target_arrays

# The names of the derivatives in the dictionary that an adapter returns.
NAMES = ("dW", "db", "jvp", "hvp")


@dataclass(frozen=True, kw_only=True)
class Derivatives:
    """Further derivatives of a loss; an answer may leave out any of them.

    Attributes
    ----------
    dW, db
        ∂L/∂W (N, C, 3, 3) and ∂L/∂b (N,) by the name of the convolution.
    jvp
        ⟨∂L/∂x, tx⟩, the derivative of the loss along the direction; None if it is left out.
    hvp
        The Hessian of L times the direction, (3, H, V); None if it is left out.

    Examples
    --------
    >>> from gramstyle.conformance import cases
    >>> case = cases()[0]
    >>> case.derivatives.dW["conv1_1"].shape, case.derivatives.hvp.shape
    ((4, 3, 3, 3), (3, 6, 7))
    """

    dW: Mapping[str, Array] = field(default_factory=dict)
    db: Mapping[str, Array] = field(default_factory=dict)
    jvp: float | None = None
    hvp: Array | None = None

    def quantities(self) -> dict[str, Array]:
        """Return all derivatives by the names that reports give them."""
        found = {} if self.jvp is None else {"jvp": np.asarray(self.jvp)}
        if self.hvp is not None:
            found["hvp"] = self.hvp
        found |= {f"dW of {layer}": dW for layer, dW in self.dW.items()}
        return found | {f"db of {layer}": db for layer, db in self.db.items()}


def direction_of(name: str, shape: tuple[int, ...]) -> Array:
    """Return the direction of a case, numbers from −1 to 1 that follow from its name."""
    return Numbers(f"{name}/direction").uniform(-1, 1, *shape)


def derivatives(objective: Objective, x: Array, tx: Array) -> Derivatives:
    """Return all derivatives of an objective at x by the readable layers, in x's float type.

    Those of a case of the catalogue have the same bytes on every machine, as its other numbers do.
    """
    dtype = x.dtype
    if isinstance(objective.kernels, OrderedKernels):
        objective, x, tx = _in_python_floats(objective), x.astype(object), tx.astype(object)
    weights = objective.weight_gradients(x) if objective.layers else WeightGradients(x)
    return Derivatives(
        dW={name: dW.astype(dtype) for name, dW in weights.dW.items()},
        db={name: db.astype(dtype) for name, db in weights.db.items()},
        jvp=objective.jvp(x, tx).loss,
        hvp=objective.hvp(x, tx).astype(dtype),
    )


def _in_python_floats(objective: Objective) -> Objective:
    """Return the objective on arrays of Python floats, which NumPy adds one after the other."""
    return replace(
        objective,
        network=objective.network.astype(object),
        terms=with_target_arrays(objective.terms, lambda array: array.astype(object)),
    )
