"""The folder of a service."""

from pathlib import Path

import pytest

from gramstyle.errors import GramstyleError
from gramstyle.serve.folder import DataFolder, opened


def test_a_second_service_on_the_folder_is_refused(tmp_path: Path) -> None:
    with (
        opened(tmp_path / "data"),
        pytest.raises(GramstyleError, match=r"another process .*serves the jobs in"),
        opened(tmp_path / "data"),
    ):
        pass


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(GramstyleError, match="contains other files"), opened(tmp_path):
        pass
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_path_that_cannot_be_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(GramstyleError, match="cannot write to the folder"),
        opened(tmp_path / "file" / "data"),
    ):
        pass


def test_files_that_a_kill_has_left_are_removed(store_folder: DataFolder) -> None:
    stray = store_folder.job("stray")
    stray.folder.mkdir()
    stray.image.write_bytes(b"image")
    store_folder.write_upload("stray", b"bytes")
    store_folder.remove_strays()
    assert not stray.folder.exists()
    assert not store_folder.upload("stray").exists()
