"""The colours of a result, the styles that a run compares with, and what a file stores."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from gramstyle.core.arrays import Array
from gramstyle.errors import OptionError
from gramstyle.images import Image, read_image, read_original, strips
from gramstyle.images.colour.transport import recoloured, statistics_of
from gramstyle.run.colours import CHROMA, Finishing, finishing_of, in_colours
from gramstyle.run.inputs import Canvas, ScaleImages
from gramstyle.run.options import Options
from gramstyle.run.plan import plan_run, planning
from gramstyle.run.prepare import prepare
from gramstyle.run.transfer import Progress, execute, transfer
from images.profiles import grey_ink_profile, linear_rgb_profile

# The order of sums in float32.
FLOAT32 = 1e-3


@pytest.fixture
def photo(rng: np.random.Generator) -> Array:
    """A photograph with a third of its channels at their limits."""
    return np.clip(rng.uniform(-130, 390, (75, 100, 3)), 0, 255).astype(np.uint8)


@pytest.fixture
def paintings(rng: np.random.Generator) -> list[Array]:
    return [
        rng.integers(0, 256, (60, 90, 3)).astype(np.uint8),
        rng.integers(100, 130, (80, 70, 3)).astype(np.uint8),
    ]


def chroma(pixels: Any) -> Array:
    """Cb and Cr by the matrix of ITU-T T.871, in float64."""
    matrix = np.array([[-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    return np.asarray(pixels, np.float64) @ matrix.T


def luma(pixels: Any) -> Array:
    return np.asarray(pixels, np.float64) @ np.array([0.299, 0.587, 0.114])


def content_at(photo: Array, edge: int) -> Array:
    original = read_original(photo)
    return original.resized(edge, round(edge * 0.75)).pixels


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"engine": "winograd"},
        {"tile": 48},
        {"scales": 2, "iterations": 4},
        {"init": "noise"},
        {"init": "style", "convention": "author"},
        {"tv": 100.0, "style_scale": (0.5, 1)},
    ],
    ids=str,
)
def test_the_chroma_is_the_content_image_s_within_one_level(
    given: dict[str, Any], photo: Array, paintings: Any, tiny_model_path: Path
) -> None:
    options = Options(**{"size": 100, "engine": "numpy", "iterations": 3, "beta": 1e3, **given},
                      colours="content")  # fmt: skip
    plan = plan_run(photo, paintings, options, model=tiny_model_path)
    start = plan.inputs.images[-1]
    seen: list[Progress] = []
    result = execute(plan, callback=seen.append)  # type: ignore[arg-type]
    images = [(result.image, 100), *((each.image(), each.scale.width) for each in seen)]
    for image, edge in images:
        expected = content_at(photo, edge)
        assert np.abs(chroma(image) - chroma(expected)).max() <= 1
    assert start is not None
    assert start.content is not None
    # The style has moved the luminance where colours leave it room.
    moved = np.abs(luma(result.image) - luma(start.content.pixels))
    assert moved.mean() > 0.1


def test_luminances_are_compared_and_the_style_s_are_like_the_content_s(
    photo: Array, paintings: Any, tiny_model_path: Path
) -> None:
    options = Options(size=64, colours="content", init="style")
    plan = plan_run(photo, paintings, options, model=tiny_model_path)
    images = plan.inputs.take_images(0)
    content, styles = images.content, [each.image for each in images.styles]
    assert content is not None
    found = in_colours(images, options)
    assert found.content is not None
    assert found.first_style is not None
    expected = luma(content.pixels)
    for channel in range(3):
        np.testing.assert_allclose(found.content.pixels[..., channel], expected, atol=FLOAT32)
    for before, sample in zip(styles, found.styles, strict=True):
        own = luma(before.pixels)
        wanted = (own - own.mean()) / own.std() * expected.std() + expected.mean()
        for channel in range(3):
            np.testing.assert_allclose(sample.image.pixels[..., channel], wanted, atol=0.01)
    assert np.ptp(found.first_style.pixels, axis=2).max() == 0


def test_a_start_from_an_image_or_from_noise_is_grey(
    photo: Array, paintings: Any, tiny_model_path: Path
) -> None:
    for init in ("noise", paintings[1]):
        options = Options(size=64, colours="content", init=init, engine="numpy")
        with prepare(photo, paintings[0], options, model=tiny_model_path) as prepared:
            assert np.ptp(prepared.start, axis=0).max() == 0


def test_match_compares_with_the_recoloured_style_images(
    photo: Array, paintings: Any, tiny_model_path: Path
) -> None:
    options = Options(size=64, engine="numpy", colours="match")
    plan = plan_run(photo, paintings, options, model=tiny_model_path)
    images = plan.inputs.images[0]
    assert images is not None
    assert images.content is not None
    statistics = statistics_of(images.content.pixels)
    found = in_colours(images, options)
    assert found.content is images.content
    for before, after in zip(images.styles, found.styles, strict=True):
        np.testing.assert_array_equal(
            after.image.pixels, recoloured(before.image.pixels, statistics)
        )
        assert after.share == before.share
    with prepare(photo, paintings, options, model=tiny_model_path) as prepared:
        terms = prepared.objective.terms_of("style")
    by_hand = [each.image.pixels / 255 for each in found.styles]
    plain = Options(size=64, engine="numpy")
    with prepare(photo, by_hand, plain, model=tiny_model_path) as prepared:
        for layer, term in prepared.objective.terms_of("style").items():
            np.testing.assert_allclose(terms[layer].A, term.A, rtol=1e-4)


def test_on_a_cluster_the_result_is_that_of_tiles_bit_for_bit(
    photo: Array, paintings: Any, tiny_model_path: Path
) -> None:
    given: dict[str, Any] = {"size": 64, "tile": 48, "iterations": 2, "engine": "numpy"}
    given["colours"] = "content"
    local = transfer(photo, paintings[0], Options(**given), model=tiny_model_path)
    there = transfer(photo, paintings[0], Options(**given, workers=1), model=tiny_model_path)
    np.testing.assert_array_equal(there.rendered.pixels, local.rendered.pixels)


def test_strips_of_rows_give_the_same_image(
    photo: Array, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = ScaleImages(content=read_image(photo), styles=(), canvas=Canvas(100, 75))
    options = Options(colours="content")
    x = rng.uniform(-50, 300, (3, 75, 100))
    whole = finishing_of(images, options).image(x)
    monkeypatch.setattr(strips, "_PIXELS", 250)
    parts = finishing_of(images, options).image(x)
    np.testing.assert_array_equal(parts.pixels, whole.pixels)


def test_transparency_stays_and_colours_on_white_are_possible(
    photo: Array, paintings: Any, tiny_model_path: Path, rng: np.random.Generator
) -> None:
    alpha = rng.integers(0, 256, (75, 100, 1)).astype(np.uint8)
    rgba = np.dstack((photo, alpha))
    options = Options(size=100, iterations=2, engine="numpy", colours="content")
    result = transfer(rgba, paintings[0], options, model=tiny_model_path)
    expected = read_image(rgba)
    np.testing.assert_array_equal(result.rendered.alpha, expected.alpha)
    shown = read_image(np.asarray(result.image))  # as a viewer shows the file, on white
    assert np.abs(chroma(shown.pixels) - chroma(expected.pixels)).max() <= 1


def test_by_default_the_image_is_the_iterate(rng: np.random.Generator) -> None:
    x = rng.uniform(-50, 300, (3, 5, 7))
    np.testing.assert_array_equal(
        Finishing().image(x).pixels, x.transpose(1, 2, 0).astype(np.float32)
    )


@pytest.mark.parametrize("colours", ["content", "match"])
@pytest.mark.parametrize("missing", ["content", "style"])
def test_a_missing_image_is_one_line(
    colours: Any, missing: str, photo: Array, paintings: Any, tiny_model_path: Path
) -> None:
    content, style = (None, paintings[0]) if missing == "content" else (photo, None)
    options = Options(size=64, colours=colours, init="noise")
    with pytest.raises(OptionError, match="needs a content image and a style image; leave"):
        plan_run(content, style, options, model=tiny_model_path)


def test_records_name_the_images_as_they_were_read(
    photo: Array, paintings: Any, tiny_model_path: Path
) -> None:
    settings = [
        plan_run(
            photo, paintings[0], Options(size=64, colours=colours), model=tiny_model_path
        ).settings.to_json()
        for colours in ("style", "content", "match")
    ]
    assert [each["colours"] for each in settings] == ["style", "content", "match"]
    for name in ("content", "style"):
        assert settings[0][name] == settings[1][name] == settings[2][name]


def test_the_memory_of_the_chroma_is_part_of_the_budget(
    photo: Array, paintings: Any, tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    real = planning.choose_layout

    def choose_layout(*arguments: Any, memory: int, **other: Any) -> Any:
        seen.append(memory)
        return real(*arguments, memory=memory, **other)

    monkeypatch.setattr(planning, "choose_layout", choose_layout)
    for colours in ("style", "content"):
        options = Options(size=100, memory="2GB", colours=colours)
        plan_run(photo, paintings[0], options, model=tiny_model_path)
    assert seen[0] - seen[1] == CHROMA * 100 * 75


# What a file stores


def saved_photo(folder: Path, photo: Array, **options: Any) -> Path:
    path = folder / "photo.tif"
    PIL.Image.fromarray(photo).save(path, **options)
    return path


def test_the_encoding_has_the_depth_the_profile_and_the_resolution(
    photo: Array, paintings: Any, tiny_model_path: Path, tmp_path: Path
) -> None:
    profile = linear_rgb_profile()
    path = saved_photo(tmp_path, photo, icc_profile=profile, dpi=(300, 240))
    said: list[str] = []
    options = Options(size=64, depth=16, profile="keep", iterations=1, engine="numpy")
    plan = plan_run(path, paintings[0], options, model=tiny_model_path, notify=said.append)
    assert said == []
    assert plan.settings.to_json()["icc_profile"] == hashlib.sha256(profile).hexdigest()
    encoding = execute(plan).encoding
    assert (encoding.depth, encoding.profile) == (16, profile)
    assert encoding.dpi == pytest.approx((300, 240))
    plain = plan_run(path, paintings[0], Options(size=64), model=tiny_model_path)
    assert plain.encoding.profile is None
    assert "icc_profile" not in plain.settings.to_json()


@pytest.mark.parametrize(
    ("profile", "words"),
    [(None, "has no embedded colour profile"), (grey_ink_profile(), "profile for CMYK")],
)
def test_a_profile_that_cannot_be_kept_is_a_note(
    profile: bytes | None,
    words: str,
    photo: Array,
    paintings: Any,
    tiny_model_path: Path,
    tmp_path: Path,
) -> None:
    path = saved_photo(tmp_path, photo, **({} if profile is None else {"icc_profile": profile}))
    said: list[str] = []
    options = Options(size=64, profile="keep")
    plan = plan_run(path, paintings[0], options, model=tiny_model_path, notify=said.append)
    (note,) = said
    assert note.startswith("photo.tif ")
    assert words in note
    assert note.endswith("; the result is sRGB.")
    assert plan.encoding.profile is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"depth": 12}, "depth must be 8 or 16 bits per channel, not 12"),
        ({"depth": "deep"}, "depth must be a whole number"),
        ({"profile": "keeep"}, "did you mean keep"),
        ({"colours": "contents"}, "did you mean content"),
    ],
)
def test_a_value_that_makes_no_sense_is_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Options(**given)


def test_a_result_unpacks_into_the_pillow_image_and_the_record(
    photo: Array, paintings: Any, tiny_model_path: Path
) -> None:
    options = Options(size=64, iterations=1, engine="numpy")
    result = transfer(photo, paintings[0], options, model=tiny_model_path)
    image, record = result
    assert isinstance(result.rendered, Image)
    assert image is result.image
    assert record is result.record
    # Rounded once: the Pillow image is the image in floating point, rounded.
    pixels = np.clip(np.rint(result.rendered.pixels), 0, 255)
    np.testing.assert_array_equal(np.asarray(image), pixels)
