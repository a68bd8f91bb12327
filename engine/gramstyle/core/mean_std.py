"""The mean and the standard deviation of each filter as style. Not in Gatys et al. (2015).

The statistics of batch normalisation as style: Li, Wang, Liu and Hou (2017), "Demystifying Neural
Style Transfer", arXiv 1701.01036, section 4.2. docs/derivations.md derives the gradient.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from gramstyle.core.arrays import Array, namespace, number
from gramstyle.core.kernels import Area, Kernels
from gramstyle.core.term import Reference

# ε, added to each variance: the deviation of a filter that does not respond has a derivative, too.
EPSILON = 1e-5


def mean_std(S: Array, M: int) -> Array:
    """Return μ_i = S_1i / M and σ_i = √(S_2i / M − μ_i² + ε) as rows (2, N).

    S (2, N) has the sums of F and of F² over M positions; a variance below 0 by rounding counts
    as 0.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.mean_std import mean_std
    >>> mean_std(np.array([[6.0], [20.0]]), M=2).round(3)  # of the responses 2 and 4
    array([[3.],
           [1.]])
    """
    xp = namespace(S)
    mu = S[0, ...] / M
    variance = xp.maximum(S[1, ...] / M - mu * mu, xp.zeros_like(mu))
    result: Array = xp.stack([mu, xp.sqrt(variance + EPSILON)])
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
    >>> term = MeanStdTerm(layer="conv1_1", weight=0.2).compared_with(np.zeros((2, 1)), M=2)
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

    def sums(self, F: Array, kernels: Kernels, area: Area | None = None) -> Array:
        """Return the sums of F and of F² over an area, in float64: (2, N)."""
        return kernels.moments(F, area)

    def value(self, sums: Array, N: int, M: int) -> float:
        """Return factor · E_l."""
        return self.factor * mean_std_loss(mean_std(sums, M), self._known(), N)

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
        D, d = mean_std_slopes(mean_std(sums, M), self._known(), N, M)
        weight *= self.factor
        return kernels.add_affine_gradient(dF, F, weight * D, weight * d, area)

    def target(self, F: Array, kernels: Kernels, area: Area | None = None) -> Array:
        """Return the sums of F and of F² over an area, in float64: (2, N)."""
        return kernels.moments(F, area)

    def compared_with(self, target: Array | None, M: int) -> Self:
        """Return a copy of the term with the mean and deviation of sums over M positions."""
        return replace(self, A=None if target is None else mean_std(target, M))

    def plus_share(self, other: Self, share: float) -> Self:
        """Return a copy whose A is this term's, if it has one, plus share · the other's A."""
        A = share * other._known()
        return replace(self, A=A if self.A is None else self.A + A)

    def _known(self) -> Array:
        assert self.A is not None, "the style term has no A yet; see with_targets"  # noqa: S101
        return self.A
