"""The content term and the style term, the list of all terms, and their targets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import ClassVar, Self

import numpy as np

from gramstyle.core import losses
from gramstyle.core.arrays import Array
from gramstyle.core.conventions import PAPER, Convention
from gramstyle.core.covariance import CovarianceTerm
from gramstyle.core.guided_term import GuidedStyleTerm
from gramstyle.core.kernels import Area, Kernels, PlainKernels, within
from gramstyle.core.mean_std import MeanStdTerm
from gramstyle.core.term import PIXELS, Reference, Term
from gramstyle.core.total_variation import TotalVariationTerm

__all__ = [
    "PIXELS",
    "STYLE_LOSSES",
    "ContentTerm",
    "CovarianceTerm",
    "GuidedStyleTerm",
    "MeanStdTerm",
    "Reference",
    "StyleTerm",
    "Term",
    "TotalVariationTerm",
    "layers_of",
    "loss_terms",
    "positions",
    "with_target_arrays",
    "with_targets",
    "without_targets",
]

# The statistics of the responses that a style loss may compare; the first one is the paper's.
STYLE_LOSSES = ("gram", "mean-std", "covariance")


@dataclass(frozen=True, kw_only=True)
class ContentTerm:
    """The content term: equations 1 and 2 at one layer.

    Attributes
    ----------
    P
        The content image's responses (N, H, V), or those of an area; None before they are computed.
    convention
        The convention whose factor multiplies the equations.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.kernels import PlainKernels
    >>> from gramstyle.core.terms import ContentTerm
    >>> F, P, kernels = np.full((2, 1, 3), 3.0), np.ones((2, 1, 3)), PlainKernels()
    >>> term = ContentTerm(layer="conv4_2").compared_with(P, M=3)
    >>> term.value(term.sums(F, kernels), N=2, M=3)
    12.0
    >>> term.add_gradient(None, F, None, N=2, M=3, weight=0.5, kernels=kernels)
    array([[[1., 1., 1.]],
           [[1., 1., 1.]]])
    """

    name: ClassVar[str] = "content"
    reference: ClassVar[Reference] = "content"
    per_position: ClassVar[bool] = True

    layer: str
    weight: float = 1.0
    convention: Convention = PAPER
    P: Array | None = field(default=None, compare=False, repr=False)

    def sums(self, F: Array, kernels: Kernels, area: Area | None = None) -> float:
        """Return ½ Σ (F − P)² over an area (equation 1)."""
        del kernels
        return losses.content_loss(within(F, area), self._known(self.P))

    def value(self, sums: float, N: int, M: int) -> float:
        """Return L_content (equation 1), as the convention scales it."""
        return self.convention.content_factor(N, M) * sums

    def add_gradient(
        self,
        dF: Array | None,
        F: Array,
        sums: float,
        N: int,
        M: int,
        weight: float,
        kernels: Kernels,
        area: Area | None = None,
    ) -> Array:
        """Return dF + weight · (F − P) where F > 0 (equation 2)."""
        del sums
        weight *= self.convention.content_factor(N, M)
        return kernels.add_content_gradient(dF, F, self._known(self.P), weight, area)

    def target(self, F: Array, kernels: Kernels, area: Area | None = None) -> Array:
        """Return a copy of the responses (N, h, v) in an area, in F's memory order."""
        del kernels
        return within(F, area).copy(order="K")

    def compared_with(self, target: Array, M: int) -> Self:
        """Return a copy of the term whose target is P."""
        del M
        return replace(self, P=target)

    @staticmethod
    def _known(P: Array | None) -> Array:
        assert P is not None, "the content term has no P yet; see with_targets"  # noqa: S101
        return P


@dataclass(frozen=True, kw_only=True)
class StyleTerm:
    """The style term: equations 3, 4 and 6 at one layer; `weight` is w_l.

    Attributes
    ----------
    A
        The style image's Gram matrix (N, N), summed over its positions; None before it is computed.
    M
        The number of positions that A is summed over.
    convention
        The convention whose factor multiplies the equations.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.kernels import PlainKernels
    >>> from gramstyle.core.terms import StyleTerm
    >>> F, kernels = np.full((2, 1, 3), 3.0), PlainKernels()
    >>> term = StyleTerm(layer="conv1_1", weight=0.2).compared_with(np.zeros((2, 2)), M=3)
    >>> G = term.sums(F, kernels)
    >>> term.value(G, N=2, M=3)
    20.25
    >>> term.add_gradient(None, F, G, N=2, M=3, weight=0.2, kernels=kernels).round(4)
    array([[[0.9, 0.9, 0.9]],
           [[0.9, 0.9, 0.9]]])
    """

    name: ClassVar[str] = "style"
    reference: ClassVar[Reference] = "style"
    per_position: ClassVar[bool] = False

    layer: str
    weight: float
    convention: Convention = PAPER
    A: Array | None = field(default=None, compare=False, repr=False)
    M: int = field(default=0, compare=False)

    def sums(self, F: Array, kernels: Kernels, area: Area | None = None) -> Array:
        """Return G = F Fᵀ (N, N) over an area (equation 3)."""
        return kernels.gram(F, area)

    def value(self, sums: Array, N: int, M: int) -> float:
        """Return E_l (equation 4), as the convention scales it."""
        return self.convention.style_factor * losses.style_loss(sums, self._scaled(M), N, M)

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
        """Return dF + weight · 1/(N² M²) (G − A) F where F > 0 (equation 6)."""
        del N
        weight *= self.convention.style_factor
        return kernels.add_style_gradient(dF, F, sums, self._scaled(M), M, weight, area)

    def target(self, F: Array, kernels: Kernels, area: Area | None = None) -> Array:
        """Return the Gram matrix (N, N) over an area (equation 3)."""
        return kernels.gram(F, area)

    def compared_with(self, target: Array, M: int) -> Self:
        """Return a copy of the term whose target is A, summed over M positions."""
        return replace(self, A=target, M=M)

    def plus_share(self, other: Self, share: float) -> Self:
        """Return a copy whose A/M is this term's, if it has one, plus share · the other's A/M."""
        assert other.A is not None  # noqa: S101 - as above
        A = other.A * (share / other.M)
        return self.compared_with(A if self.A is None else self._scaled(1) + A, 1)

    def _scaled(self, M: int) -> Array:
        """Return A, rescaled to the M positions of the generated image.

        Differs from Gatys et al. (2015) if the style image and the content image differ in size:
        equation 4 has one M for both. Here each Gram matrix is divided by its own M.
        """
        assert self.A is not None, "the style term has no A yet; see with_targets"  # noqa: S101
        return self.A * (M / self.M)


_OTHER_STYLES: Mapping[str, type[MeanStdTerm | CovarianceTerm]] = MappingProxyType(
    {"mean-std": MeanStdTerm, "covariance": CovarianceTerm}
)


def loss_terms(
    *,
    content: Mapping[str, float],
    style: Mapping[str, float],
    tv: bool = False,
    convention: Convention = PAPER,
    wraps: bool = False,
    style_loss: str = "gram",
    style_factor: float = 1.0,
    regions: Sequence[float] | None = None,
) -> tuple[Term, ...]:
    """Return the terms of a loss, without targets.

    Parameters
    ----------
    content, style
        The weight of each layer where the loss compares; an empty mapping leaves the loss out.
    tv
        Whether the total variation is a term.
    convention
        The convention whose factors multiply the equations.
    wraps
        Whether the total variation continues at the opposite edge, as circular padding does.
    style_loss, style_factor
        The statistic that the style loss compares, one of `STYLE_LOSSES`, and a factor of every
        style loss except "gram".
    regions
        The share of each region, if Gram matrices are compared region by region
        (`gramstyle.core.guides.with_guides` adds the guidance).

    Examples
    --------
    >>> from gramstyle.core.terms import loss_terms
    >>> terms = loss_terms(content={"conv4_2": 1.0}, style={"conv1_1": 1.0}, tv=True)
    >>> [(term.name, term.layer) for term in terms]
    [('content', 'conv4_2'), ('style', 'conv1_1'), ('tv', 'pixels')]
    """
    return (
        *(
            ContentTerm(layer=layer, weight=weight, convention=convention)
            for layer, weight in content.items()
        ),
        *(
            _style_term(layer, weight, convention, regions, style_loss, style_factor)
            for layer, weight in style.items()
        ),
        *([TotalVariationTerm(wraps=wraps)] if tv else []),
    )


def _style_term(
    layer: str,
    weight: float,
    convention: Convention,
    regions: Sequence[float] | None,
    style_loss: str,
    style_factor: float,
) -> Term:
    if style_loss != "gram":
        return _OTHER_STYLES[style_loss](layer=layer, weight=weight, factor=style_factor)
    if regions is None:
        return StyleTerm(layer=layer, weight=weight, convention=convention)
    shares = tuple(regions)
    return GuidedStyleTerm(layer=layer, weight=weight, shares=shares, convention=convention)


def with_targets(
    terms: Sequence[Term],
    reference: Reference,
    responses: Mapping[str, Array],
    kernels: Kernels | None = None,
) -> tuple[Term, ...]:
    """Return the terms, with targets added to those of one reference image.

    Parameters
    ----------
    terms
        As `loss_terms` returns them. Terms of another reference image are returned unchanged.
    reference, responses
        The reference image, and its responses (N, H, V) by layer.
    kernels
        The kernels that compute Gram matrices; `PlainKernels` by default.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.terms import loss_terms, with_targets
    >>> terms = loss_terms(content={}, style={"conv1_1": 1.0})
    >>> (term,) = with_targets(terms, "style", {"conv1_1": np.ones((2, 3, 4))})
    >>> term.A
    array([[12., 12.],
           [12., 12.]])
    """
    step = PlainKernels() if kernels is None else kernels

    def compared(term: Term) -> Term:
        F = responses[term.layer]
        return term.compared_with(term.target(F, step), positions(F))

    return tuple(compared(term) if term.reference == reference else term for term in terms)


def without_targets(terms: Sequence[Term]) -> tuple[Term, ...]:
    """Return the terms without their targets.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.terms import loss_terms, with_targets, without_targets
    >>> terms = loss_terms(content={}, style={"conv1_1": 1.0})
    >>> terms = with_targets(terms, "style", {"conv1_1": np.ones((2, 3, 4))})
    >>> without_targets(terms)[0].A is None
    True
    """
    return tuple(term if term.reference is None else term.compared_with(None, 0) for term in terms)


def with_target_arrays(
    terms: Sequence[Term], convert: Callable[[Array], Array], *, per_position: bool = False
) -> tuple[Term, ...]:
    """Return the terms with their targets converted, for example to another float type or device.

    Parameters
    ----------
    terms
        Terms that have their targets.
    convert
        Called with each target.
    per_position
        Whether to convert only the targets with one entry per position.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.terms import loss_terms, with_target_arrays, with_targets
    >>> terms = loss_terms(content={}, style={"conv1_1": 1.0})
    >>> terms = with_targets(terms, "style", {"conv1_1": np.ones((2, 3, 4))})
    >>> (term,) = with_target_arrays(terms, lambda target: target.astype(np.float32))
    >>> term.A.dtype
    dtype('float32')
    """
    result: list[Term] = []
    for term in terms:
        if isinstance(term, ContentTerm) and term.P is not None:
            result.append(replace(term, P=convert(term.P)))
        elif (
            isinstance(term, StyleTerm | MeanStdTerm | CovarianceTerm | GuidedStyleTerm)
            and term.A is not None
            and not per_position
        ):
            result.append(replace(term, A=convert(term.A)))
        else:
            result.append(term)
    return tuple(result)


def layers_of(terms: Sequence[Term], reference: Reference | None = None) -> tuple[str, ...]:
    """Return the layers that the terms use, each once; only one reference image's if given.

    Examples
    --------
    >>> from gramstyle.core.terms import layers_of, loss_terms
    >>> terms = loss_terms(content={"conv4_2": 1.0}, style={"conv1_1": 1.0}, tv=True)
    >>> layers_of(terms), layers_of(terms, "style")
    (('conv4_2', 'conv1_1'), ('conv1_1',))
    """
    names = (
        term.layer for term in terms if term.layer != PIXELS and reference in (None, term.reference)
    )
    return tuple(dict.fromkeys(names))


def positions(F: Array) -> int:
    """Return M, the number of positions of responses (N, H, V).

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.terms import positions
    >>> positions(np.zeros((64, 3, 4)))
    12
    """
    return int(np.prod(F.shape[1:]))
