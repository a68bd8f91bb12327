"""Uploads: what is accepted, and what is known of it afterwards."""

import io

import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramstyle.errors import ImageError
from gramstyle.serve.folder import DataFolder
from gramstyle.serve.limits import Limits
from gramstyle.serve.store import StoreError
from gramstyle.serve.uploads import LARGE, THUMBNAIL, accept, clean_name, reduced
from serve_parts import encoded


def test_an_upload_keeps_its_bytes_and_is_shown_smaller_and_without_metadata(
    store_folder: DataFolder,
) -> None:
    exif = PIL.Image.Exif()
    exif[0x010F] = "a camera"
    data = encoded(1200, 800, "JPEG", exif=exif)
    upload = accept(data, "holiday.jpg", store_folder, Limits())
    assert (upload.width, upload.height) == (1200, 800)
    assert store_folder.upload(upload.id).read_bytes() == data
    for edge in (THUMBNAIL, LARGE):
        shown = PIL.Image.open(io.BytesIO(reduced(upload, store_folder, edge)))
        assert max(shown.size) == edge
        assert not shown.getexif()


@pytest.mark.parametrize("data", [b"", b"no image", encoded()[:200], encoded(50, 50)])
def test_what_is_no_image_or_too_large_is_refused_and_leaves_nothing(
    store_folder: DataFolder, data: bytes
) -> None:
    with pytest.raises(ImageError):
        accept(data, "x.png", store_folder, Limits(pixels=2000))
    assert not store_folder.store.uploads()
    assert not list((store_folder.path / "uploads").iterdir())


def test_the_oldest_uploads_without_a_job_make_room(store_folder: DataFolder) -> None:
    data = encoded()
    limits = Limits(uploads=2 * len(data))
    ids = [accept(data, "x.png", store_folder, limits).id for _ in range(3)]
    assert store_folder.store.uploads() == set(ids[1:])
    assert not store_folder.upload(ids[0]).exists()


@given(st.text(max_size=300))
def test_the_name_of_a_file_is_a_name_and_never_a_path(name: str) -> None:
    cleaned = clean_name(name)
    assert 1 <= len(cleaned) <= 100
    assert not set(cleaned) & set("/\\\0\n,")
    assert cleaned not in (".", "..")


def test_an_upload_that_cannot_be_noted_leaves_no_file(
    store_folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(store_folder.store, "add_upload", fail)
    with pytest.raises(StoreError):
        accept(encoded(), "a.png", store_folder, Limits())
    assert not list((store_folder.path / "uploads").iterdir())
