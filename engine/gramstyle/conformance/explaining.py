"""Explain a wrong answer: compare it with the answers that the known mistakes give."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from gramstyle.conformance.cases import Answer, Case
from gramstyle.conformance.comparing import TOLERANCES, representable
from gramstyle.conformance.mistakes import MISTAKES
from gramstyle.conformance.mistakes.families import FAMILIES, Member
from gramstyle.conformance.mistakes.families.fitting import Evidence, members
from gramstyle.conformance.mistakes.total_variation import TOTAL_VARIATIONS
from gramstyle.core.arrays import Array

# The largest part of a deviation that a mistake may leave unexplained.
UNEXPLAINED = 0.1

# The largest relative deviation in float64 that may come from a step computed in float32.
FLOAT32 = 1e-5

# A fit takes some thousand passes, so parameters are fitted only where a forward pass takes at most
# so many operations. In larger cases, the fitted mistakes of smaller ones are compared.
FITTED = 3e5

# How many mistakes that cannot be distinguished are named.
NAMED = 4

# The suffix of the name of a mistake that is made in one of the two only.
LOSS, GRADIENT = " (in the loss only)", " (in the gradient only)"

# The name of an answer in the byte order of another machine.
SWAPPED = "the bytes of each number in the reverse order, big-endian"

# Mistakes that match an answer: the name, and the largest relative distance of any quantity.
Matches = Mapping[str, float]

NONE: Mapping[str, Member] = MappingProxyType({})


@dataclass(frozen=True)
class Explanation:
    """The mistakes that an answer matches.

    Attributes
    ----------
    names
        The mistakes of `MISTAKES` that match equally well, the closest first. A suffix "(in the
        loss only)" or "(in the gradient only)" says where the mistake is made.
    closeness
        The largest relative distance from the answer with the mistake, over loss, gradient and dF.
    sentence
        Both in words: "matches ReLU gradient passed at 0 to 1e-12".
    """

    names: tuple[str, ...]
    closeness: float
    sentence: str


def explain(
    case: Case, found: Answer, dtype: str, suspects: dict[str, Member] | None = None
) -> Explanation | None:
    """Name the mistakes that an answer matches.

    Parameters
    ----------
    case
        The case, whose truth is read.
    found
        The answer, with the correct shapes; layers may be missing from dF.
    dtype
        "float64", "float32" or "float16": the float type of the computation.
    suspects
        Mistakes with parameters that were fitted to answers of the same program, by name. They are
        compared before others are fitted, and those that match are added.

    Returns
    -------
    explanation
        None if every quantity is within its tolerance, or if no known mistake matches.
    """
    diagnosis = _Diagnosis(case, found, dtype)
    if not diagnosis.deviates:
        return None
    known = {} if suspects is None else suspects
    matches = diagnosis.matches(suspects=known)
    known |= {name: each for name, each in diagnosis.fitted.items() if name in matches}
    return _explanation(matches, dtype) if matches else None


def explain_all(
    failed: Sequence[tuple[Case, Answer]], dtype: str, suspects: Mapping[str, Member] | None = None
) -> str:
    """Name the one mistake that explains all failed cases, or as few mistakes as possible.

    Parameters
    ----------
    failed
        Cases and the answers to them. An answer within its tolerances is ignored.
    dtype
        The float type of the computation.
    suspects
        The mistakes with parameters that `explain` fitted to these answers; they are fitted here
        if it is None.

    Returns
    -------
    text
        One line; "" if every answer is within its tolerances.
    """
    found: dict[str, dict[str, float]] = {}
    diagnoses: dict[str, _Diagnosis] = {}
    seen: set[str] = set()
    fitted = dict(suspects or {})
    # Small cases come first: large cases are then compared with few mistakes.
    for case, answer in sorted(failed, key=lambda each: each[0].x.size):
        diagnosis = _Diagnosis(case, answer, dtype)
        if diagnosis.deviates:
            matches = diagnosis.matches(seen, fitted) if seen else {}
            if not any(_rank(name) or name in fitted for name in matches):
                matches = diagnosis.matches((), fitted, fit=suspects is None)
            fitted |= {name: each for name, each in diagnosis.fitted.items() if name in matches}
            seen |= {_mistake(name) for name in matches}
            found[case.name], diagnoses[case.name] = matches, diagnosis
    # A value that was fitted to one case is compared with the answers to all.
    for name, diagnosis in diagnoses.items():
        found[name] |= diagnosis.verified(fitted)
    return "; ".join(_sentences(found, dtype))


def _sentences(found: Mapping[str, Matches], dtype: str) -> Iterator[str]:
    """Yield one sentence for each mistake, the mistake of most cases first."""
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
        # A mistake that explains as many cases, but other ones, gets a sentence of its own.
        alike = [
            name for name in matched if all((name in m) == (first in m) for m in left.values())
        ]
        explanation = _explanation({name: matched[name] for name in alike}, dtype)
        left = {case: matches for case, matches in left.items() if first not in matches}
        yield f"{most} of {cases} failed cases: {explanation.sentence}"
    if left:
        yield f"no known mistake matches {', '.join(left)}"


def _mistake(name: str) -> str:
    """Return the name of a match without its suffix."""
    return name.removesuffix(LOSS).removesuffix(GRADIENT)


def _rank(name: str) -> int:
    """Return 2 for a known mistake, 1 for one in loss or gradient only, 0 for a fitted factor."""
    return (name in MISTAKES) + (_mistake(name) in MISTAKES)


def _explanation(matches: Matches, dtype: str) -> Explanation:
    """Return the closest of the matches with the highest rank, and those as close as it."""
    best = max(map(_rank, matches))
    matches = {name: distance for name, distance in matches.items() if _rank(name) == best}
    closest = min(matches.values())
    # Mistakes that give the same answer to a case still differ by rounding in float64.
    equal = max(10 * closest, 1e-13)
    names = tuple(sorted((n for n in matches if matches[n] <= equal), key=lambda n: matches[n]))
    closeness = max(max(matches[name] for name in names), float(np.finfo(dtype).eps))
    listed = " or ".join(names[:NAMED])
    more = f" (or {len(names) - NAMED} others)" if len(names) > NAMED else ""
    return Explanation(names, closeness, f"matches {listed}{more} to {closeness:.0e}")


class _Diagnosis:
    """One answer, compared with the truth and with the answers that mistakes give."""

    def __init__(self, case: Case, found: Answer, dtype: str) -> None:
        self._case, self._dtype = case, dtype
        self._open = {name: case.responses[name] > 0 for name in case.truth.dF if name in found.dF}
        self._compared = [True] * (2 + len(self._open))
        self._compared = [representable(part, dtype) for part in self._parts(case.truth)]
        self._found = self._parts(found)
        self._truth = self._parts(case.truth)
        self._tolerance = tolerance = TOLERANCES[dtype]
        pairs = list(zip(self._found, self._truth, strict=True))
        self._deviations = [_norm(found - true) for found, true in pairs]
        self._wrong = [not _norm(found - true) <= tolerance * _norm(true) for found, true in pairs]
        self._swapped = self._with_swapped_bytes()
        self._evidence = Evidence(case, found, self._parts, self._wrong)
        self._small = sum(case.network.operations(*case.x.shape[1:]).values()) <= FITTED
        # The mistakes of families that come near the answer, by name.
        self.fitted: dict[str, Member] = {}

    @property
    def deviates(self) -> bool:
        """Whether a quantity is beyond its tolerance, in an answer that can be compared."""
        finite = all(np.isfinite(part).all() for part in self._found)
        return any(self._wrong) and (finite or bool(self._swapped))

    def matches(
        self,
        only: Collection[str] = (),
        suspects: Mapping[str, Member] = NONE,
        *,
        fit: bool = True,
    ) -> dict[str, float]:
        """Return the suspects that the answer matches, else the mistakes among those named or all.

        With `fit`, families of mistakes are fitted if no other mistake matches.
        """
        result = self._swapped or self.verified(suspects)
        if result:
            return result
        # Mistakes that match the loss, and mistakes that match the gradient and dF.
        halves: tuple[dict[str, float], dict[str, float]] = ({}, {})
        for name, candidate in self._candidates(only):
            self._match(name, self._parts(candidate), result, halves)
        if fit and not only and self._small and not any(map(_rank, result)):
            self._fit()
            result |= self.verified(self.fitted)
        if not result and all(halves):
            # Two mistakes: one in the loss, another in the gradient.
            result = {
                f"{a} (in the loss) with {b} (in the gradient)": max(halves[0][a], halves[1][b])
                for a in halves[0]
                for b in halves[1]
            }
        if not result and self._dtype == "float64":
            result = self._rounded()
        return result

    def verified(self, suspects: Mapping[str, Member]) -> dict[str, float]:
        """Return the fitted mistakes that the whole answer matches."""
        result: dict[str, float] = {}
        for name, member in suspects.items():
            with np.errstate(all="ignore"):
                planted = member.plant(self._case)
            if planted is not None and self._evidence.comparable(planted):
                self._match(name, self._parts(planted), result, ({}, {}))
        return result

    def _fit(self) -> None:
        """Fit the families of mistakes to the answer."""
        for member in members(FAMILIES, self._evidence):
            self.fitted.setdefault(member.name(self._dtype), member)

    def _candidates(self, only: Collection[str]) -> Iterator[tuple[str, Answer]]:
        """Yield the answers of known mistakes, then answers with a fitted weight or factor."""
        for name, mistake in MISTAKES.items():
            if not only or name in only:
                planted = mistake.plant(self._case)
                if planted is not None:
                    yield name, planted
        yield from self._with_total_variation()
        yield from self._multiples()

    def _match(
        self,
        name: str,
        candidate: list[Array],
        whole: dict[str, float],
        halves: tuple[dict[str, float], dict[str, float]],
    ) -> None:
        """Record whether the answer, its loss, or its gradient and dF match a candidate."""
        distances = [self._distance(0, candidate[0]), self._distance(1, candidate[1])]
        if min(distances) == math.inf:
            return
        distances += [self._distance(i, candidate[i]) for i in range(2, len(candidate))]
        loss, gradient = self._wrong[0], any(self._wrong[1:])
        if max(distances) < math.inf:
            whole[name] = max(distances)
        # A fitted factor has other names for its halves; a mistake that matches wholly needs none.
        known = name in MISTAKES and name not in whole
        if loss and distances[0] < math.inf:
            halves[0][name] = distances[0]
            if known and not gradient:
                whole[name + LOSS] = distances[0]
        if gradient and max(distances[1:]) < math.inf:
            halves[1][name] = max(distances[1:])
            if known and not loss:
                whole[name + GRADIENT] = max(distances[1:])

    def _distance(self, i: int, candidate: Array) -> float:
        """Return the relative distance of a quantity from a candidate's; inf if it is no match."""
        found = self._found[i]
        gap, norm = _norm(found - candidate), max(_norm(found), _norm(candidate))
        explained = not self._wrong[i] or gap <= UNEXPLAINED * self._deviations[i]
        if not (explained and gap <= self._tolerance * norm):
            return math.inf
        return gap / norm if norm else 0.0

    def _with_total_variation(self) -> Iterator[tuple[str, Answer]]:
        """Yield the truth with total variation added, its weight fitted to the gradient."""
        truth = self._case.truth
        for summed, total_variation in TOTAL_VARIATIONS.items():
            value, slope = total_variation(self._case.x)
            weight = _multiple([self._found[1] - self._truth[1]], [slope])
            gradient, name = truth.gradient + weight * slope, f"total variation ({summed})"
            only = Answer(truth.loss, gradient, truth.dF)
            yield f"{name} in the gradient but not in the loss", only
            yield f"{name} added", Answer(truth.loss + weight * value, gradient, truth.dF)

    def _multiples(self) -> Iterator[tuple[str, Answer]]:
        """Yield the truth with some quantities multiplied by a fitted factor."""
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

    def _with_swapped_bytes(self) -> dict[str, float]:
        """Return a match if every wrong array is right with the bytes of each number reversed."""
        if self._wrong[0] or not any(self._wrong):
            return {}
        distances = []
        for found, true, wrong in zip(self._found, self._truth, self._wrong, strict=True):
            if wrong:
                with np.errstate(all="ignore"):  # reversed bytes are any number, or none
                    swapped = found.astype(self._dtype).byteswap().astype(np.float64)
                    gap, norm = _norm(swapped - true), _norm(true)
                if not gap <= self._tolerance * norm:
                    return {}
                distances.append(gap / norm if norm else 0.0)
        return {SWAPPED: max(distances)}

    def _rounded(self) -> dict[str, float]:
        """Return a match if all deviations are as small as rounding to float32."""
        norms = [_norm(part) for part in self._truth]
        pairs = zip(self._deviations, norms, strict=True)
        largest = max(gap / norm if norm else gap for gap, norm in pairs)
        return {"a step computed in float32": largest} if largest <= FLOAT32 else {}

    def _parts(self, answer: Answer) -> list[Array]:
        """Return loss, gradient, then dF where F > 0; zeros for quantities not compared."""
        dF = (np.where(self._open[name], answer.dF[name], 0) for name in self._open)
        parts = [np.asarray(part, np.float64) for part in (answer.loss, answer.gradient, *dF)]
        pairs = zip(parts, self._compared, strict=True)
        return [part if compared else np.zeros_like(part) for part, compared in pairs]


def _norm(part: Array) -> float:
    return math.sqrt(float(np.vdot(part, part)))


def _multiple(parts: Sequence[Array], of: Sequence[Array]) -> float:
    """Return the factor that brings `of` closest to `parts`, by least squares."""
    square = sum(float(np.vdot(each, each)) for each in of)
    product = sum(float(np.vdot(each, part)) for each, part in zip(of, parts, strict=True))
    return product / square if square else 0.0
