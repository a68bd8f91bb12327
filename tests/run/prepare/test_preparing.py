"""A transfer prepared in tiles: chosen by the memory budget, with the same objective."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from gramstyle.cli.arguments import size_in_bytes
from gramstyle.core.arrays import Array
from gramstyle.errors import OptionError
from gramstyle.optimise.lbfgsb import PairsInRows, PairsOnDisk, begin, proceed
from gramstyle.run.options import Options
from gramstyle.run.prepare import Prepared, prepare
from gramstyle.tiling.budget import FIXED


@pytest.fixture
def images(rng: np.random.Generator) -> tuple[Array, Array]:
    photograph = rng.integers(0, 256, (75, 100, 3)).astype(np.uint8)
    return photograph, rng.integers(0, 256, (60, 90, 3)).astype(np.uint8)


@pytest.fixture
def ready(images: tuple[Array, Array], tiny_model_path: Path):  # type: ignore[no-untyped-def]
    with ExitStack() as stack:

        def make(**given: object) -> Prepared:
            options = Options(size=100, **given)  # type: ignore[arg-type]
            return stack.enter_context(prepare(*images, options, model=tiny_model_path))

        yield make


@pytest.mark.parametrize("engine", ["numpy", "winograd"])
@pytest.mark.parametrize("init", ["content", "style", "noise"])
def test_in_tiles_start_and_objective_are_those_of_the_whole(ready, engine: str, init: str) -> None:  # type: ignore[no-untyped-def]
    whole, tiled = ready(engine=engine, init=init), ready(engine=engine, init=init, tile=48)
    assert tiled.start.dtype == np.float32
    assert whole.start.dtype == np.float32
    np.testing.assert_array_equal(tiled.start, whole.start)
    assert tiled.options.tile == 48
    expected = whole.loss_and_gradient(whole.start)
    gradient = expected.gradient.copy()
    found = tiled.loss_and_gradient(tiled.start)
    # float32, where some ReLUs and maxima flip. The start has a content loss of 0, of which
    # rounding leaves numbers that need not agree.
    assert found.terms["style"] == pytest.approx(expected.terms["style"], rel=1e-4)
    assert np.linalg.norm(found.gradient - gradient) < 5e-3 * np.linalg.norm(gradient)


def test_each_start_is_a_new_array(ready) -> None:  # type: ignore[no-untyped-def]
    tiled = ready(tile=48)
    first = tiled.start
    first[...] = -1
    assert tiled.start.min() >= 0


def test_a_budget_chooses_tiles_and_where_the_history_goes(ready) -> None:  # type: ignore[no-untyped-def]
    assert ready(memory=10**10).options.tile is None
    small = ready(memory=FIXED + 8_500_000)
    assert small.options.tile is not None
    assert isinstance(small.pairs(), PairsOnDisk)
    assert isinstance(ready(memory=10**10, tile=48).pairs(), PairsInRows)
    assert isinstance(ready(memory=10**10).pairs(), PairsInRows)


def test_a_run_with_its_history_on_disk_is_the_run_with_it_in_memory(ready) -> None:  # type: ignore[no-untyped-def]
    ends = []
    assert isinstance(ready(memory=FIXED + 8_500_000, tile=48).pairs(), PairsOnDisk)
    for prepared in (ready(memory=FIXED + 8_500_000, tile=48), ready(memory=10**10, tile=48)):
        evaluate = prepared.loss_and_gradient
        state = begin(evaluate, prepared.start, pairs=prepared.pairs())
        ends.append(proceed(evaluate, state, iterations=5, tolerance=0.0))
    # Plain loops and compiled ones add in another order: here float32's rounding of x at most.
    assert ends[0].best.evaluation.loss == pytest.approx(ends[1].best.evaluation.loss, rel=1e-5)
    np.testing.assert_allclose(ends[0].best.x, ends[1].best.x, rtol=0, atol=1e-3)


def test_scipy_s_optimiser_starts_in_float64(ready) -> None:  # type: ignore[no-untyped-def]
    assert ready(optimiser="scipy").start.dtype == np.float64


def test_a_budget_too_small_names_the_smallest_and_scipy_s_optimiser_is_refused_beyond_it(
    ready,
) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(OptionError, match=r"the smallest --memory that works is 0\.7GB"):
        ready(memory=10**8)
    with pytest.raises(OptionError, match=r"SciPy's L-BFGS-B takes .* leave --optimiser out"):
        ready(memory=FIXED + 8_500_000, optimiser="scipy", history=1000)


def test_a_purpose_that_needs_the_image_whole_refuses_tiles(ready) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(OptionError, match="trace needs the image whole"):
        ready(tile=48).whole("trace")
    assert ready().whole("trace") is not None


def test_on_a_cluster_the_evaluation_is_the_tiles_bit_for_bit(ready) -> None:  # type: ignore[no-untyped-def]
    local = ready(tile=48, engine="numpy")
    there = ready(tile=48, engine="numpy", workers=1)
    expected = local.loss_and_gradient(local.start)
    found = there.loss_and_gradient(there.start)
    assert found.loss == expected.loss
    assert np.array_equal(found.gradient, expected.gradient)


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GB", 2 * 10**9), ("1.5 GiB", 3 * 2**29), ("800M", 8 * 10**8), ("3000000000", 3 * 10**9)],
)
def test_a_size_is_read_as_people_write_it(text: str, size: int) -> None:
    assert size_in_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-2GB", "2XB", "1e9", "nan", "2 G B", "9" * 40])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(Exception, match="is not a size like 2GB"):
        size_in_bytes(text)


def test_a_long_history_counts_towards_the_budget(ready) -> None:  # type: ignore[no-untyped-def]
    budget = FIXED + 20 * 10**6  # the image has 7,500 pixels
    assert ready(memory=budget).options.tile is None
    longer = ready(memory=budget, history=100)
    assert longer.options.tile is not None
    assert longer.options.history == 100
    with pytest.raises(OptionError, match=r"SciPy's L-BFGS-B takes .* leave --optimiser out"):
        ready(memory=budget, history=100, optimiser="scipy")
