"""The mean and the standard deviation of each filter as style. Not in Gatys et al. (2015).

The statistics of batch normalisation as style: Li, Wang, Liu and Hou (2017), "Demystifying Neural
Style Transfer", arXiv 1701.01036, section 4.2. docs/derivations.md derives the gradient.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from gramstyle.core.arrays import Array, namespace, number
from gramstyle.core.kernels import Area, Kernels, affine_jvp, matrix
from gramstyle.core.moments import Moments, moments_jvp
from gramstyle.core.term import Reference

# ε, added to each variance: the deviation of a filter that does not respond has a derivative, too.
EPSILON = 1e-5


def mean_std(S: Moments) -> Array:
    """Return μ_i and σ_i = √(1/M Σ_k (F_ik − μ_i)² + ε) as rows (2, N), from the moments of F.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.mean_std import mean_std
    >>> from gramstyle.core.moments import moments
    >>> mean_std(moments(np.array([[2.0, 4.0]]))).round(3)
    array([[3.],
           [1.]])
    """
    xp = namespace(S.mean)
    result: Array = xp.stack([S.mean, xp.sqrt(S.products / S.count + EPSILON)])
    return result


def mean_std_jvp(tS: Moments, S: Moments) -> Array:
    """Return the tangents of μ and σ as rows (2, N), from those of the moments.

    tσ_i = 1/M Σ_k (F_ik − μ_i) (tF_ik − tμ_i) / σ_i.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.mean_std import mean_std_jvp
    >>> from gramstyle.core.moments import moments, moments_jvp
    >>> F, tF = np.array([[2.0, 4.0]]), np.array([[0.0, 1.0]])
    >>> mean_std_jvp(moments_jvp(tF, F), moments(F)).round(3)  # the mean and σ grow by a half
    array([[0.5],
           [0.5]])
    """
    sigma = mean_std(S)[1, ...]
    tsigma = tS.products / S.count / (2.0 * sigma)
    result: Array = namespace(sigma).stack([tS.mean, tsigma])
    return result


def mean_std_loss(T: Array, A: Array, N: int) -> float:
    """E_l = 1/N Σ_i (μ_i − μᵃ_i)² + (σ_i − σᵃ_i)², where T and A (2, N) have the rows μ and σ.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.mean_std import mean_std_loss
    >>> mean_std_loss(np.array([[3.0], [1.0]]), np.array([[1.0], [2.0]]), N=1)
    5.0
    """
    xp = namespace(T)
    return number(xp.sum(xp.square(T - A), dtype=xp.float64)) / N


def mean_std_loss_jvp(tT: Array, T: Array, A: Array, N: int) -> float:
    """2/N Σ_i (μ_i − μᵃ_i) tμ_i + (σ_i − σᵃ_i) tσ_i: the derivative of E_l along tT.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.mean_std import mean_std_loss_jvp
    >>> T, A = np.array([[3.0], [1.0]]), np.array([[1.0], [2.0]])
    >>> mean_std_loss_jvp(np.array([[0.5], [0.5]]), T, A, N=1)
    1.0
    """
    xp = namespace(T)
    return 2.0 * number(xp.sum((T - A) * tT, dtype=xp.float64)) / N


def mean_std_slopes(T: Array, A: Array, N: int, M: int) -> tuple[Array, Array]:
    """Return D and d, each (N,), such that ∂E_l/∂F_ik = D_i F_ik + d_i where F > 0, else 0.

    ∂E_l/∂F_ik = 2/(N M) ((μ_i − μᵃ_i) + (σ_i − σᵃ_i) (F_ik − μ_i)/σ_i), so that
    D_i = 2/(N M) (σ_i − σᵃ_i)/σ_i and d_i = 2/(N M) (μ_i − μᵃ_i) − D_i μ_i.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.mean_std import mean_std_slopes
    >>> D, d = mean_std_slopes(np.array([[3.0], [1.0]]), np.array([[1.0], [2.0]]), N=1, M=2)
    >>> D, d  # at the responses 2 and 4: ∂E/∂F is 3 and 1
    (array([-1.]), array([5.]))
    """
    mu, sigma = T[0, ...], T[1, ...]
    D = 2.0 / (N * M) * (sigma - A[1, ...]) / sigma
    return D, 2.0 / (N * M) * (mu - A[0, ...]) - D * mu


def mean_std_slopes_jvp(tT: Array, T: Array, A: Array, N: int, M: int) -> tuple[Array, Array]:
    """Return the tangents of D and d, each (N,).

    D_i = 2/(N M) (1 − σᵃ_i/σ_i), so that tD_i = 2/(N M) σᵃ_i tσ_i / σ_i², and
    td_i = 2/(N M) tμ_i − tD_i μ_i − D_i tμ_i.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.mean_std import mean_std_slopes_jvp
    >>> T, A = np.array([[3.0], [1.0]]), np.array([[1.0], [2.0]])
    >>> mean_std_slopes_jvp(np.array([[0.5], [0.5]]), T, A, N=1, M=2)
    (array([1.]), array([-2.]))
    """
    mu, sigma, tmu, tsigma = T[0, ...], T[1, ...], tT[0, ...], tT[1, ...]
    D, _ = mean_std_slopes(T, A, N, M)
    tD = 2.0 / (N * M) * A[1, ...] * tsigma / (sigma * sigma)
    return tD, 2.0 / (N * M) * tmu - tD * mu - D * tmu


@dataclass(frozen=True, kw_only=True)
class MeanStdTerm:
    """The style term of means and standard deviations at one layer; `weight` is w_l.

    Attributes
    ----------
    factor
        A factor of the loss, which balances it against the content.
    A
        The style image's means and deviations (2, N); None before they are computed.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.kernels import PlainKernels
    >>> from gramstyle.core.mean_std import MeanStdTerm
    >>> F, kernels = np.array([[[2.0, 4.0]]]), PlainKernels()
    >>> term = MeanStdTerm(layer="conv1_1", weight=0.2)
    >>> term = term.compared_with(term.target(0 * F, kernels), M=2)
    >>> S = term.sums(F, kernels)
    >>> print(f"{term.value(S, N=1, M=2):.3f}")  # 3², and the 1 of the deviation beside √ε
    9.994
    """

    name: ClassVar[str] = "style"
    reference: ClassVar[Reference] = "style"
    per_position: ClassVar[bool] = False

    layer: str
    weight: float
    factor: float = 1.0
    A: Array | None = field(default=None, compare=False, repr=False)

    def sums(self, F: Array, kernels: Kernels, area: Area | None = None) -> Moments:
        """Return the moments of F over an area."""
        return kernels.moments(F, area)

    def value(self, sums: Moments, N: int, M: int) -> float:  # noqa: ARG002 - sums have M
        """Return factor · E_l."""
        return self.factor * mean_std_loss(mean_std(sums), self._known(), N)

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
        D, d = mean_std_slopes(mean_std(sums), self._known(), N, M)
        weight *= self.factor
        return kernels.add_affine_gradient(dF, F, weight * D, weight * d, area)

    def sums_jvp(self, tF: Array, F: Array) -> Moments:
        """Return the tangents of the moments."""
        return moments_jvp(matrix(tF), matrix(F))

    def value_jvp(self, tsums: Moments, sums: Moments, N: int, M: int) -> float:  # noqa: ARG002 - sums have M
        """Return the derivative of factor · E_l."""
        T, tT = mean_std(sums), mean_std_jvp(tsums, sums)
        return self.factor * mean_std_loss_jvp(tT, T, self._known(), N)

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
        T, tT, A = mean_std(sums), mean_std_jvp(tsums, sums), self._known()
        D, _ = mean_std_slopes(T, A, N, M)
        return weight * self.factor * affine_jvp(tF, F, D, *mean_std_slopes_jvp(tT, T, A, N, M))

    def target(self, F: Array, kernels: Kernels, area: Area | None = None) -> Moments:
        """Return the moments of F over an area."""
        return kernels.moments(F, area)

    def compared_with(self, target: Moments | None, M: int) -> Self:  # noqa: ARG002 - it has M
        """Return a copy of the term with the mean and deviation of moments over M positions."""
        return replace(self, A=None if target is None else mean_std(target))

    def plus_share(self, other: Self, share: float) -> Self:
        """Return a copy whose A is this term's, if it has one, plus share · the other's A."""
        A = share * other._known()
        return replace(self, A=A if self.A is None else self.A + A)

    def _known(self) -> Array:
        assert self.A is not None, "the style term has no A yet; see with_targets"  # noqa: S101
        return self.A
