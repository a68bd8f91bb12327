"""The covariance of the responses as style: Gram matrices of centred responses.

Not in Gatys et al. (2015), whose Gram matrices contain the means of the filters, too. A mean tells
how much of a colour or a texture there is; a covariance tells which filters vary together. So this
loss transfers the strokes of the style image and leaves the result more of the content image's
colours. It is the CORAL loss of Sun and Saenko (2016), "Deep CORAL", arXiv 1607.01719, equation 1,
with the factors of equation 4. docs/derivations.md derives the gradient.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from gramstyle.core.arrays import Array, cast, namespace, number
from gramstyle.core.kernels import Area, Kernels
from gramstyle.core.term import Reference


def covariance(S: Array, M: int) -> Array:
    """C_ij = 1/M Σ_k (F_ik − μ_i) (F_jk − μ_j) = G_ij / M − μ_i μ_j, shape (N, N).

    S (N + 1, N) has Σ_k F_ik in its first row, and G (equation 3) below it, over M positions.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.covariance import covariance
    >>> F = np.array([[2.0, 4.0], [1.0, 1.0]])
    >>> covariance(np.vstack([F.sum(axis=1), F @ F.T]), M=2)  # the second filter does not vary
    array([[1., 0.],
           [0., 0.]])
    """
    mu = S[0, ...] / M
    result: Array = S[1:, ...] / M - mu[:, None] * mu[None, :]
    return result


def covariance_loss(C: Array, A: Array, N: int) -> float:
    """E_l = 1/(4 N²) Σ_ij (C_ij − A_ij)².

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.covariance import covariance_loss
    >>> covariance_loss(np.eye(2), np.zeros((2, 2)), N=2)
    0.125
    """
    xp = namespace(C)
    return number(xp.sum(xp.square(C - A), dtype=xp.float64)) / (4.0 * N**2)


def covariance_slopes(S: Array, A: Array, N: int, M: int) -> tuple[Array, Array]:
    """Return D (N, N) and d (N,) such that ∂E_l/∂F = D F + d where F > 0, else 0.

    ∂E_l/∂F = 1/(N² M) (C − A) (F − μ), so that D = 1/(N² M) (C − A) and d = −D μ.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.covariance import covariance_slopes
    >>> F = np.array([[2.0, 4.0]])
    >>> S = np.vstack([F.sum(axis=1), F @ F.T])
    >>> D, d = covariance_slopes(S, np.zeros((1, 1)), N=1, M=2)
    >>> D @ F + d  # away from the mean of 3
    array([[-0.5,  0.5]])
    """
    D = (covariance(S, M) - A) / (float(N) ** 2 * float(M))
    mu = S[0, ...] / M
    # A sum, not a matrix product, whose order of summation depends on the processor.
    return D, -namespace(D).sum(D * mu[None, :], axis=1)


@dataclass(frozen=True, kw_only=True)
class CovarianceTerm:
    """The style term of covariances at one layer; `weight` is w_l.

    Attributes
    ----------
    factor
        A factor of the loss, which balances it against the content.
    A
        The style image's covariance (N, N); None before it is computed.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.covariance import CovarianceTerm
    >>> from gramstyle.core.kernels import PlainKernels
    >>> F, kernels = np.array([[[2.0, 4.0]]]), PlainKernels()
    >>> term = CovarianceTerm(layer="conv1_1", weight=0.2).compared_with(np.zeros((2, 1)), M=2)
    >>> term.value(term.sums(F, kernels), N=1, M=2)  # ¼ of the variance 1, squared
    0.25
    """

    name: ClassVar[str] = "style"
    reference: ClassVar[Reference] = "style"
    per_position: ClassVar[bool] = False

    layer: str
    weight: float
    factor: float = 1.0
    A: Array | None = field(default=None, compare=False, repr=False)

    def sums(self, F: Array, kernels: Kernels, area: Area | None = None) -> Array:
        """Return Σ_k F_ik and, below it, G (equation 3) over an area: (N + 1, N)."""
        G = kernels.gram(F, area)
        total = kernels.moments(F, area)[:1, ...]
        result: Array = namespace(G).concat([cast(total, G.dtype), G])
        return result

    def value(self, sums: Array, N: int, M: int) -> float:
        """Return factor · E_l."""
        return self.factor * covariance_loss(covariance(sums, M), self._known(), N)

    def add_gradient(
        self,
        dF: Array | None,
        F: Array,
        sums: Array,
        N: int,
        M: int,
        weight: float,
        kernels: Kernels,
        area: Area | None = None,
    ) -> Array:
        """Return dF + weight · factor · ∂E_l/∂F where F > 0."""
        D, d = covariance_slopes(sums, self._known(), N, M)
        weight *= self.factor
        return kernels.add_affine_gradient(dF, F, weight * D, weight * d, area)

    def target(self, F: Array, kernels: Kernels, area: Area | None = None) -> Array:
        """Return the sums over an area, as `sums` does."""
        return self.sums(F, kernels, area)

    def compared_with(self, target: Array | None, M: int) -> Self:
        """Return a copy of the term with the covariance of sums over M positions."""
        return replace(self, A=None if target is None else covariance(target, M))

    def plus_share(self, other: Self, share: float) -> Self:
        """Return a copy whose A is this term's, if it has one, plus share · the other's A."""
        A = share * other._known()
        return replace(self, A=A if self.A is None else self.A + A)

    def _known(self) -> Array:
        assert self.A is not None, "the style term has no A yet; see with_targets"  # noqa: S101
        return self.A
