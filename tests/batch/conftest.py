"""Images in a folder, and jobs files that name them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from gramstyle.batch import Job, read_jobs

PHOTOS = tuple(f"photos/{letter}.png" for letter in "abcd")


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Four photographs, two paintings, and a folder for results."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "out").mkdir()
    for name in (*PHOTOS, "night.png", "meadow.png"):
        PIL.Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "photos/readme.txt").write_text("not an image")
    return tmp_path


@pytest.fixture
def read(folder: Path) -> Callable[[str], tuple[Job, ...]]:
    """Read a jobs file with this text."""

    def read_text(text: str) -> tuple[Job, ...]:
        (folder / "jobs.toml").write_text(text, encoding="utf-8")
        return read_jobs(folder / "jobs.toml")

    return read_text


@pytest.fixture
def jobs_with(read: Callable[[str], tuple[Job, ...]]) -> Callable[..., tuple[Job, ...]]:
    """Read a jobs file with a job for each photograph, and these lines."""

    def read_with(more: str = "", *, photos: str = "*", iterations: int = 2) -> tuple[Job, ...]:
        return read(
            f'[[jobs]]\ncontent = "photos/{photos}"\nstyle = "night.png"\n'
            f'output = "out/{{content}}.png"\nsize = 32\niterations = {iterations}\n{more}'
        )

    return read_with


@pytest.fixture
def job(jobs_with: Callable[..., tuple[Job, ...]]) -> Job:
    """A job of two iterations."""
    return jobs_with(photos="a.png")[0]
