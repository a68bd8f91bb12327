"""Finished images: other settings in them, and a job that is done elsewhere."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import PIL.Image
import PIL.PngImagePlugin

from gramstyle.batch import Job
from gramstyle.batch.outcome import attempt
from gramstyle.batch.payload import accept, pack, run_remote
from gramstyle.images import read_image, read_settings
from gramstyle.model import Model


def rewritten(job: Job, settings: Mapping[str, Any] | str) -> None:
    """Replace the settings in a finished image."""
    text = settings if isinstance(settings, str) else json.dumps(settings)
    chunks = PIL.PngImagePlugin.PngInfo()
    chunks.add_itxt("gramstyle", text)
    with PIL.Image.open(job.output) as image:
        image.load()
    image.save(job.output, pnginfo=chunks)


def without_settings(job: Job, *names: str) -> None:
    """Remove settings from a finished image, and its fingerprint."""
    settings = read_settings(job.output) or {}
    for name in ("fingerprint", *names):
        del settings[name]
    rewritten(job, settings)


def assert_same_elsewhere(job: Job, folder: Path, model: Model, path: Path) -> None:
    """Check that a job has the same image where its folder does not exist."""
    assert attempt(job, model=path).state == "done"
    expected = read_image(job.output).pixels
    job.output.unlink()
    payload = pack(job, network=model.sha256)
    away = folder.rename(folder.with_name("away"))
    answer = run_remote(payload)
    away.rename(folder)
    assert accept(job, answer).state == "done"
    assert (read_image(job.output).pixels == expected).all()
    assert attempt(job, model=path).state == "reused"
