"""Files of a case whose style has regions: hostile ones are refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance_cases import CASES
from conformance_sets import arrays_of, change, refused, rewrite, store
from gramstyle.conformance.files import read_cases, write_cases

FIRST = ("cases", 0)
STYLE = {
    "layer": "conv1_1",
    "w": 1.0,
    "statistic": "gram",
    "factor": 1.0,
    "N": 4,
    "M": 80,
    "M_artwork": 120,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_cases(tmp_path / "set", [CASES["style-regions"]])
    return tmp_path / "set"


def test_the_case_that_is_read_is_the_one_that_was_written(folder: Path) -> None:
    (found,), case = read_cases(folder), CASES["style-regions"]
    assert found.objective.terms == case.objective.terms
    for layer, regions in case.regions.items():
        for one, other in zip(found.regions[layer], regions, strict=True):
            assert one.factor == other.factor
            np.testing.assert_array_equal(one.T, other.T)
            np.testing.assert_array_equal(one.A, other.A)
        np.testing.assert_array_equal(found.guidance[layer], case.guidance[layer])


@pytest.mark.parametrize("array", ["conv1_1.T", "conv2_1.T_artwork"])
@pytest.mark.parametrize("value", [1.5, -0.25, 0.0])
def test_guidance_that_is_none_is_refused(array: str, value: float, folder: Path) -> None:
    arrays = arrays_of(folder, "style-regions")
    arrays[array][0] = value
    store(folder, "style-regions", arrays)
    refused(folder, f"expected guidance from 0 to 1 at {array.split('.')[0]}")


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (change(*FIRST, "regions", 0, "m", 0, to=3.0), "follows from"),
        (change(*FIRST, "regions", 0, "m_artwork", to=[3.0]), "follows from"),
        (change(*FIRST, "regions", 0, "shares", to=[1.0, 1.0]), "the same shares"),
        (change(*FIRST, "regions", 0, "shares", to=[]), "1 to 64 entries"),
        (change(*FIRST, "regions", 0, "layer", to="conv9_1"), "conv9_1"),
        (change(*FIRST, "regions", to=...), "regions"),
        (change(*FIRST, "style", to=[STYLE]), "with regions or without them"),
        (change(*FIRST, "artwork", to=None), "artwork"),
    ],
)
def test_a_manifest_that_contradicts_the_regions_is_refused(
    edit: Callable[[dict[str, Any]], None], why: str, folder: Path
) -> None:
    rewrite(folder, edit)
    refused(folder, why)
