"""The list of all terms of a loss, and their targets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.core.content import ContentTerm
from gramstyle.core.conventions import PAPER, Convention
from gramstyle.core.covariance import CovarianceTerm
from gramstyle.core.guided_term import GuidedStyleTerm
from gramstyle.core.kernels import Kernels, PlainKernels
from gramstyle.core.mean_std import MeanStdTerm
from gramstyle.core.style import StyleTerm
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
