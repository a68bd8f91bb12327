"""The cache of compiled code: whatever happens to it costs time, and nothing else."""

import errno
import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import pytest
from numba.core.caching import IndexDataCacheFile

from gramstyle.system import compiling
from gramstyle.system.compiling import compiled

Dispatcher = Any


class Compiler:
    """Compiles functions of one module again and again, each time as a new process would."""

    def __init__(self, folder: Path, log: pytest.LogCaptureFixture) -> None:
        self.folder, self.log = folder, log
        source = folder / "double.py"
        source.write_text("def double(x):\n    return x + x\n\ndef triple(x):\n    return 3 * x\n")
        spec = importlib.util.spec_from_file_location("double", source)
        assert spec is not None
        assert spec.loader is not None
        self.module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)

    def double(self) -> Dispatcher:
        return compiled(self.module.double)

    def runs(self, *, from_cache: bool) -> None:
        """Compile and run the function; check whether the code came from the cache."""
        dispatcher = self.double()
        assert dispatcher(21) == 42
        assert bool(dispatcher.stats.cache_hits) == from_cache

    @property
    def index(self) -> Path:
        (path,) = self.folder.glob("cache/*/*.nbi")
        return path

    @property
    def code(self) -> Path:
        (path,) = self.folder.glob("cache/*/*.nbc")
        return path

    @property
    def messages(self) -> list[tuple[str, str]]:
        return [(record.levelname, record.getMessage()) for record in self.log.records]


@pytest.fixture
def compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[Compiler]:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(compiling, "_warned", [])
    compiler = Compiler(tmp_path, caplog)
    monkeypatch.setitem(sys.modules, "double", compiler.module)
    with caplog.at_level(logging.INFO, "gramstyle"):
        yield compiler


def test_the_code_is_compiled_once(compiler: Compiler) -> None:
    compiler.runs(from_cache=False)
    compiler.runs(from_cache=True)
    assert compiler.messages == []


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def random(path: Path) -> None:
    path.write_bytes(bytes((7 * i * i) % 251 for i in range(3000)))


def one_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def unreadable(path: Path) -> None:
    if os.name == "nt" or os.geteuid() == 0:
        pytest.skip("every file can be read here")
    path.chmod(0)


@pytest.mark.parametrize("file", ["index", "code"])
@pytest.mark.parametrize("damage", [empty, truncated, random, one_byte, unreadable])
def test_damaged_files_are_replaced_and_only_the_log_says_so(
    damage: Callable[[Path], None], file: str, compiler: Compiler
) -> None:
    compiler.runs(from_cache=False)
    damage(getattr(compiler, file))
    compiler.runs(from_cache=False)
    compiler.runs(from_cache=True)
    for level, message in compiler.messages:
        assert level == "INFO"
        assert message.startswith("the cached code of double is compiled again: ")
    assert len(compiler.messages) <= 1  # an index may name code that is missing, as after a change


def test_code_with_another_hash_is_not_loaded(compiler: Compiler) -> None:
    compiler.runs(from_cache=False)
    one_byte(compiler.code)
    compiler.runs(from_cache=False)
    assert "it does not have the recorded hash" in compiler.messages[0][1]


def test_code_that_is_missing_is_compiled_again(compiler: Compiler) -> None:
    compiler.runs(from_cache=False)
    compiler.code.unlink()
    compiler.runs(from_cache=False)
    compiler.runs(from_cache=True)


def test_code_for_another_signature_is_not_run(compiler: Compiler) -> None:
    dispatcher = compiler.double()
    assert (dispatcher(21), dispatcher(0.25)) == (42, 0.5)
    first, second = sorted(compiler.folder.glob("cache/*/*.nbc"))
    first.write_bytes(second.read_bytes())
    compiler.runs(from_cache=False)
    (message,) = compiler.messages
    assert "it belongs to another signature" in message[1]


def test_a_change_to_any_module_of_the_package_outdates_the_code(compiler: Compiler) -> None:
    compiler.runs(from_cache=False)
    (compiler.folder / "beside.py").write_text("HALF = 0.5\n")
    compiling._sources.cache_clear()  # as a new process would read them
    compiler.runs(from_cache=False)
    compiler.runs(from_cache=True)


def test_two_processes_that_fill_the_cache_at_once_both_succeed(
    compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = IndexDataCacheFile._save_index

    def interrupted(file: IndexDataCacheFile, overloads: Any) -> None:
        monkeypatch.setattr(IndexDataCacheFile, "_save_index", save)
        other = compiler.double()  # begins and ends between two steps of the first one
        assert (other(21), other(0.25)) == (42, 0.5)
        save(file, overloads)

    monkeypatch.setattr(IndexDataCacheFile, "_save_index", interrupted)
    compiler.runs(from_cache=False)
    compiler.runs(from_cache=True)
    assert compiler.double()(0.25) == 0.5
    assert compiler.messages == []


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def index_is_a_folder(compiler: Compiler, _: pytest.MonkeyPatch) -> None:
    compiler.runs(from_cache=False)
    index = compiler.index
    index.unlink()
    index.mkdir()
    (index / "file").touch()


def disk_is_full(_: Compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(IndexDataCacheFile, "_open_for_write", no_space)


def nowhere_to_write(_: Compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    for locator in compiling._Place._locator_classes:
        monkeypatch.setattr(locator, "from_function", lambda *_: None)


@pytest.mark.parametrize("obstruct", [index_is_a_folder, disk_is_full, nowhere_to_write])
def test_a_cache_that_cannot_be_written_costs_time_and_one_warning(
    obstruct: Callable[[Compiler, pytest.MonkeyPatch], None],
    compiler: Compiler,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    obstruct(compiler, monkeypatch)
    compiler.runs(from_cache=False)
    assert compiled(compiler.module.triple)(14) == 42
    compiler.runs(from_cache=False)
    warnings = [message for level, message in compiler.messages if level == "WARNING"]
    assert len(warnings) == 1
    assert warnings[0].startswith("compiled code cannot be cached (")
    assert warnings[0].endswith("set NUMBA_CACHE_DIR to a folder that can be written")


def test_without_a_home_directory_no_folder_is_made_in_its_place(
    compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(compiler.folder)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.setattr(compiling._Place._locator_classes[1], "from_function", lambda *_: None)
    compiler.runs(from_cache=False)
    # Python's own cache may be there; it depends on PYTHONDONTWRITEBYTECODE.
    assert {path.name for path in compiler.folder.iterdir()} - {"__pycache__"} == {"double.py"}
    assert len(compiler.messages) == 1


def test_scipys_blas_is_imported_for_the_functions_of_others_only() -> None:
    program = """
import sys
import numpy as np
from gramstyle.system.compiling import compiled
import numba

@compiled
def double(x):
    return x + x

@numba.njit
def product(a):
    return np.dot(a, a)

assert double(21) == 42
assert "scipy.linalg" not in sys.modules
assert product(2 * np.eye(3)).trace() == 12
assert "scipy.linalg" in sys.modules
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
