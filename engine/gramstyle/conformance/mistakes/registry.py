"""A known mistake: its name, a sentence, and the wrong pieces that make it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gramstyle.conformance.cases import Answer, Case
from gramstyle.conformance.comparing import measure
from gramstyle.conformance.mistakes.pieces import Pieces

# The least relative change of a quantity that counts as one: rounding in float64 stays below 1e-13.
VISIBLE = 1e-11


@dataclass(frozen=True)
class Mistake:
    """One known mistake.

    Attributes
    ----------
    name
        A few words, as a report names it.
    sentence
        What the code does, and what is correct.
    pieces
        An evaluation of the objective with this mistake.
    own_targets
        Whether P and A are computed with the mistake too.
    """

    name: str
    sentence: str
    pieces: type[Pieces]
    own_targets: bool = False

    def plant(self, case: Case) -> Answer | None:
        """Return the answer to a case with exactly this mistake, in float64.

        It is None where the mistake changes nothing, or cannot be made.
        """
        wrong = self.pieces(case, own_targets=self.own_targets)
        if not wrong.possible():
            return None
        try:
            found = wrong.answer()
        except ZeroDivisionError:  # such as by M - 1 where a layer has a single position
            return None
        return found if _deviation(case, found) > VISIBLE else None


REGISTERED: dict[str, Mistake] = {}


def mistake(
    name: str, sentence: str, *, in_targets: bool = False
) -> Callable[[type[Pieces]], type[Pieces]]:
    """Register wrong pieces as a mistake.

    Parameters
    ----------
    name, sentence
        As for `Mistake`.
    in_targets
        Whether the mistake changes responses. Then it is a different mistake if P and A are
        computed with it too, which gets a second name.
    """

    def register(pieces: type[Pieces]) -> type[Pieces]:
        REGISTERED[name] = Mistake(name, sentence, pieces)
        if in_targets:
            also = f"{name}, P and A too"
            REGISTERED[also] = Mistake(
                also, f"{sentence} P and A are computed in the same way.", pieces, own_targets=True
            )
        return pieces

    return register


def _deviation(case: Case, found: Answer) -> float:
    """Return the largest relative deviation from the truth, with dF taken where F > 0."""
    truth = case.truth
    pairs = [(np.asarray(found.loss), np.asarray(truth.loss)), (found.gradient, truth.gradient)]
    for layer, dF in truth.dF.items():
        open_ = case.responses[layer] > 0
        pairs.append((found.dF[layer][open_], dF[open_]))
    return max(measure("", "", *pair, "float64").relative for pair in pairs)
