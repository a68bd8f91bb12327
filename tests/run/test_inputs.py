"""The images of a run: the memory that they may take, and what is said about odd ones."""

import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from gramstyle.core.arrays import Array
from gramstyle.errors import ImageError
from gramstyle.run import inputs
from gramstyle.run.options import Options
from gramstyle.run.plan import RunPlan, plan_run


def png(width: int, height: int) -> bytes:
    """A PNG of one colour, whose pixels take four bytes each when decoded."""
    data = io.BytesIO()
    PIL.Image.new("RGB", (width, height), (200, 100, 50)).save(data, "PNG")
    return data.getvalue()


def refusal(content: bytes, style: bytes, options: Options) -> str:
    with pytest.raises(ImageError) as caught:
        plan_run(content, style, options)
    message = str(caught.value)
    assert message.isprintable()
    assert "raise --memory" in message
    return message


def test_decoded_images_count_towards_the_memory_budget(tiny_model_path: Path) -> None:
    content, style = png(2000, 1000), png(1000, 1000)
    options = Options(size=64, memory=11_000_000)
    assert refusal(content, style, options).startswith("cannot read style: ")
    assert refusal(style, content, options).startswith("cannot read style: ")
    assert refusal(png(2000, 2000), style, options).startswith("cannot read content: ")
    start = Options(size=64, memory=13_000_000, init=png(1000, 1000))
    assert refusal(content, style, start).startswith("cannot read init: ")
    plan_run(content, style, Options(size=64, memory=2_000_000_000), model=tiny_model_path)


def test_the_default_budget_follows_from_the_memory_of_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inputs, "physical_memory", lambda: 4_000_000)
    message = refusal(png(1000, 1000), png(10, 10), Options(size=64))
    assert "0.003 GB of memory is left" in message


def notes(tiny_model_path: Path, content: object, style: object, **options: object) -> list[str]:
    said: list[str] = []
    plan_run(
        content,  # type: ignore[arg-type]
        style,  # type: ignore[arg-type]
        Options(size=64, **options),  # type: ignore[arg-type]
        model=tiny_model_path,
        notify=said.append,
    )
    return said


def with_alpha(alpha: int) -> Array:
    image = np.full((64, 64, 4), 100, np.uint8)
    image[..., 3] = alpha
    return image


def test_an_image_that_is_transparent_everywhere_is_named(
    tiny_model_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "layer.png"
    PIL.Image.fromarray(with_alpha(0)).save(path)
    plain = with_alpha(255)
    for given, name in (
        (notes(tiny_model_path, path, plain), "layer.png"),
        (notes(tiny_model_path, plain, with_alpha(0)), "(style)"),
        (notes(tiny_model_path, plain, plain, init=path), "layer.png"),
    ):
        assert len(given) == 1
        assert given[0].startswith(f"{name} is transparent everywhere")


def test_nothing_is_said_about_other_transparent_images(tiny_model_path: Path) -> None:
    partly = with_alpha(0)
    partly[:20, :20, 3] = 9
    assert notes(tiny_model_path, partly, with_alpha(1)) == []


def test_a_run_takes_images_as_bytes_and_open_files(tiny_model_path: Path, tmp_path: Path) -> None:
    def settings(plan: RunPlan) -> object:
        assert plan.settings.content is not None
        return plan.settings.content.pixels

    path, style, options = tmp_path / "a.png", png(70, 80), Options(size=64)
    path.write_bytes(png(80, 60))
    wanted = settings(plan_run(path, style, options, model=tiny_model_path))
    with path.open("rb") as file:
        for source in (path.read_bytes(), file, io.BytesIO(path.read_bytes()), str(path)):
            plan = plan_run(source, style, options, model=tiny_model_path)
            assert settings(plan) == wanted
