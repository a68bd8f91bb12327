"""What a path or a pattern finds, and what it says about the rest."""

import unicodedata
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest

from gramstyle.batch import Job, read_jobs
from gramstyle.errors import GramstyleError, ImageError
from gramstyle.images import read_image

Read = Callable[..., tuple[Job, ...]]

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Müller.png") for form in ("NFC", "NFD"))


def text(content: str, output: str = "out/{content}.jpg") -> str:
    return f'[[jobs]]\ncontent = "{content}"\nstyle = "night.png"\noutput = "{output}"\n'


def names(jobs: tuple[Job, ...]) -> list[str]:
    return [job.content.name for job in jobs if job.content is not None]


@pytest.fixture
def photos(folder: Path) -> Path:
    """A folder with one image, a.png, and no other file."""
    for path in (folder / "photos").iterdir():
        if path.name != "a.png":
            path.unlink()
    return folder / "photos"


def told(folder: Path, content: str) -> list[str]:
    """Return the lines about what a pattern leaves out."""
    lines: list[str] = []
    (folder / "jobs.toml").write_text(text(content), encoding="utf-8")
    read_jobs(folder / "jobs.toml", notify=lines.append)
    return lines


def test_files_that_are_no_images_are_named(folder: Path, photos: Path) -> None:
    for name in ("IMG_1.HEIC", "b.cr2", "c"):
        (photos / name).touch()
    assert told(folder, "photos/*") == [
        "left out of 'photos/*': 3 files are no images: 'IMG_1.HEIC', 'b.cr2', 'c'"
    ]
    assert told(folder, "photos/*.png") == []
    assert told(folder, "photos/a.png") == []


def test_a_folder_is_named_and_how_to_reach_its_images(folder: Path, photos: Path) -> None:
    (photos / "2024.png").mkdir()
    assert told(folder, "photos/*") == [
        "left out of 'photos/*': 1 is a folder: '2024.png' (write 'photos/*/*')"
    ]


def test_many_files_are_counted_and_their_names_are_harmless(folder: Path, photos: Path) -> None:
    for number in range(7):
        (photos / f"{number}\x1b[2J\n.txt").touch()
    (line,) = told(folder, "photos/*")
    assert line.isprintable()
    assert "7 files are no images" in line
    assert line.endswith(" and 2 more")


def test_a_pattern_in_two_tables_is_told_once(folder: Path, photos: Path) -> None:
    (photos / "b.txt").touch()
    lines: list[str] = []
    tables = text("photos/*") + text("photos/*", "out/{content}.png")
    (folder / "jobs.toml").write_text(tables)
    read_jobs(folder / "jobs.toml", notify=lines.append)
    assert len(lines) == 1


def test_a_pattern_that_finds_no_image_says_what_it_found(folder: Path, photos: Path) -> None:
    (photos / "a.png").rename(photos / "a.heic")
    with pytest.raises(ImageError, match=r"there is no image 'photos/\*'.*no image: 'a\.heic'"):
        told(folder, "photos/*")


@pytest.mark.parametrize("content", ["photos/*.jpg", "photos/*.JPG", "photos/*.Jpg"])
def test_an_extension_has_any_case(content: str, photos: Path, read: Read) -> None:
    for name in ("b.JPG", "c.jpg", "d.Jpg", "e.jpeg"):
        (photos / name).touch()
    assert names(read(text(content, "out/{content}.png"))) == ["b.JPG", "c.jpg", "d.Jpg"]


def test_the_first_image_of_a_camera_s_mpo_file_is_an_image(photos: Path, read: Read) -> None:
    with PIL.Image.open(photos / "a.png") as image:
        image.save(photos / "b.Mpo", format="MPO", save_all=True, append_images=[image])
    assert names(read(text("photos/*"))) == ["a.png", "b.Mpo"]
    assert read_image(photos / "b.Mpo").width == 32


def test_a_file_is_found_if_its_extension_has_another_case(photos: Path, read: Read) -> None:
    (photos / "a.png").rename(photos / "a.PNG")
    assert names(read(text("photos/a.png"))) == ["a.PNG"]
    (photos / "a.png").touch()
    assert names(read(text("photos/a.png"))) == ["a.png"]


@pytest.mark.parametrize(("stored", "written"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
@pytest.mark.parametrize("form", ["{}", "*{}", "{}*"])
def test_letters_may_be_composed_or_not(
    stored: str, written: str, form: str, photos: Path, read: Read
) -> None:
    (photos / "a.png").rename(photos / stored)
    part = form.format(written.removesuffix(".png")) + ".png"
    assert names(read(text(f"photos/{part}"))) == [stored]


def test_letters_of_a_folder_may_be_composed_or_not(folder: Path, photos: Path, read: Read) -> None:
    photos.rename(folder / DECOMPOSED)
    assert names(read(text(f"{COMPOSED}/*"))) == ["a.png"]


def test_brackets_in_the_name_of_a_folder_are_brackets(
    folder: Path, photos: Path, read: Read
) -> None:
    photos.rename(folder / "[2024] trip")
    (folder / "2").mkdir()
    assert names(read(text("[2024] trip/*.png"))) == ["a.png"]


def test_brackets_in_a_pattern_are_a_choice_or_brackets(photos: Path, read: Read) -> None:
    for name in ("IMG[1]a.png", "IMG1a.png", "IMG2a.png"):
        (photos / name).touch()
    assert names(read(text("photos/IMG[1]*.png"))) == ["IMG1a.png", "IMG[1]a.png"]


def test_hidden_files_are_not_matched(folder: Path, photos: Path, read: Read) -> None:
    (photos / "._a.png").touch()
    (photos / ".DS_Store").touch()
    assert names(read(text("photos/*"))) == ["a.png"]
    assert told(folder, "photos/*") == []


def test_a_link_to_nothing_is_not_searched_for_without_end(photos: Path, read: Read) -> None:
    (photos / DECOMPOSED).symlink_to("nowhere")
    with pytest.raises(ImageError, match="there is no file"):
        read(text(f"photos/{COMPOSED}"))


def test_an_output_that_the_pattern_would_match_in_another_case_is_refused(read: Read) -> None:
    with pytest.raises(GramstyleError, match="would be one of the images of"):
        read(text("photos/*.png", "photos/new-{content}.PNG"))


def test_a_byte_order_mark_is_no_part_of_the_file(folder: Path) -> None:
    (folder / "jobs.toml").write_bytes(b"\xef\xbb\xbf" + text("photos/a.png").encode())
    assert len(read_jobs(folder / "jobs.toml")) == 1


def test_a_file_in_another_encoding_is_refused_with_the_remedy(folder: Path) -> None:
    (folder / "jobs.toml").write_bytes(text("photos/a.png").encode("utf-16"))
    with pytest.raises(GramstyleError, match="not text in UTF-8; save it in that encoding"):
        read_jobs(folder / "jobs.toml")
