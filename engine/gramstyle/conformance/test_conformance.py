"""The kit as pytest tests, one for each case: `pytest --pyargs gramstyle.conformance`.

Environment variables say what to test, so that no configuration file is needed:

GRAMSTYLE_CONFORMANCE_ADAPTER
    "module:function", or the name of an adapter of the kit.
GRAMSTYLE_CONFORMANCE_COMMAND
    A program in any language, with its arguments, in place of an adapter. It is started once, and
    ends with the session.
GRAMSTYLE_CONFORMANCE_DTYPE
    float64, float32 or float16; by default float64, or the first that the implementation has.
GRAMSTYLE_CONFORMANCE_XFAILS, GRAMSTYLE_CONFORMANCE_SKIPS
    A file of cases that are expected to fail, and a file of cases to skip. Each line is the name of
    a case or the id of its test; a # starts a comment.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gramstyle.conformance import Case, cases
from gramstyle.conformance.adapters import dtypes_of, load
from gramstyle.conformance.comparing import Adapter
from gramstyle.conformance.mistakes.families import Member
from gramstyle.conformance.programs import running_program
from gramstyle.conformance.reports.reporting import failure
from gramstyle.conformance.running import DTYPES, Result, check
from gramstyle.errors import OptionError

PREFIX = "GRAMSTYLE_CONFORMANCE_"

Check = Callable[[Case], Result]


def pytest_generate_tests(metafunc: Any) -> None:
    """Make one test of each case, marked as the files say."""
    try:
        parameters = _parameters()
    except (OptionError, OSError, UnicodeDecodeError) as error:
        raise pytest.Collector.CollectError(str(error)) from None
    metafunc.parametrize("case", parameters)


@pytest.fixture(scope="session")
def conformance_check() -> Iterator[Check]:
    """Start the program, if it is one that is tested, and end it with the session."""
    # Mistakes that were fitted to an answer are compared with the answers to later cases.
    suspects: dict[str, Member] = {}
    try:
        with _subject() as (adapter, dtype):
            yield lambda case: check(adapter, case, dtype=dtype, suspects=suspects)
    except OptionError as error:
        # The program cannot be used; every test would fail for the same reason.
        pytest.exit(str(error), returncode=2)


def test_case(conformance_check: Check, case: Case) -> None:
    """The answer of the implementation to a case is the truth."""
    result = conformance_check(case)
    if not result.passed:
        pytest.fail(failure(result), pytrace=False)


@contextmanager
def _subject() -> Iterator[tuple[Adapter, str]]:
    """Return what is tested, and the float type to compute in."""
    name, command = _named()
    if name:
        yield load(name), _dtype(name, dtypes_of(name))
        return
    with running_program(command) as program:
        yield program, _dtype(program.hello.name, program.hello.dtypes)


def _named() -> tuple[str, str]:
    """Return the adapter and the command; one of them is empty."""
    name, command = (os.environ.get(PREFIX + kind, "") for kind in ("ADAPTER", "COMMAND"))
    if name and command:
        raise OptionError(f"{PREFIX}ADAPTER and {PREFIX}COMMAND are both set; leave one out")
    if not name and not command:
        raise OptionError(
            f"nothing to test; set {PREFIX}ADAPTER=module:function, or "
            f'{PREFIX}COMMAND="PROGRAM ARGS"'
        )
    return name, command


def _dtype(name: str, known: Sequence[str]) -> str:
    dtype = os.environ.get(f"{PREFIX}DTYPE")
    if dtype and dtype not in known:
        raise OptionError(f"{PREFIX}DTYPE must be {', '.join(known)} for {name}, not {dtype!r}")
    return dtype or known[0]


def _parameters() -> list[Any]:
    name, _ = _named()
    if name:
        # Now, since an error while tests are collected is reported once.
        load(name)
    _dtype(name or "a program", dtypes_of(name) if name else DTYPES)
    every = cases()
    names = {case.name for case in every}
    skips, xfails = _listed("SKIPS", names), _listed("XFAILS", names)
    result = []
    for case in every:
        marks = []
        if case.name in skips:
            marks.append(pytest.mark.skip(reason=f"listed in {PREFIX}SKIPS"))
        if case.name in xfails:
            marks.append(pytest.mark.xfail(reason=f"listed in {PREFIX}XFAILS"))
        result.append(pytest.param(case, id=case.name, marks=marks))
    return result


def _listed(variable: str, known: set[str]) -> set[str]:
    """Return the cases that a file names; an unknown name is an error."""
    path = os.environ.get(PREFIX + variable)
    if not path:
        return set()
    lines = (line.split("#")[0].strip() for line in Path(path).read_text("utf-8").splitlines())
    names = {line.removesuffix("]").rpartition("[")[2] for line in lines if line}
    if unknown := sorted(names - known):
        raise OptionError(f"{path} names {unknown[0]!r}, which is not a case")
    return names
