"""The covariance of the responses as style: Gram matrices of centred responses.

Not in Gatys et al. (2015), whose Gram matrices contain the means of the filters, too. A mean tells
how much of a colour or a texture there is; a covariance tells which filters vary together. So this
loss transfers the strokes of the style image and leaves the result more of the content image's
colours. It is the CORAL loss of Sun and Saenko (2016), "Deep CORAL", arXiv 1607.01719, equation 1,
with the factors of equation 4. docs/derivations.md derives the gradient.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from gramstyle.core.arrays import Array, namespace, number
from gramstyle.core.kernels import Area, Kernels, affine_jvp, matrix
from gramstyle.core.moments import Moments, moments_jvp
from gramstyle.core.term import Reference


def covariance(S: Moments) -> Array:
    """C_ij = 1/M Σ_k (F_ik − μ_i) (F_jk − μ_j), shape (N, N), from the moments of pairs.

    The tangent of C is the same function of the tangents of the moments.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.covariance import covariance
    >>> from gramstyle.core.moments import moments
    >>> F = np.array([[2.0, 4.0], [1.0, 1.0]])
    >>> covariance(moments(F, pairs=True))  # the second filter does not vary
    array([[1., 0.],
           [0., 0.]])
    """
    result: Array = S.products / S.count
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


def covariance_loss_jvp(tC: Array, C: Array, A: Array, N: int) -> float:
    """1/(2 N²) Σ_ij (C_ij − A_ij) tC_ij: the derivative of E_l along tC.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.covariance import covariance_loss_jvp
    >>> covariance_loss_jvp(np.eye(2), np.eye(2), np.zeros((2, 2)), N=2)
    0.25
    """
    xp = namespace(C)
    return number(xp.sum((C - A) * tC, dtype=xp.float64)) / (2.0 * N**2)


def covariance_slopes(S: Moments, A: Array, N: int, M: int) -> tuple[Array, Array]:
    """Return D (N, N) and d (N,) such that ∂E_l/∂F = D F + d where F > 0, else 0.

    ∂E_l/∂F = 1/(N² M) (C − A) (F − μ), so that D = 1/(N² M) (C − A) and d = −D μ.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.covariance import covariance_slopes
    >>> from gramstyle.core.moments import moments
    >>> F = np.array([[2.0, 4.0]])
    >>> D, d = covariance_slopes(moments(F, pairs=True), np.zeros((1, 1)), N=1, M=2)
    >>> D @ F + d  # away from the mean of 3
    array([[-0.5,  0.5]])
    """
    D = (covariance(S) - A) / (float(N) ** 2 * float(M))
    # A sum, not a matrix product, whose order of summation depends on the processor.
    return D, -namespace(D).sum(D * S.mean[None, :], axis=1)


def covariance_slopes_jvp(tS: Moments, S: Moments, A: Array, N: int, M: int) -> tuple[Array, Array]:
    """Return the tangents of D (N, N) and d (N,): tD = 1/(N² M) tC and td = −tD μ − D tμ.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.covariance import covariance_slopes_jvp
    >>> from gramstyle.core.moments import moments, moments_jvp
    >>> F, tF = np.array([[2.0, 4.0]]), np.array([[0.0, 1.0]])
    >>> S, tS = moments(F, pairs=True), moments_jvp(tF, F, pairs=True)
    >>> covariance_slopes_jvp(tS, S, np.zeros((1, 1)), N=1, M=2)
    (array([[0.5]]), array([-1.75]))
    """
    D, _ = covariance_slopes(S, A, N, M)
    tD = covariance(tS) / (float(N) ** 2 * float(M))
    return tD, -namespace(D).sum(tD * S.mean[None, :] + D * tS.mean[None, :], axis=1)


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
    >>> term = CovarianceTerm(layer="conv1_1", weight=0.2)
    >>> term = term.compared_with(term.target(0 * F, kernels), M=2)
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

    def sums(self, F: Array, kernels: Kernels, area: Area | None = None) -> Moments:
        """Return the moments of F over an area, with the products of all pairs of filters."""
        return kernels.moments(F, area, pairs=True)

    def value(self, sums: Moments, N: int, M: int) -> float:  # noqa: ARG002 - sums have M
        """Return factor · E_l."""
        return self.factor * covariance_loss(covariance(sums), self._known(), N)

    def add_gradient(
        self,
        dF: Array | None,
        F: Array,
        sums: Moments,
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

    def sums_jvp(self, tF: Array, F: Array) -> Moments:
        """Return the tangents of the moments."""
        return moments_jvp(matrix(tF), matrix(F), pairs=True)

    def value_jvp(self, tsums: Moments, sums: Moments, N: int, M: int) -> float:  # noqa: ARG002 - sums have M
        """Return the derivative of factor · E_l."""
        C, tC = covariance(sums), covariance(tsums)
        return self.factor * covariance_loss_jvp(tC, C, self._known(), N)

    def gradient_jvp(
        self,
        tF: Array,
        F: Array,
        tsums: Moments,
        sums: Moments,
        N: int,
        M: int,
        weight: float,
    ) -> Array:
        """Return weight · factor · (D tF + tD F + td) where F > 0."""
        A = self._known()
        D, _ = covariance_slopes(sums, A, N, M)
        tD, td = covariance_slopes_jvp(tsums, sums, A, N, M)
        return weight * self.factor * affine_jvp(tF, F, D, tD, td)

    def target(self, F: Array, kernels: Kernels, area: Area | None = None) -> Moments:
        """Return the moments over an area, as `sums` does."""
        return self.sums(F, kernels, area)

    def compared_with(self, target: Moments | None, M: int) -> Self:  # noqa: ARG002 - it has M
        """Return a copy of the term with the covariance of moments over M positions."""
        return replace(self, A=None if target is None else covariance(target))

    def plus_share(self, other: Self, share: float) -> Self:
        """Return a copy whose A is this term's, if it has one, plus share · the other's A."""
        A = share * other._known()
        return replace(self, A=A if self.A is None else self.A + A)

    def _known(self) -> Array:
        assert self.A is not None, "the style term has no A yet; see with_targets"  # noqa: S101
        return self.A
