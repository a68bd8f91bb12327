"""Jobs with colours, depth and profile: refusals, reuse, and jobs that are done elsewhere."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from gramstyle.batch import Job
from gramstyle.batch.outcome import attempt
from gramstyle.batch.payload import accept, pack, run_remote
from gramstyle.batch.reuse import find_reusable, fingerprint
from gramstyle.errors import GramstyleError
from gramstyle.images import read_image, read_settings
from gramstyle.model import Model

Make = Callable[..., tuple[Job, ...]]
LINES = 'colours = "content"\ndepth = 16\nprofile = "keep"\n'


def test_a_job_has_the_options(jobs_with: Make) -> None:
    (job,) = jobs_with(LINES, photos="a.png")
    options = job.options
    assert (options.colours, options.depth, options.profile) == ("content", 16, "keep")


def test_sixteen_bits_in_a_format_of_eight_are_refused_with_the_job_s_label(read: Make) -> None:
    lines = 'style = "night.png"\nsize = 32\n'
    jobs = f'[[jobs]]\ncontent = "photos/a.png"\n{lines}output = "out/a.jpg"\n'
    jobs += f'[[jobs]]\ncontent = "photos/b.png"\n{lines}output = "out/b.jpg"\ndepth = 16\n'
    with pytest.raises(GramstyleError, match=r"job 2: .*JPEG stores 8 bits per channel"):
        read(jobs)


def test_an_image_is_reused_only_with_the_same_colours_and_bits(
    jobs_with: Make, tiny_model_path: Path
) -> None:
    (job,) = jobs_with(LINES, photos="a.png")
    assert attempt(job, model=tiny_model_path).state == "done"
    assert find_reusable(job, model=tiny_model_path) is not None
    with PIL.Image.open(job.output) as opened:
        assert "RGB;16" in str(opened.tile)
    for change in ({"colours": "match"}, {"depth": 8}, {"profile": "srgb"}):
        other = replace(job, options=replace(job.options, **change))  # type: ignore[arg-type]
        assert fingerprint(other, model=tiny_model_path) != fingerprint(job, model=tiny_model_path)
        assert find_reusable(other, model=tiny_model_path) is None


def test_a_job_done_elsewhere_has_the_same_image(
    jobs_with: Make, tiny_model: Model, tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = jobs_with(LINES, photos="a.png")
    assert attempt(job, model=tiny_model_path).state == "done"
    expected = read_image(job.output).pixels
    job.output.unlink()
    monkeypatch.setenv("GRAMSTYLE_MODEL", str(tiny_model_path))
    outcome = accept(job, run_remote(pack(job, network=tiny_model.sha256)))
    assert outcome.state == "done", outcome.reason
    np.testing.assert_array_equal(read_image(job.output).pixels, expected)
    settings = read_settings(job.output)
    assert settings is not None
    assert (settings["colours"], settings["depth"]) == ("content", 16)
