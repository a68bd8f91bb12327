"""What an answer that is wrong looks like: it is held against every known mistake."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gramstyle.conformance.cases import Answer, Case
from gramstyle.conformance.comparing import TOLERANCES, held
from gramstyle.conformance.mistakes import MISTAKES
from gramstyle.conformance.mistakes.pixels import TOTAL_VARIATIONS
from gramstyle.core.arrays import Array

# What a mistake may leave of a deviation that it is to account for.
LEFT = 0.1

# Up to here a deviation in float64 may come from a step that was computed in float32.
FLOAT32 = 1e-5

# How many mistakes that cannot be told apart are named.
NAMED = 4

# Where a mistake was made, behind its name, if it was not made everywhere.
LOSS, GRADIENT = " (in the loss only)", " (in the gradient only)"

# How well each of them matches: the largest relative distance.
Matches = Mapping[str, float]


@dataclass(frozen=True)
class Explanation:
    """Which mistakes an answer matches.

    Attributes
    ----------
    names
        Of the mistakes, as they are in `MISTAKES`, the closest first: several cannot be told apart.
        "(in the loss only)" or "(in the gradient only)" behind a name says where it was made.
    closeness
        The largest relative distance from what the mistake gives, over loss, gradient and dF.
    sentence
        Both in words: "matches ReLU gradient passed at 0 to 1e-12".
    """

    names: tuple[str, ...]
    closeness: float
    sentence: str


def explain(case: Case, found: Answer, dtype: str) -> Explanation | None:
    """Name the mistakes that an answer matches.

    Parameters
    ----------
    case
        With its truth.
    found
        Of the right shapes; a layer of dF may be missing.
    dtype
        "float64", "float32" or "float16": what was computed in.

    Returns
    -------
    explanation
        None if nothing deviates beyond its tolerance, or if nothing known is like it.
    """
    lineup = _Lineup(case, found, dtype)
    matches = lineup.matches() if lineup.deviates else {}
    return _explanation(matches, dtype) if matches else None


def explain_all(failed: Sequence[tuple[Case, Answer]], dtype: str) -> str:
    """Look for the one mistake behind all the cases that failed, or for as few as will do.

    Parameters
    ----------
    failed
        Cases, and the answers to them; one that does not deviate is passed over.
    dtype
        What was computed in.

    Returns
    -------
    text
        In one line; "" if nothing deviates.
    """
    found: dict[str, Matches] = {}
    seen: set[str] = set()
    # Small cases first: a large one is then held against few mistakes.
    for case, answer in sorted(failed, key=lambda each: each[0].x.size):
        lineup = _Lineup(case, answer, dtype)
        if lineup.deviates:
            matches = lineup.matches(seen)
            found[case.name] = matches if any(map(_rank, matches)) else lineup.matches()
            seen |= {_mistake(name) for name in found[case.name]}
    return "; ".join(_accounts(found, dtype))


def _accounts(found: Mapping[str, Matches], dtype: str) -> Iterator[str]:
    """Account for the cases, first by what explains the most of them."""
    left, cases = dict(found), len(found)
    while any(left.values()):
        each = [set(matches) for matches in left.values()]
        counts = {name: sum(name in matches for matches in each) for name in set().union(*each)}
        most = max(counts.values())
        matched = {
            name: max(matches.get(name, 0.0) for matches in left.values())
            for name, count in counts.items()
            if count == most
        }
        first = _explanation(matched, dtype).names[0]
        # What explains as many other cases is another account.
        alike = [
            name for name in matched if all((name in m) == (first in m) for m in left.values())
        ]
        explanation = _explanation({name: matched[name] for name in alike}, dtype)
        left = {case: matches for case, matches in left.items() if first not in matches}
        yield f"{most} of {cases} cases that failed: {explanation.sentence}"
    if left:
        yield f"nothing known is like {', '.join(left)}"


def _mistake(name: str) -> str:
    """Return a match's name without where it was made."""
    return name.removesuffix(LOSS).removesuffix(GRADIENT)


def _rank(name: str) -> int:
    """Return 2 for a known mistake, 1 for half of one, 0 for a factor that was found."""
    return (name in MISTAKES) + (_mistake(name) in MISTAKES)


def _explanation(matches: Matches, dtype: str) -> Explanation:
    """Choose among matches: mistakes before halves before factors, the closest, and its equals."""
    best = max(map(_rank, matches))
    matches = {name: far for name, far in matches.items() if _rank(name) == best}
    closest = min(matches.values())
    # Mistakes that are equal in a case still differ by their rounding, in float64.
    equal = max(10 * closest, 1e-13)
    names = tuple(sorted((n for n in matches if matches[n] <= equal), key=lambda n: matches[n]))
    far = max(max(matches[name] for name in names), float(np.finfo(dtype).eps))
    listed = " or ".join(names[:NAMED])
    more = f" (or {len(names) - NAMED} others)" if len(names) > NAMED else ""
    return Explanation(names, far, f"matches {listed}{more} to {far:.0e}")


class _Lineup:
    """One answer beside the truth, and beside what each mistake gives."""

    def __init__(self, case: Case, found: Answer, dtype: str) -> None:
        self._case, self._dtype = case, dtype
        self._open = {name: case.responses[name] > 0 for name in case.truth.dF if name in found.dF}
        self._held = [True] * (2 + len(self._open))
        self._held = [held(part, dtype) for part in self._parts(case.truth)]
        self._found = self._parts(found)
        self._truth = self._parts(case.truth)
        self._tolerance = tolerance = TOLERANCES[dtype]
        pairs = list(zip(self._found, self._truth, strict=True))
        self._deviations = [_length(mine - true) for mine, true in pairs]
        self._wrong = [
            not _length(mine - true) <= tolerance * _length(true) for mine, true in pairs
        ]

    @property
    def deviates(self) -> bool:
        """Whether something is finite, and beyond its tolerance."""
        return any(self._wrong) and all(np.isfinite(part).all() for part in self._found)

    def matches(self, only: Collection[str] = ()) -> Matches:
        """Return what the answer matches, among all known mistakes or some."""
        result: dict[str, float] = {}
        halves: tuple[dict[str, float], dict[str, float]] = ({}, {})
        for name, suspect in self._suspects(only):
            self._hold(name, self._parts(suspect), result, halves)
        if not result and all(halves):
            # Two mistakes: one made in the loss, another in its gradient.
            result = {
                f"{a} (in the loss) with {b} (in the gradient)": max(halves[0][a], halves[1][b])
                for a in halves[0]
                for b in halves[1]
            }
        if not result and self._dtype == "float64":
            result = self._rounded()
        return result

    def _suspects(self, only: Collection[str]) -> Iterator[tuple[str, Answer]]:
        """Give each known mistake's answer, then answers with a factor or a weight to be found."""
        for name, mistake in MISTAKES.items():
            if not only or name in only:
                planted = mistake.plant(self._case)
                if planted is not None:
                    yield name, planted
        yield from self._with_total_variation()
        yield from self._multiples()

    def _hold(
        self,
        name: str,
        suspect: list[Array],
        whole: dict[str, float],
        halves: tuple[dict[str, float], dict[str, float]],
    ) -> None:
        """Note whether the answer is the suspect's, or its loss, or its gradient and dF."""
        far = [self._distance(0, suspect[0]), self._distance(1, suspect[1])]
        if min(far) == math.inf:
            return
        far += [self._distance(i, suspect[i]) for i in range(2, len(suspect))]
        loss, gradient = self._wrong[0], any(self._wrong[1:])
        if max(far) < math.inf:
            whole[name] = max(far)
        # Half of what is no known mistake has a name of its own, and half of a whole is the whole.
        known = name in MISTAKES and name not in whole
        if loss and far[0] < math.inf:
            halves[0][name] = far[0]
            if known and not gradient:
                whole[name + LOSS] = far[0]
        if gradient and max(far[1:]) < math.inf:
            halves[1][name] = max(far[1:])
            if known and not loss:
                whole[name + GRADIENT] = max(far[1:])

    def _distance(self, i: int, theirs: Array) -> float:
        """Return how far a quantity is from a suspect's, relatively; infinity if it is another."""
        mine = self._found[i]
        gap, length = _length(mine - theirs), max(_length(mine), _length(theirs))
        accounted = not self._wrong[i] or gap <= LEFT * self._deviations[i]
        if not (accounted and gap <= self._tolerance * length):
            return math.inf
        return gap / length if length else 0.0

    def _with_total_variation(self) -> Iterator[tuple[str, Answer]]:
        """Give the truth with total variation added, its weight fitted to the gradient."""
        truth = self._case.truth
        for what, total_variation in TOTAL_VARIATIONS.items():
            value, slope = total_variation(self._case.x)
            weight = _multiple([self._found[1] - self._truth[1]], [slope])
            gradient, name = truth.gradient + weight * slope, f"total variation ({what})"
            only = Answer(truth.loss, gradient, truth.dF)
            yield f"{name} in the gradient but not in the loss", only
            yield f"{name} added", Answer(truth.loss + weight * value, gradient, truth.dF)

    def _multiples(self) -> Iterator[tuple[str, Answer]]:
        """Give the truth with some of its quantities multiplied, the factor fitted to them."""
        truth = self._case.truth
        factor = _multiple(self._found[1:2], self._truth[1:2])
        gradient = factor * truth.gradient
        dF = {name: factor * dF for name, dF in truth.dF.items()}
        times = f"{factor:.4g} times the truth"
        yield f"gradient {times}", Answer(truth.loss, gradient, truth.dF)
        yield f"gradient and dF {times}", Answer(truth.loss, gradient, dF)
        yield f"loss and gradient {times}", Answer(factor * truth.loss, gradient, truth.dF)
        yield f"loss, gradient and dF {times}", Answer(factor * truth.loss, gradient, dF)
        if self._open:
            factor = _multiple(self._found[2:], self._truth[2:])
            dF = {name: factor * dF for name, dF in truth.dF.items()}
            yield f"dF {factor:.4g} times the truth", Answer(truth.loss, truth.gradient, dF)

    def _rounded(self) -> dict[str, float]:
        """Return whether all deviations are as small as float32's rounding."""
        lengths = [_length(part) for part in self._truth]
        pairs = zip(self._deviations, lengths, strict=True)
        far = max(gap / length if length else gap for gap, length in pairs)
        return {"a step computed in float32": far} if far <= FLOAT32 else {}

    def _parts(self, answer: Answer) -> list[Array]:
        """Return loss, gradient, then dF where F > 0; zeros for what is not compared."""
        dF = (np.where(self._open[name], answer.dF[name], 0) for name in self._open)
        parts = [np.asarray(part, np.float64) for part in (answer.loss, answer.gradient, *dF)]
        return [p if h else np.zeros_like(p) for p, h in zip(parts, self._held, strict=True)]


def _length(part: Array) -> float:
    return math.sqrt(float(np.vdot(part, part)))


def _multiple(parts: Sequence[Array], of: Sequence[Array]) -> float:
    """Return the factor that brings arrays closest to others, by least squares."""
    square = sum(float(np.vdot(each, each)) for each in of)
    product = sum(float(np.vdot(each, part)) for each, part in zip(of, parts, strict=True))
    return product / square if square else 0.0
