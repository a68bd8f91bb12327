"""Presets: looks by name, whose values yield to those that are given."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from gramstyle import OptionError, Options, preset
from gramstyle.run.options import MACHINE
from gramstyle.run.options.precedence import combined
from gramstyle.run.plan import plan_run
from gramstyle.run.presets import PRESETS
from gramstyle.run.reconstruct import content_options


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_gives_valid_options_and_changes_something(name: str) -> None:
    assert preset(name) != Options()
    assert PRESETS[name].name == name


@pytest.mark.parametrize("name", PRESETS)
def test_no_preset_chooses_the_machine_or_an_absolute_alpha(name: str) -> None:
    """An alpha would mean something else at another size."""
    assert not PRESETS[name].values.keys() & {*MACHINE, "alpha"}


@pytest.mark.parametrize("name", PRESETS)
def test_a_description_is_one_short_line(name: str) -> None:
    assert len(PRESETS[name].description) < 70
    assert "\n" not in PRESETS[name].description


def test_a_given_option_takes_precedence_even_if_it_is_the_default() -> None:
    default = Options().iterations
    assert PRESETS["fast"].values["iterations"] != default
    assert preset("fast", iterations=default).iterations == default


def test_the_name_of_a_preset_may_be_in_any_case() -> None:
    assert preset(" Fast ") == preset("fast")


@pytest.mark.parametrize(
    ("name", "words"),
    [("panterly", "did you mean painterly?"), ("xyzzy", "the presets are faithful, "), (7, "7")],
)
def test_an_unknown_preset_is_refused_with_the_nearest_one(name: Any, words: str) -> None:
    with pytest.raises(OptionError, match="there is no preset") as refused:
        preset(name)
    assert words in str(refused.value)


PLACES: list[tuple[list[Mapping[str, Any]], Mapping[str, Any]]] = [
    ([{"size": 1}, {"size": 2}, {"size": 3}], {"size": 3}),
    ([{"content_strength": 2.0}, {"alpha": 0.5}], {"alpha": 0.5}),
    ([{"alpha": 0.5}, {"content_strength": 1.0}], {"content_strength": 1.0}),
    ([{"style_scale": (2.0,)}, {"style_size": 64}], {"style_size": 64}),
    (
        [{"style_layers": ("conv1_1",), "style_weights": (1,)}, {"style_layers": ("conv2_1",)}],
        {"style_layers": ("conv2_1",)},
    ),
    (
        [{"content_layers": ("conv1_1",), "tv": 1.0}, {"content_layer": "conv2_1"}],
        {"tv": 1.0, "content_layer": "conv2_1"},
    ),
    # In one place, values may contradict each other, which the options refuse.
    ([{"alpha": 0.5, "content_strength": 2.0}], {"alpha": 0.5, "content_strength": 2.0}),
]


@pytest.mark.parametrize(("places", "expected"), PLACES)
def test_a_later_place_replaces_values_and_what_contradicts_them(
    places: list[Mapping[str, Any]], expected: Mapping[str, Any]
) -> None:
    assert combined(*places) == expected


def test_an_alpha_and_a_factor_of_the_default_alpha_contradict_each_other() -> None:
    with pytest.raises(OptionError, match="give alpha or content_strength"):
        Options(alpha=0.1, content_strength=2.0)


@pytest.mark.parametrize("convention", [None, "author"])
def test_content_strength_is_a_factor_of_the_default_alpha_at_every_size(
    convention: str | None,
    tmp_path: Path,
    rng: np.random.Generator,
    tiny_model_path: Path,
) -> None:
    for name in ("photo.png", "a.png"):
        pixels = rng.integers(0, 256, (24, 32, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(tmp_path / name)

    def alphas(options: Options) -> list[float]:
        plan = plan_run(tmp_path / "photo.png", tmp_path / "a.png", options, model=tiny_model_path)
        return [scale.spec.weights["content"] for scale in plan.scales]

    options = Options(size=64, scales=2, convention=convention)
    doubled = alphas(replace(options, content_strength=2.0))
    assert doubled == [2 * alpha for alpha in alphas(options)]  # exact: a power of two


def test_the_strength_of_a_reconstruction_is_its_weight() -> None:
    options = content_options("conv2_1", Options(content_strength=3.0))
    assert (options.alpha, options.content_strength) == (3.0, 1.0)
