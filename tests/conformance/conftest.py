"""A small set of cases, a user's module of adapters, and a cache for explanations."""

import shutil
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from conformance_cases import CASES, planted
from conformance_sets import SMALL
from gramstyle.conformance import Answer, Case, explaining
from gramstyle.conformance.files import write_cases
from gramstyle.conformance.mistakes import MISTAKES, Mistake

MODULE = """\
from gramstyle.conformance.adapters.numpy_plain import value_and_grad as right


def wrong(image, case):
    loss, gradient, dF = right(image, case)
    return loss, 2 * gradient, dF
"""


@pytest.fixture(scope="session")
def _small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "set"
    write_cases(folder, SMALL)
    return folder


@pytest.fixture
def small_set(_small_set: Path, tmp_path: Path) -> Path:
    """A small set of cases, to be damaged."""
    return Path(shutil.copytree(_small_set, tmp_path / "set"))


@pytest.fixture
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the module mine_to_test in it."""
    (tmp_path / "mine_to_test.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mine_to_test", raising=False)
    return tmp_path


@pytest.fixture(autouse=True)
def _plant_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cache the answers with mistakes, of which every explanation needs all."""

    def cached(mistake: Mistake, case: Case) -> Answer | None:
        known = case is CASES.get(case.name)
        return planted(mistake.name, case.name) if known else mistake.plant(case)

    mistakes = {name: SimpleNamespace(plant=partial(cached, m)) for name, m in MISTAKES.items()}
    monkeypatch.setattr(explaining, "MISTAKES", mistakes)
