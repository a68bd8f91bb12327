"""The terms of the loss: the interface through which all code computes a loss.

L_total is a sum over terms. Each term uses the responses of one layer, or the pixels, and belongs
to one of the losses that equation 7 weights: "content", "style", "tv". A term knows

- its sums over positions (`sums`). The sums of disjoint areas add up to those of the whole image,
  so that tiles and clusters are exact;
- its value, computed from the sums of the whole image (`value`);
- its derivative by the responses at some positions (`add_gradient`), with the ReLU's mask where
  equations 2 and 6 have it;
- its target (`target`): the array of the content image or the style image that it compares with.

A term that can compare with several images at once, each with its share, is a `BlendableTerm`. A
term that uses the responses of each region of an image apart is a `GuidedTerm`. A term with the
tangents of its sums, its value and its gradient is a `TangentTerm`: an objective of such terms has
forward mode and Hessian-vector products.

To add a loss, write one module beside this one, with the loss's value, gradient and term, and add
one line to `loss_terms`.
"""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, Self, runtime_checkable

from gramstyle.core.arrays import Array
from gramstyle.core.kernels import Area, Kernels

# The `layer` of a term that uses the pixels.
PIXELS = "pixels"

# The images that targets come from.
Reference = Literal["content", "style"]

# A term's sum over positions: a number, an array, or `moments.Moments`.
Sum = Any


class Term(Protocol):
    """One term of the loss; F and dF are a layer's (N, H, V), or the pixels' (3, H, V)."""

    @property
    def name(self) -> str:
        """The loss that the term belongs to; `Objective.weights` has its weight, such as α."""

    @property
    def reference(self) -> Reference | None:
        """The image that the target comes from; None for a term without a target."""

    @property
    def per_position(self) -> bool:
        """Whether the target has one entry per position, so that each tile needs its own part."""

    @property
    def layer(self) -> str:
        """The layer whose responses the term uses, or `PIXELS`."""

    @property
    def weight(self) -> float:
        """The weight within the loss, such as w_l."""

    def sums(self, F: Array, kernels: Kernels, area: Area | None = None) -> Sum:
        """Return the term's sum over the positions of an area; over all positions by default."""

    def value(self, sums: Sum, N: int, M: int) -> float:
        """Return the term's value, without its weights, from the sums over all M positions.

        On a GPU it may be an array without axes (`core.arrays.number`).
        """

    def add_gradient(
        self,
        dF: Array | None,
        F: Array,
        sums: Sum,
        N: int,
        M: int,
        weight: float,
        kernels: Kernels,
        area: Area | None = None,
    ) -> Array:
        """Return dF plus weight · the derivative of the value by F, at the positions of an area.

        `sums` and M belong to the whole image, even if F is a window of it. dF is None if no
        derivative has been computed yet. The result may use dF's memory. A term that uses a layer
        must add its gradient by a method of the kernels, such as `Kernels.add_gradient`: the
        kernels know the engine's memory order, and where the engine applies the ReLU's mask.
        """

    def target(self, F: Array, kernels: Kernels, area: Area | None = None) -> Any:
        """Return the target from an area of F, the responses to the reference image."""

    def compared_with(self, target: Any, M: int) -> Self:
        """Return a copy of the term with a target from a reference image of M positions."""


@runtime_checkable
class BlendableTerm(Term, Protocol):
    """A term whose targets of several images have a weighted sum that it can compare with."""

    def plus_share(self, other: Any, share: float) -> Self:
        """Return a copy with share · another term's target per position added to the target.

        The other term is a copy of this one with the target of one image. A term without a target
        counts as 0.
        """


@runtime_checkable
class GuidedTerm(Term, Protocol):
    """A term that multiplies the responses by the guidance of each region, from 0 to 1."""

    @property
    def T(self) -> tuple[Array | None, ...]:
        """The guidance (H, V) of each region; None where it is 0 everywhere."""

    def guided_by(self, T: Sequence[Array | None]) -> Self:
        """Return a copy with the guidance of a whole image, the one of x or a reference image."""

    def in_part(self, T: Sequence[Array | None]) -> Self:
        """Return a copy with a part of the guidance of the image that the term has or had."""


@runtime_checkable
class TangentTerm(Term, Protocol):
    """A term with tangents: its derivatives along a direction in the pixels.

    tF is the tangent of F, of F's shape. It is 0 where F is 0 behind a ReLU. All positions count.
    """

    def sums_jvp(self, tF: Array, F: Array) -> Sum:
        """Return the tangent of `sums`."""

    def value_jvp(self, tsums: Sum, sums: Sum, N: int, M: int) -> float:
        """Return the derivative of `value` along the direction."""

    def gradient_jvp(
        self, tF: Array, F: Array, tsums: Sum, sums: Sum, N: int, M: int, weight: float
    ) -> Array:
        """Return the tangent of what `add_gradient` adds, of F's shape, masked as it is."""
