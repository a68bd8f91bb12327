"""The kit as pytest tests, one for each case: `pytest --pyargs gramstyle.conformance`.

Environment variables say what to test, so that no configuration file is needed:

GRAMSTYLE_CONFORMANCE_ADAPTER
    "module:function", or the name of an adapter of the kit.
GRAMSTYLE_CONFORMANCE_DTYPE
    float64 (the default), float32 or float16.
GRAMSTYLE_CONFORMANCE_XFAILS, GRAMSTYLE_CONFORMANCE_SKIPS
    A file of cases that are expected to fail, and a file of cases to skip. Each line is the name of
    a case or the id of its test; a # starts a comment.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gramstyle.conformance import Case, cases
from gramstyle.conformance.adapters import load
from gramstyle.conformance.reporting import failure
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
    metafunc.parametrize(("conformance_check", "case"), parameters)


def test_case(conformance_check: Check, case: Case) -> None:
    """The answer of the adapter to a case is the truth."""
    result = conformance_check(case)
    if not result.passed:
        pytest.fail(failure(result), pytrace=False)


def _parameters() -> list[Any]:
    name = os.environ.get(f"{PREFIX}ADAPTER")
    if not name:
        raise OptionError(f"no adapter to test; set {PREFIX}ADAPTER=module:function")
    adapter, dtype = load(name), os.environ.get(f"{PREFIX}DTYPE", "float64")
    if dtype not in DTYPES:
        raise OptionError(f"{PREFIX}DTYPE must be {', '.join(DTYPES)}, not {dtype!r}")

    def conformance_check(case: Case) -> Result:
        return check(adapter, case, dtype=dtype)

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
        result.append(pytest.param(conformance_check, case, id=case.name, marks=marks))
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
