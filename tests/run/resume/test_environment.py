"""Runs in containers: what is missing is asked for only where it is needed; limits hold."""

import sys
from pathlib import Path

import numpy as np
import pytest

from bare_environment import without_temporary_files
from gramstyle.core.arrays import Array
from gramstyle.errors import GramstyleError, OptionError, RuntimeMissingError
from gramstyle.model import locate
from gramstyle.run.options import Options
from gramstyle.run.plan import plan_run
from gramstyle.run.transfer import transfer
from gramstyle.system import machine


@pytest.fixture
def images(rng: np.random.Generator) -> tuple[Array, Array]:
    return rng.uniform(size=(24, 32, 3)), rng.uniform(size=(30, 32, 3))


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no home directory, and no folder for temporary files."""
    monkeypatch.setattr(locate, "cached_model", lambda: None)
    without_temporary_files(monkeypatch)


@pytest.mark.parametrize(
    "options",
    [
        Options(size=32, iterations=1, engine="numpy"),
        Options(size=32, iterations=1, engine="winograd"),
        Options(size=32, iterations=1, tile=32),  # everything fits into memory
    ],
)
def test_a_run_that_writes_no_temporary_files_needs_no_folder_for_them(
    options: Options, images: tuple[Array, Array], tiny_model_path: Path
) -> None:
    assert transfer(*images, options, model=tiny_model_path).image.size == (32, 24)


def test_a_run_that_needs_temporary_files_says_so_in_one_line(
    images: tuple[Array, Array], tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gramstyle.run.prepare.preparing.SpillStore.put", spill_everything)
    with pytest.raises(
        GramstyleError, match=r"^there is no folder for temporary files; set TMPDIR to "
    ):
        transfer(*images, Options(size=32, iterations=1, tile=32), model=tiny_model_path)


def test_workers_on_this_machine_need_a_folder_for_temporary_files(
    images: tuple[Array, Array], tiny_model_path: Path
) -> None:
    with pytest.raises(
        GramstyleError, match=r"^there is no folder for temporary files; set TMPDIR to "
    ):
        transfer(*images, Options(size=32, workers=1), model=tiny_model_path)


def spill_everything(store: object, key: object, arrays: list[Array]) -> None:
    store._write(key, sum(array.nbytes for array in arrays), arrays)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("options", "package", "needed"),
    [
        (Options(size=32, engine="numpy"), "onnxruntime", "onnxruntime>="),
        (Options(size=32, engine="hybrid"), "onnxruntime", "onnxruntime>="),
        (Options(size=32, device="cuda"), "cupy", "cupy-cuda13x"),
        (Options(size=32, workers=2), "distributed", "distributed>="),
    ],
)
def test_a_missing_package_is_reported_before_the_model_is_downloaded(
    options: Options,
    package: str,
    needed: str,
    images: tuple[Array, Array],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GRAMSTYLE_MODEL", raising=False)
    monkeypatch.setattr(locate, "checkout_model", lambda: None)
    monkeypatch.setattr(locate, "export_model", lambda _: pytest.fail("downloaded"))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(RuntimeMissingError, match=f'install it with: .*pip install .*"{needed}'):
        transfer(*images, options)


def test_the_default_budget_and_threads_follow_from_the_limits_of_the_container(
    images: tuple[Array, Array], tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cpu_limit", lambda: 0.5)
    plan = plan_run(*images, Options(size=32), model=tiny_model_path)
    assert plan.settings.to_json()["threads"] == plan.last.spec.thread_count == 1
    monkeypatch.setattr(machine, "memory_limit", lambda: 10**8)
    with pytest.raises(OptionError, match=r"^a memory budget of 0\.1GB is too small"):
        plan_run(*images, Options(size=32), model=tiny_model_path)
    plan_run(*images, Options(size=32, memory=10**10), model=tiny_model_path)
