"""Options from notebooks: values with a clear meaning become plain ones, others are refused."""

import json
import math
import re
from contextlib import suppress
from dataclasses import asdict, fields, replace
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gramstyle import OptionError, Options, reconstruct_content, reconstruct_style, transfer
from gramstyle.analysis.normalise import MeasureOptions


class Choice(StrEnum):
    WINOGRAD = "winograd"


LAYERS = ("conv1_1", "conv2_1")
CLEAR: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"size": np.int64(48)}, {"size": 48}),
    ({"size": np.uint8(48)}, {"size": 48}),
    ({"size": np.array(48)}, {"size": 48}),
    ({"size": 48.0}, {"size": 48}),
    ({"size": np.float32(48)}, {"size": 48}),
    ({"size": np.longdouble(48)}, {"size": 48}),
    ({"size": Fraction(96, 2)}, {"size": 48}),
    ({"size": Decimal("48")}, {"size": 48}),
    ({"size": "48"}, {"size": 48}),
    ({"size": " 48.0 "}, {"size": 48}),
    ({"size": np.str_("48")}, {"size": 48}),
    ({"seed": np.uint64(2**63)}, {"seed": 2**63}),
    ({"alpha": np.float32(0.5)}, {"alpha": 0.5}),
    ({"alpha": 1}, {"alpha": 1.0}),
    ({"alpha": "5e-1"}, {"alpha": 0.5}),
    ({"tolerance": np.array(0.25)}, {"tolerance": 0.25}),
    ({"memory": "2GB"}, {"memory": 2 * 10**9}),
    ({"memory": np.str_("1.5GiB")}, {"memory": 3 * 2**29}),
    ({"memory": 2e9}, {"memory": 2 * 10**9}),
    ({"style_weights": np.full(5, 0.25)}, {"style_weights": (0.25,) * 5}),
    ({"content_weights": ["1"]}, {"content_weights": (1.0,)}),
    ({"style_weights": (n for n in range(5))}, {"style_weights": (0.0, 1.0, 2.0, 3.0, 4.0)}),
    ({"style_layers": list(LAYERS)}, {"style_layers": LAYERS}),
    ({"style_layers": np.array(LAYERS)}, {"style_layers": LAYERS}),
    ({"style_layers": "conv1_1, conv2_1"}, {"style_layers": LAYERS}),
    ({"content_layer": np.str_("conv3_1")}, {"content_layers": ("conv3_1",)}),
    ({"engine": np.str_("numpy")}, {"engine": "numpy"}),
    ({"engine": Choice.WINOGRAD}, {"engine": "winograd"}),
    ({"engine": "NumPy"}, {"engine": "numpy"}),
    ({"pooling": "Max"}, {"pooling": "max"}),
    ({"device": "CUDA", "tf32": np.bool_(True)}, {"device": "cuda", "tf32": True}),
    ({"init": np.str_("noise")}, {"init": "noise"}),
]  # fmt: skip


def described(value: object) -> str:
    """A name of a case that is the same in every process: no addresses, no order of sets."""
    if isinstance(value, str):
        return value
    shown = repr(sorted(value) if isinstance(value, set) else value)
    return " ".join(re.sub(r" at 0x\w+", "", shown).split())[:60]


@pytest.mark.parametrize(("given", "plain"), CLEAR, ids=described)
def test_a_value_with_a_clear_meaning_becomes_a_plain_one(
    given: dict[str, Any], plain: dict[str, Any]
) -> None:
    options = Options(**given)
    assert options == Options(**plain)
    for name, value in plain.items():
        found = getattr(options, name)
        assert (found, type(found)) == (value, type(value))
    assert json.loads(json.dumps(asdict(options)))["size"] == options.size
    assert hash(options) == hash(Options(**plain))


UNCLEAR: dict[str, list[Any]] = {
    "size": [48.5, "48.5", "big", "", True, np.bool_(True), None, math.nan, math.inf, 1j, b"48",
             [48], np.array([48]), np.array([1, 2]), "9" * 5000, {}, "1e999", object(),
             np.timedelta64(48, "s"), np.datetime64("2026-01-01", "ns")],
    "alpha": ["much", "0,5", [0.5], np.ones(1), np.array([0.5, 0.5]), True, 10**400, "nan", -1],
    "beta": [None],
    "memory": ["2XB", "1e9", "", "-2GB", -1, [1], 2**63, 0.5],
    "style_layers": [3, {"conv1_1", "conv2_1"}, {"conv1_1": 1}, [1], [None], b"conv1_1",
                     [["conv1_1"]], count(), np.array("conv1_1", object)[None, None], ""],
    "style_weights": [1.0, "0.2,x", {"conv1_1": 1.0}, np.ones((5, 1)), ["x"], count(), [True]],
    "engine": [3, "numppy", np.array(["numpy"]), b"numpy", ["numpy"], object()],
    "device": ["gpu", None, 0],
    "tf32": [1, "yes", None, np.array([True])],
    "scheduler": [8786, b"tcp://", Path("tcp:")],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in UNCLEAR.items() for value in values],
    ids=described,
)  # fmt: skip
def test_a_value_without_one_is_refused_in_one_line_that_names_the_option(
    name: str, value: object
) -> None:
    with pytest.raises(OptionError, match=f"{name} must ") as caught:
        Options(**{name: value})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("value", [object(), [], {}, 1j, np.zeros((2, 2)), b"?", math.nan, -1, "?"])
def test_no_value_of_any_option_raises_another_error(value: object) -> None:
    for each in fields(Options):
        with suppress(OptionError):
            Options(**{each.name: value})


@pytest.mark.parametrize(
    "given",
    [
        {"history": 10**9}, {"threads": 10**9}, {"iterations": 10**12}, {"scales": 10**6},
        {"tile": 10**9}, {"workers": 10**6}, {"size": 10**12}, {"max_pixels": 10**12},
        {"seed": 10**5000}, {"memory": 10**30},
    ],
    ids=lambda given: next(iter(given)),
)  # fmt: skip
def test_each_whole_number_has_a_largest_value(given: dict[str, int]) -> None:
    with pytest.raises(OptionError, match=rf"{next(iter(given))} must be at most [\d,]+, not "):
        Options(**given)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"engine": "winogard"}, "winograd"),
        ({"optimiser": "scypi"}, "scipy"),
        ({"pooling": "maxx"}, "max"),
        ({"convention": "papre"}, "paper"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_one_that_was_meant(
    given: dict[str, str], meant: str
) -> None:
    with pytest.raises(OptionError, match=rf"; did you mean {meant}\?$"):
        Options(**given)  # type: ignore[arg-type]


def test_a_misspelt_layer_is_answered_with_the_one_that_was_meant(tiny_model_path: Path) -> None:
    image, options = np.zeros((48, 48, 3)), Options(size=48, content_layer="conv4-2")
    with pytest.raises(OptionError, match=r"unknown layer 'conv4-2'; did you mean conv4_2\? The "):
        transfer(image, image, options, model=tiny_model_path)


def test_copies_with_other_values_are_plain_too() -> None:
    options = replace(Options(), iterations=np.int32(3), style_weights=np.ones(5))  # type: ignore[arg-type]
    assert options == Options(iterations=3, style_weights=(1.0,) * 5)


def test_what_is_given_instead_of_options_is_refused() -> None:
    image: Any = np.zeros((48, 48, 3))
    wrong: Any = {"size": 48}
    for call in (
        lambda: transfer(image, image, wrong),
        lambda: reconstruct_content(image, "conv1_1", wrong),
        lambda: reconstruct_style(image, ("conv1_1",), wrong),
    ):
        with pytest.raises(
            OptionError, match=r"options must be an Options\(\.\.\.\), not \{'size'"
        ):
            call()


def test_the_options_of_a_measurement_are_made_plain_alike() -> None:
    given: Any = {"size": np.int64(48), "pooling": "MAX", "threads": "2"}
    assert MeasureOptions(**given) == MeasureOptions(size=48, pooling="max", threads=2)
    with pytest.raises(OptionError, match="threads must be at most 1,024"):
        MeasureOptions(threads=10**6)


def test_a_run_with_values_of_numpy_records_plain_ones(tiny_model_path: Path) -> None:
    image = np.zeros((32, 32, 3))
    given: Any = {"size": np.int64(32), "iterations": np.uint8(1), "style_weights": np.ones(5)}
    settings = transfer(image, image, Options(**given), model=tiny_model_path).record.settings
    assert json.loads(json.dumps(settings.to_json()))["style_weights"] == [1.0] * 5


@pytest.mark.parametrize("digits", [400, 5000])
def test_a_number_that_no_float_can_hold_is_refused_in_one_line(digits):
    with pytest.raises(OptionError, match=r"each number of style_size must be above 0 .*, not "):
        Options(style_size=[10**digits])
