"""The options of a job: which are taken, which are refused, and how they are described."""

from typing import Any

import pytest

from gramstyle.errors import OptionError
from gramstyle.run.options import Options
from gramstyle.serve.job import Request
from gramstyle.serve.limits import Limits
from gramstyle.serve.options import check_request, described_options, uploads_of, with_files


def request(styles: int = 1, preset: str | None = None, **options: Any) -> Request:
    names = tuple(f"style{number}" for number in range(styles))
    return Request(content="content", styles=names, preset=preset, options=options)


def test_a_request_has_the_options_of_its_preset_and_its_own_over_them() -> None:
    options = check_request(request(preset="fast", iterations=7), Limits())
    assert (options.size, options.iterations) == (256, 7)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"threads": 4}, "threads is not an option of a job, the server chooses it"),
        ({"scheduler": "tcp://evil:1"}, "scheduler is not an option of a job"),
        ({"engine": "numpy"}, "engine is not an option of a job"),
        ({"sise": 4}, "unknown key 'sise'; did you mean size"),
        ({"size": 4096}, "size must be at most 1024 on this server, not 4096"),
        ({"iterations": 5000}, "iterations must be at most 1000 on this server"),
        ({"size": "large"}, "size must be a whole number"),
        ({"style_scale": [90]}, "would have edges of 46080 pixels"),
        ({"style_blend": [1, 2]}, "style_blend has 2 numbers for 1 style image"),
        ({"protect": ["a", "b"]}, "protect must be the id of an upload"),
        ({"style_regions": ["a", "b"]}, "style_regions has 2 masks for 1 style image"),
        ({"style_regions": "../../etc/passwd,b"}, "must be the id of an upload"),
        ({"init": {"path": "x"}}, "init must be"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_in_one_line(
    options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(OptionError, match=sentence) as caught:
        check_request(request(**options), Limits())
    assert "\n" not in str(caught.value)


def test_too_many_style_images_are_refused() -> None:
    with pytest.raises(OptionError, match="from 1 to 8 style images, not 9"):
        check_request(request(styles=9), Limits())


def test_images_among_the_options_are_uploads_and_become_files() -> None:
    wanted = request(styles=2, init="start", protect="mask", style_regions=["one", "two"])
    ids = ("content", "style0", "style1", "start", "mask", "one", "two")
    assert set(uploads_of(wanted)) == set(ids)
    files = with_files(wanted, {id_: f"/data/{id_}" for id_ in ids})
    assert files.options["protect"] == "/data/mask"
    assert files.options["style_regions"] == ["/data/one", "/data/two"]
    assert uploads_of(request(init="noise")) == ("content", "style0")


def test_every_described_option_has_words_and_its_true_default() -> None:
    described = {each.name: each for each in described_options(Limits(size=300))}
    for name, each in described.items():
        assert each.description, name
        default = getattr(Options(), name)
        assert each.default == (list(default) if isinstance(default, tuple) else default)
    assert described["size"].maximum == 300
    assert described["colours"].choices == ("style", "content", "match")
    assert described["tv"].type == "number"
    assert "threads" not in described
