"""Blended targets: terms that compare with several images, each with its share.

The weighted sum of the losses of several style images differs from the loss of one blended target
by a constant: docs/derivations.md derives it. So several images cost their forward passes at the
start, and nothing in an evaluation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gramstyle.core.arrays import Array
from gramstyle.core.guides import Guides, with_guides
from gramstyle.core.term import BlendableTerm, Reference, Term
from gramstyle.errors import OptionError

# Returns terms with the targets of one reference image, from its pixels (3, H, W).
AddTargets = Callable[[tuple[Term, ...], Array], tuple[Term, ...]]


@dataclass(frozen=True, eq=False)
class ReferenceSample:
    """An image at one size that targets come from, and its share of them.

    Attributes
    ----------
    pixels
        The image (3, H, W), RGB, 0..255.
    share
        λ, above 0; the shares of one reference add up to 1.
    guides
        The guidance of its regions by layer, if the terms are guided.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.blending import ReferenceSample
    >>> ReferenceSample(np.zeros((3, 4, 5)), share=0.75).share
    0.75
    """

    pixels: Array
    share: float = 1.0
    guides: Guides | None = None


def with_blended_targets(
    terms: tuple[Term, ...],
    reference: Reference,
    samples: Sequence[ReferenceSample],
    add_targets: AddTargets,
) -> tuple[Term, ...]:
    """Return the terms, with the blended targets of several samples of one reference.

    Parameters
    ----------
    terms
        As `loss_terms` returns them. Terms of another reference are returned unchanged.
    reference, samples
        The reference, and at least one sample of it. The targets of one sample are those that
        `add_targets` computes, bit by bit.
    add_targets
        Computes the targets of one sample; called for one after the other.

    Raises
    ------
    OptionError
        If there are several samples, and a term of this reference cannot blend their targets.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.blending import ReferenceSample, with_blended_targets
    >>> from gramstyle.core.terms import loss_terms, with_targets
    >>> terms = loss_terms(content={}, style={"conv1_1": 1.0})
    >>> images = np.full((3, 1, 2), 1.0), np.full((3, 1, 4), 2.0)
    >>> samples = [ReferenceSample(image, share) for image, share in zip(images, (0.75, 0.25))]
    >>> (term,) = with_blended_targets(
    ...     terms, "style", samples, lambda terms, F: with_targets(terms, "style", {"conv1_1": F})
    ... )
    >>> term.A[0], term.M
    (array([1.75, 1.75, 1.75]), 1)
    """
    first, *more = samples
    if not more:
        return add_targets(with_guides(terms, first.guides), first.pixels)
    for term in terms:  # refused before the first forward pass
        if term.reference == reference:
            _blendable(term)
    total = [term.compared_with(None, 0) if term.reference == reference else term for term in terms]
    for sample in samples:
        found = add_targets(with_guides(terms, sample.guides), sample.pixels)
        for index, term in enumerate(total):
            if term.reference == reference:
                total[index] = _blendable(term).plus_share(found[index], sample.share)
    return tuple(total)


def _blendable(term: Term) -> BlendableTerm:
    if not isinstance(term, BlendableTerm) or term.per_position:
        raise OptionError(
            f"the loss {term.name} cannot blend several images or scales; give one style image and "
            "one --style-scale"
        )
    return term
