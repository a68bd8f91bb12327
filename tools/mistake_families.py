"""Measure how many mistakes of the families the conformance kit catches and names.

Values and places are drawn at random, and the answers with these mistakes are handed to the kit as
those of a program. The result is the table of docs/mistakes.md. Run it from the top folder:
python -m tools.mistake_families --seed 19 --members 3
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gramstyle.conformance import Answer, Case, cases
from gramstyle.conformance.comparing import compare
from gramstyle.conformance.explaining import explain, explain_all
from gramstyle.conformance.mistakes.families import FAMILIES, Family, Member

# The largest relative error of a fitted value that counts as named.
EXACT = 1e-9

# The fitted cases; the others would take most of the time.
CASES = tuple(case for case in cases() if case.x.size < 1000)


@dataclass(frozen=True)
class Outcome:
    """What the kit says about one mistake.

    Attributes
    ----------
    member
        The mistake that was drawn.
    caught
        How many cases fail.
    said
        What the kit says about all failed cases together.
    error
        The relative error of the fitted value; infinite if the mistake is not named.
    """

    member: Member
    caught: int
    said: str
    error: float

    @property
    def named(self) -> bool:
        """Whether the kit names the family, the place and the value, for all failed cases."""
        every = f"{self.caught} of {self.caught} failed cases: "
        return self.error <= EXACT and self.said.startswith(every)


def draw(family: Family, cases: Sequence[Case], rng: np.random.Generator) -> Member:
    """Return a random mistake of a family, at a place that one of the cases has."""
    places = sorted({place for case in cases for place in family.places(case)})
    value = family.values.at(float(rng.uniform())) if family.values else 0.0
    return Member(family, value, str(rng.choice(places)))


def answers(
    member: Member, cases: Sequence[Case], rng: np.random.Generator
) -> list[tuple[Case, Answer]]:
    """Return the cases that fail with a mistake, and the answers, with rounding of 1e-14."""
    failed = []
    for case in cases:
        found = member.plant(case)
        if found is None:
            continue
        if any(found.dF[name].shape != dF.shape for name, dF in case.truth.dF.items()):
            # A program cannot return responses of another size.
            found = replace(found, dF={})
        noise = 1 + 1e-14 * rng.normal(size=found.gradient.shape)
        found = replace(found, gradient=found.gradient * noise)
        if not all(each.passed for each in compare(case, found, "float64")):
            failed.append((case, found))
    return failed


def outcome(member: Member, cases: Sequence[Case], rng: np.random.Generator) -> Outcome:
    """Return what the kit says about one mistake, as `gramstyle.conformance.run` asks it."""
    failed, suspects = answers(member, cases, rng), dict[str, Member]()
    for case, found in failed:
        explain(case, found, "float64", suspects)
    said = explain_all(failed, "float64", suspects)
    errors = (
        abs(each.value - member.value) / abs(member.value or 1.0)
        for name, each in suspects.items()
        if name in said and (each.family, each.place) == (member.family, member.place)
    )
    return Outcome(member, len(failed), said, min(errors, default=np.inf))


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the Markdown table of families, with drawn, caught and named mistakes."""
    rows = ["| family | what the code does | drawn | caught | named |", "|---|---|---|---|---|"]
    for family in FAMILIES:
        of = [each for each in outcomes if each.member.family == family]
        caught, named = sum(each.caught > 0 for each in of), sum(each.named for each in of)
        rows.append(f"| {family.name} | {family.sentence} | {len(of)} | {caught} | {named} |")
    return "\n".join(rows)


def main() -> None:
    """Print the table, then the mistakes that the kit does not catch or name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--members", type=int, default=3, help="of each family")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    with np.errstate(all="ignore"):
        outcomes = [
            outcome(draw(family, CASES, rng), CASES, rng)
            for family in FAMILIES
            for _ in range(arguments.members)
        ]
    print(table(outcomes))
    caught, named = sum(each.caught > 0 for each in outcomes), sum(each.named for each in outcomes)
    print(f"\ndrawn {len(outcomes)}, caught {caught}, named {named}")
    for each in outcomes:
        if not each.named:
            name = each.member.name("float64")
            print(f"{name}: {each.caught} cases, error {each.error:.1e}: {each.said[:200]}")


if __name__ == "__main__":
    main()
