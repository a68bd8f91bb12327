"""`gramstyle transfer --preset … --recipe …`, `gramstyle presets` and `gramstyle recipe`."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest

from gramstyle import preset
from gramstyle.cli import main
from gramstyle.images import read_settings
from gramstyle.run.presets import PRESETS

Run = Callable[..., int]
MACHINE = ("--threads", "1", "--quiet")


def pixels(name: str) -> bytes:
    with PIL.Image.open(name) as image:
        return image.tobytes()


def test_a_result_is_rendered_again_from_its_recipe_alone(
    transfer: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert transfer("--tv", "0.001", "--init", "painting.png", "--quiet") == 0
    assert main(["recipe", "out.png"]) == main(["recipe", "out.png", "-o", "r.toml"]) == 0
    assert capsys.readouterr().out == f"{Path('r.toml').read_text(encoding='utf-8')}wrote r.toml\n"
    assert main(["transfer", "--recipe", "r.toml", "-o", "again.png", *MACHINE]) == 0
    assert pixels("again.png") == pixels("out.png")
    first, again = read_settings("out.png"), read_settings("again.png")
    assert first is not None
    assert again is not None
    for settings in (first, again):  # the time is the only difference
        del settings["result"]["seconds"]
    assert again == first


def test_the_log_of_a_run_gives_the_same_recipe_as_its_image(
    transfer: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert transfer("--log", "run.jsonl", "--quiet") == 0
    assert main(["recipe", "out.png"]) == main(["recipe", "run.jsonl"]) == 0
    first, second = re.split(r"(?<=\n)(?=# The recipe)", capsys.readouterr().out)
    assert first == second


def test_an_image_of_the_command_line_replaces_the_one_of_the_recipe(
    images: Path, transfer: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "r.toml").write_text(
        'content = "photo.png"\nstyle = "none.png"\nsize = 32\niterations = 3\nengine = "numpy"'
    )
    assert transfer("--quiet") == 0
    command = ["transfer", "photo.png", "painting.png", "--recipe", "r.toml", "-o", "b.png"]
    assert main([*command, *MACHINE]) == 0
    assert pixels("b.png") == pixels("out.png")
    assert main(["transfer", "--recipe=r.toml", "photo.png", "-o", "c.png"]) == 2
    assert "none.png" in capsys.readouterr().err


def test_an_image_that_nothing_names_is_an_error_of_one_line(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "r.toml").write_text('content = "photo.png"\n')
    assert main(["transfer", "--recipe", "r.toml", "-o", "out.png"]) == 2
    error = capsys.readouterr().err
    assert "r.toml names no style image; give STYLE, or add a line style = ..." in error
    assert error.count("\n") == 1
    assert not (images / "out.png").exists()


def test_without_a_recipe_both_images_are_required(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["a.png"], [], ["--", "--recipe"]):
        with pytest.raises(SystemExit) as stop:
            main(["transfer", "-o", "out.png", *arguments])
        assert stop.value.code == 2
        assert "STYLE" in capsys.readouterr().err


def test_options_may_stand_between_the_images(transfer: Run, images: Path) -> None:
    command = ["transfer", "photo.png", "-o", "out.png", "--size", "32", "--iterations", "1"]
    assert main([*command, "painting.png", *MACHINE]) == 0


def test_a_flag_comes_before_the_recipe_and_the_recipe_before_the_preset(
    images: Path, transfer: Run
) -> None:
    (images / "r.toml").write_text('preset = "fine"\ntv = 0.5\nseed = 7')
    more = ("--recipe", "r.toml", "--preset", "painterly", "--tv", "0.25", "--quiet")
    assert transfer(*more) == 0
    settings = read_settings("out.png")
    assert settings is not None
    expected = preset("painterly", tv=0.25, seed=7, size=32, iterations=3)
    for name in ("tv", "seed", "size", "iterations", "content_strength"):
        assert settings["given"][name] == getattr(expected, name)


def test_a_flag_with_the_default_value_comes_before_the_preset(transfer: Run) -> None:
    assert transfer("--preset", "painterly", "--style-scale", "1", "--quiet") == 0
    settings = read_settings("out.png")
    assert settings is not None
    assert settings["style_scale"] == [1.0]


def test_an_unknown_preset_suggests_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["transfer", "a", "b", "-o", "c", "--preset", "panterly"])
    assert stop.value.code == 2
    assert "Did you mean painterly?" in capsys.readouterr().err


def test_the_presets_are_listed_with_what_they_do_and_the_options_that_they_stand_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["presets"]) == 0
    out = capsys.readouterr().out
    for each in PRESETS.values():
        assert each.name in out
        assert each.description in out
        for name in each.values:
            assert f"--{name.replace('_', '-')} " in out


@pytest.mark.parametrize("name", ["photo.png", "none.png", ".", "r.toml"])
def test_a_file_without_a_recipe_is_an_error_of_one_line(
    name: str, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "r.toml").write_text("size = 32")
    assert main(["recipe", name]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_recipe_does_not_overwrite_its_result(
    transfer: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert transfer("--quiet") == 0
    assert main(["recipe", "out.png", "-o", "./out.png"]) == 2
    assert "is the result itself" in capsys.readouterr().err
    assert read_settings("out.png")


def test_a_checkpoint_and_a_resumed_run_keep_the_recipe(
    transfer: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert transfer("--preset", "painterly", "--checkpoint", "saved", "--quiet") == 0
    assert main(["recipe", "out.png"]) == 0
    first = tomllib.loads(capsys.readouterr().out)
    assert main(["resume", "saved", "-o", "b.png", *MACHINE]) == 0
    assert main(["recipe", "b.png"]) == 0
    resumed = tomllib.loads(capsys.readouterr().out)
    assert resumed.items() >= first.items()
    # A checkpoint states the padding, since older ones without one mean another than the default.
    assert resumed.keys() - first.keys() == {"padding"}
