"""Random cases: what is drawn, and what happens when one fails."""

import gc
import json
import shlex
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from conformance_cases import CASES, changed, raising, right
from gramstyle.cli import main
from gramstyle.conformance import Case
from gramstyle.conformance.adapters.numpy_plain import every_derivative
from gramstyle.conformance.building import case_of, images_of
from gramstyle.conformance.drawing import run_random
from gramstyle.conformance.exact.hashed import Numbers
from gramstyle.conformance.files import read_cases, write_cases
from gramstyle.conformance.posed import distance_from_kinks, is_well_posed, remainder_of_sums
from gramstyle.conformance.running import check
from gramstyle.conformance.strategies import cases
from gramstyle.core.arrays import Array
from gramstyle.core.network import Network
from gramstyle.system.installing import install_command
from gramstyle.system.signals import stop_signals

SLOW = settings(suppress_health_check=[HealthCheck.too_slow])

ADAPTERS = """\
from gramstyle.conformance.adapters.numpy_plain import value_and_grad as right


def wrong_at_max(image, case):
    loss, gradient, dF = right(image, case)
    wrong = any(getattr(layer, "kind", "") == "max" for layer in case.layers)
    return loss, gradient * (2 if wrong else 1), dF
"""


def drawn_cases(seed: int, count: int, adapter: Callable[..., Any] = right) -> list[Case]:
    """Return the cases that an adapter gets."""
    got = []

    def seen(image: Array, case: Case) -> Any:
        got.append(case)
        return adapter(image, case)

    assert run_random(seen, count=count, seed=seed).passed == count
    return got


def numbers_of(case: Case) -> tuple[bytes, ...]:
    weights = [layer.W.tobytes() for layer in case.layers if hasattr(layer, "W")]
    return case.x.tobytes(), case.truth.gradient.tobytes(), *weights


# What is drawn


@settings(SLOW, max_examples=12)
@given(cases())
def test_a_drawn_case_has_the_gradient_of_its_loss(case: Case) -> None:
    """By central differences of steps that cross no kink: F is affine where no choice changes."""
    step, tx = 1e-5 * np.abs(case.x).max(), case.direction
    objective = replace(case.objective, forward=None)
    ahead, behind = (objective.loss_and_gradient(case.x + h * tx).loss for h in (step, -step))
    slope = np.vdot(case.truth.gradient, tx)
    scale = np.linalg.norm(case.truth.gradient) * np.linalg.norm(tx) + case.truth.loss * 1e-9 / step
    assert abs((ahead - behind) / (2 * step) - slope) <= 1e-3 * scale


@settings(SLOW, max_examples=12)
@given(cases())
def test_a_drawn_case_is_the_same_after_it_was_written_and_read(
    tmp_path_factory: pytest.TempPathFactory, case: Case
) -> None:
    folder = tmp_path_factory.mktemp("drawn") / "set"
    write_cases(folder, [case])
    (again,) = read_cases(folder)
    assert numbers_of(again) == numbers_of(case)
    assert check(every_derivative, again, dtype="float64").passed


def test_every_kind_of_case_is_drawn() -> None:
    found: Counter[str] = Counter()
    for case in drawn_cases(seed=1, count=100):
        found[case.padding] += 1
        found[case.preprocessing.channels] += 1
        found["one pixel wide"] += 1 in case.x.shape[1:]
        found["content"] += case.content is not None
        found["gram"] += bool(case.style)
        found["regions"] += bool(case.regions)
        found["total variation"] += case.tv > 0
        found["author"] += case.convention.style_factor == 4
        found.update({each.statistic for each in case.statistics.values()})
        found.update({getattr(layer, "kind", "convolution") for layer in case.layers})
    expected = {
        "zeros", "replicate", "reflect", "circular", "RGB", "BGR", "one pixel wide", "content",
        "gram", "regions", "total variation", "author", "mean-std", "covariance", "convolution",
        "max", "avg",
    }  # fmt: skip
    assert set(+found) == expected


def test_a_seed_gives_the_same_cases_whatever_is_tested() -> None:
    first, again = drawn_cases(3, 12), drawn_cases(3, 12, adapter=every_derivative)
    assert [numbers_of(case) for case in first] == [numbers_of(case) for case in again]
    other = drawn_cases(4, 12)
    assert [numbers_of(case) for case in first] != [numbers_of(case) for case in other]


def test_kinks_are_not_well_posed() -> None:
    """The catalogue has one case of each kink."""
    for name in ("relu-at-zero", "max-pooling-ties"):
        assert distance_from_kinks(CASES[name]) == 0
        assert not is_well_posed(CASES[name], "float64")
    assert is_well_posed(CASES["max-pooling"], "float64")


def test_a_difference_of_nearly_equal_numbers_is_not_well_posed() -> None:
    case = CASES["content-half"]
    assert is_well_posed(case, "float64")
    P = case.responses["conv2_1"] * (1 + 1e-15)
    terms = tuple(term.compared_with(P, 0) for term in case.objective.terms)
    near = replace(case, objective=replace(case.objective, terms=terms))
    assert not is_well_posed(near, "float64")


def test_a_variance_far_below_the_square_of_the_mean_is_not_well_posed() -> None:
    """Their difference keeps few digits: 1e-16 · (mean / deviation)² relative to the variance."""
    for name in ("style-mean-std", "style-covariance"):
        case = CASES[name]
        assert is_well_posed(case, "float64")
        layers = tuple(
            replace(layer, b=layer.b + 1e4) if hasattr(layer, "b") else layer
            for layer in case.objective.network.layers
        )
        far = replace(
            case, objective=replace(case.objective, network=Network(layers), forward=None)
        )
        assert not is_well_posed(far, "float64")


def test_a_derivative_by_biases_that_is_0_is_not_well_posed() -> None:
    """Covariances do not change with the biases where every ReLU is open."""
    numbers = Numbers("open")
    layers = [numbers.convolution("conv1_1", 3, 1, bias=64.0)]
    images = images_of(numbers, (6, 7), (6, 7), -8, 8)
    case = case_of("open", "", layers, images, style=("conv1_1",), style_loss="covariance")
    assert (case.responses["conv1_1"] > 0).all()
    assert remainder_of_sums(case) < 1e-9
    assert not is_well_posed(case, "float64")


# Running them


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_correct_implementation_passes(dtype: str) -> None:
    drawn = run_random(every_derivative, count=40, seed=5, dtype=dtype)
    assert (drawn.passed, drawn.smallest) == (40, None)
    (deviating,) = drawn.report.results
    assert deviating.passed


def test_a_mistake_is_found_and_the_case_shrunk() -> None:
    """Wrong only for covariances in networks with max pooling: two layers are enough."""

    def adapter(image: Array, case: Case) -> Any:
        loss, gradient, dF = right(image, case)
        kinds = [getattr(layer, "kind", "") for layer in case.layers]
        statistics = {each.statistic for each in case.statistics.values()}
        return loss, gradient + ("max" in kinds and "covariance" in statistics), dF

    drawn = run_random(adapter, count=500, seed=0)
    assert drawn.smallest is not None
    assert len(drawn.smallest.layers) == 2
    assert max(drawn.smallest.x.shape[1:]) <= 4
    (result,) = drawn.report.results
    assert not result.passed


def test_an_adapter_that_raises_is_shrunk_too() -> None:
    drawn = run_random(raising(ZeroDivisionError("no")), count=50, seed=0)
    assert drawn.passed == 0
    assert drawn.smallest is not None
    assert len(drawn.smallest.layers) == 1
    assert "ZeroDivisionError" in drawn.report.results[0].problem


def test_an_adapter_that_fails_only_once_is_reported() -> None:
    calls = Counter[str]()

    def adapter(image: Array, case: Case) -> Any:
        calls["all"] += 1
        loss, gradient, dF = right(image, case)
        return loss + (calls["all"] == 10), gradient, dF

    drawn = run_random(adapter, count=50, seed=0)
    assert drawn.passed == 9
    assert "passes when it is repeated" in drawn.report.results[0].problem


def test_a_mistake_that_needs_two_positions_explains_nothing_where_there_is_one() -> None:
    case = CASES["style-covariance"]
    images = {"x": case.x[:, :2, :2], "a": case.a}
    style = {"style": ("conv2_1",), "style_loss": "covariance"}
    tiny = case_of("tiny", "one position at conv2_1", case.layers, images, **style)
    result = check(changed(loss=lambda loss: 2 * loss), tiny, dtype="float64")
    assert not result.passed
    assert "M − 1" not in result.explanation


def test_shrinking_ends_when_its_time_is_over() -> None:
    drawn = run_random(raising(ValueError()), count=50, seed=0, seconds=0)
    assert drawn.smallest is not None
    assert drawn.shrunk_from == 1


# The command


def test_a_signal_during_a_garbage_collection_ends_the_drawing() -> None:
    # An exception in a callback of the garbage collector, such as Hypothesis's, is lost.
    calls, struck = [], []

    def strike(_phase: str, _info: dict[str, int]) -> None:
        if calls and not struck:
            struck.append(True)
            signal.raise_signal(signal.SIGINT)

    def adapter(image: Array, case: Case) -> Any:
        calls.append(case.name)
        for _ in range(50_000):  # enough for an automatic collection
            cycle: list[Any] = []
            cycle.append(cycle)
        return right(image, case)

    # A shell that starts the tests in the background lets them ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.callbacks.append(strike)
    try:
        with stop_signals(until_exit=False), pytest.raises(KeyboardInterrupt):
            run_random(adapter, count=1_000_000)
    finally:
        gc.callbacks.remove(strike)
        signal.signal(signal.SIGINT, before)
    assert struck
    assert len(calls) < 1_000_000


def random(*arguments: str) -> int:
    return main(["conformance", "run", *arguments])


def test_the_command_saves_the_smallest_case_which_fails_again(
    working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (working_directory / "mine_to_test.py").write_text(ADAPTERS)
    subject = ("--against", "mine_to_test:wrong_at_max")
    assert random(*subject, "--random", "200", "--seed", "3", "--json", "r.json") == 1
    lines = capsys.readouterr().out.splitlines()
    again = next(line for line in lines if line.startswith("gramstyle conformance run --set"))
    assert "of 200 failed (float64, seed 3)" in lines[-1]
    document = json.loads(Path("r.json").read_text("utf-8"))["random"]
    assert (document["asked"], document["seed"], document["saved"]) == (200, 3, "random-failure")
    assert {path.name for path in working_directory.iterdir()} <= {
        "mine_to_test.py", "__pycache__", "r.json", "random-failure",
    }  # fmt: skip
    assert main(shlex.split(again)[1:]) == 1
    output = capsys.readouterr().out
    assert "0 of 1 cases passed, 1 failed" in output
    assert "gradient 2 times the truth" in output
    assert random("--against", "numpy_plain", "--set", "random-failure") == 0


def test_the_command_reports_how_many_passed_and_the_largest_deviation(
    working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert random("--against", "numpy_strips", "--random", "20", "--save", "failed") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("random case ")
    assert lines[-1] == "20 of 20 random cases passed, 0 failed (float32, seed 0)"
    assert not Path("failed").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--random", "0"), ("--random", "1 to")),
        (("--random", "5", "--seed", "-1"), ("--seed",)),
        (("--random", "5", "--dtype", "float16"), ("float16", "--dtype")),
        (("--random", "5", "--case", "relu"), ("--random", "--case")),
        (("--random", "5", "--set", "vectors"), ("--random", "--set")),
        (("--random", "5", "--time"), ("--time",)),
        (("--seed", "5"), ("--seed", "--random")),
        (("--save", "there"), ("--save", "--random")),
        (("--random", "5", "--save", "."), ("mine_to_test.py", "empty folder")),
    ],
)
def test_options_that_do_not_fit_are_one_line_and_exit_code_2(
    working_directory: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    assert random("--against", "numpy_plain", *arguments) == 2
    output, error = capsys.readouterr()
    assert output == ""
    assert error.count("\n") == 1
    for word in words:
        assert word in error


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder refuses root")
def test_a_folder_that_cannot_be_written_is_refused_before_any_case(
    working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A correct adapter: nothing would be written after the run.
    assert random("--against", "numpy_plain", "--random", "5", "--save", "/proc/failed") == 2
    output, error = capsys.readouterr()
    assert output == ""
    assert error.startswith("gramstyle: error: cannot write /proc/failed: ")
    assert error.endswith("; choose another folder\n")


def test_without_hypothesis_one_line_says_how_to_install_it(
    working_directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("drawing", "strategies"):
        monkeypatch.delitem(sys.modules, f"gramstyle.conformance.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    assert random("--against", "numpy_plain", "--random", "5") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--random needs Hypothesis (" in line
    assert line.endswith(f"install it with: {install_command('random')}")
