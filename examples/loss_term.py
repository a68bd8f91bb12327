"""A loss term of your own: the mean response of each filter, whole and in tiles.

    python examples/loss_term.py photo.jpg painting.jpg result.png

The style loss compares products of responses. This term compares their means:

    L_mean = ½ Σ_i (s_i / M − a_i / M_a)²,   s_i = Σ_k F_ik,
    ∂L_mean/∂F_ik = (s_i / M − a_i / M_a) / M   where F > 0, else 0

with a_i the sums over the M_a positions of the style image. s is a sum over positions, so the term
works in tiles as it does on a whole image. The engine onnx refuses it.
"""

import sys
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from gramstyle import Options
from gramstyle.core.kernels import within
from gramstyle.run.plan import plan_run
from gramstyle.run.transfer import execute


@dataclass(frozen=True, kw_only=True)
class MeanTerm:
    """The term at one layer; `gramstyle.core.term.Term` describes each attribute and method."""

    name: ClassVar[str] = "mean"
    reference: ClassVar[str] = "style"
    per_position: ClassVar[bool] = False

    layer: str
    weight: float = 1.0
    mean: Any = None  # a / M_a, (N,); None before the style image is known

    def sums(self, F, kernels, area=None):
        """Return s, (N,), over the positions of an area."""
        return within(F, area).sum(axis=(1, 2), dtype=np.float64)

    def value(self, sums, N, M):
        """Return L_mean for the sums over all M positions."""
        return 0.5 * float(np.sum((sums / M - self.mean) ** 2))

    def add_gradient(self, dF, F, sums, N, M, weight, kernels, area=None):
        """Return dF plus weight · ∂L_mean/∂F at the positions of an area."""
        slope = (weight * (sums / M - self.mean) / M).astype(F.dtype)
        gradient = np.where(within(F, area) > 0, slope[:, None, None], 0)
        return kernels.add_gradient(dF, F, gradient, area)

    def target(self, F, kernels, area=None):
        """Return the style image's part of a."""
        return self.sums(F, kernels, area)

    def compared_with(self, target, M):
        """Return the term with the means of a style image of M positions."""
        return replace(self, mean=None if target is None else target / M)


def with_term(plan, term, weight):
    """Return the plan of a run with another term at every scale, and the weight of its loss."""
    scales = [
        replace(
            scale,
            spec=replace(
                scale.spec,
                terms=(*scale.spec.terms, term),
                weights={**scale.spec.weights, term.name: weight},
            ),
        )
        for scale in plan.scales
    ]
    return replace(plan, scales=tuple(scales))


def main(photo, painting, result):
    """Render the photograph in the style of the painting."""
    plan = plan_run(photo, painting, Options(size=256))
    image, record = execute(with_term(plan, MeanTerm(layer="conv3_1"), 10.0))
    print(f"L_mean is {record.losses[-1].terms['mean']:.3g}")
    image.save(result)


if __name__ == "__main__":
    main(*sys.argv[1:4])
