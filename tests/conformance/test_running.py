"""A run of the conformance kit: what passes, what fails, what is said; and whatever adapters do."""

import contextlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from gramstyle.cli import main
from gramstyle.conformance import Case, cases
from gramstyle.conformance import test_conformance as kit
from gramstyle.conformance.adapters import numpy_plain
from gramstyle.conformance.real_network import real_case
from gramstyle.conformance.reporting import as_json, as_junit, notes, summary, table
from gramstyle.conformance.running import Report, Result, check, run
from gramstyle.core.arrays import Array
from gramstyle.errors import ImageError, OptionError
from gramstyle.model import Model

right = numpy_plain.value_and_grad

CASES = {case.name: case for case in cases()}
SMALL = CASES["avg-pooling"]  # conv1_1, pool1, conv2_1
DEEP = CASES["objective"]
SWEEP = ["conv2_1", "pool1", "conv1_1"]

# Everything below U+00A0 that is no sign, a line separator, what XML forbids, and half a character.
CONTROLS = "".join(map(chr, (*range(32), *range(127, 160), 0x2028, 0xFFFE, 0xFFFF, 0xD800)))


def changed(**parts: Any) -> Callable[[Array, Case], tuple[Any, Any, Any]]:
    """The right answer with some parts put through functions: loss, gradient, dF."""

    def adapter(image: Array, case: Case) -> tuple[Any, Any, Any]:
        answer = dict(zip(("loss", "gradient", "dF"), right(image, case), strict=True))
        answer |= {name: change(answer[name]) for name, change in parts.items()}
        return answer["loss"], answer["gradient"], answer["dF"]

    return adapter


def raising(error: BaseException) -> Callable[[Array, Case], Any]:
    def adapter(image: Array, case: Case) -> Any:
        raise error

    return adapter


def returning(value: Any) -> Callable[[Array, Case], Any]:
    return lambda _image, _case: value


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class Unreadable:
    def __array__(self, *_: Any, **__: Any) -> Array:
        raise ValueError("still on the\ndevice")


def with_nan(array: Array) -> Array:
    array[0, 0, 0] = np.nan
    return array


def only(report: Report) -> Result:
    (result,) = report.results
    return result


# What passes


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_readable_engine_passes_every_case_in_float64(case: Case) -> None:
    result = check(right, case, dtype="float64")
    assert result.passed
    assert [each.quantity for each in result.comparisons] == [
        "loss",
        "gradient",
        *(f"dF of {name}" for name in reversed(case.network.names)),
    ]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_an_adapter_gets_the_image_in_the_float_type_asked_for(dtype: str) -> None:
    seen = []

    def adapter(image: Array, case: Case) -> Any:
        seen.append((image.dtype.name, np.array_equal(image, case.x)))
        return right(image, case)

    assert not run(adapter, [SMALL], dtype=dtype).failed
    assert seen == [(dtype, True)]


def test_another_float_type_is_refused() -> None:
    with pytest.raises(OptionError, match="float64, float32, float16, not 'int8'"):
        check(right, SMALL, dtype="int8")


def test_dF_may_be_left_out_and_is_then_not_compared() -> None:
    result = check(changed(dF=lambda dF: {"pool1": dF["pool1"]}), SMALL, dtype="float64")
    assert result.passed
    assert [each.quantity for each in result.comparisons] == ["loss", "gradient", "dF of pool1"]


def test_what_float16_cannot_hold_is_not_asked_for_in_float16() -> None:
    gradient = np.where(SMALL.truth.gradient > 0, 1e5, 0.0)
    case = replace(SMALL)
    vars(case)["truth"] = replace(SMALL.truth, gradient=gradient)
    for dtype, there in (("float16", False), ("float32", True)):
        quantities = [each.quantity for each in check(right, case, dtype=dtype).comparisons]
        assert ("gradient" in quantities) is there
        assert "dF of conv1_1" in quantities


# Whatever an adapter does


@pytest.mark.parametrize(
    ("adapter", "sentence"),
    [
        (raising(ValueError("no such\nlayer")), r"raised ValueError: no such\nlayer"),
        (raising(UnspeakableError()), "raised UnspeakableError"),
        (raising(SystemExit(3)), "raised SystemExit: 3"),
        (raising(GeneratorExit()), "raised GeneratorExit"),
        (returning(None), "returned a NoneType; expected loss, gradient, {layer: dF}"),
        (returning((1.0, 2.0)), "returned 2 things; expected loss, gradient, {layer: dF}"),
        (changed(dF=lambda dF: list(dF)), "returned a list in the place of dF"),
        (changed(dF=lambda _: {"conv9_\x1b9": 0.0}), r"returned dF of 'conv9_\x1b9'; expected"),
        (changed(loss=lambda loss: [loss]), "the loss has the shape (1,); expected ()"),
        (changed(loss=lambda _: 3), "the loss is of dtype int64; expected floats"),
        (changed(loss=lambda _: "3.5"), "the loss is of dtype <U3; expected floats"),
        (
            changed(gradient=lambda g: g[None]),
            "the gradient has the shape (1, 3, 8, 10); expected (3, 8, 10)",
        ),
        (changed(gradient=lambda g: g + 0j), "the gradient is of dtype complex128"),
        (changed(gradient=lambda g: g.astype(object)), "the gradient is of dtype object"),
        (changed(gradient=lambda g: g.astype(int)), "the gradient is of dtype int64"),
        (changed(gradient=lambda _: [[1.0], [2.0, 3.0]]), "the gradient is no array: ValueError"),
        (
            changed(gradient=lambda _: Unreadable()),
            r"the gradient is no array: ValueError: still on the\ndevice",
        ),
        (
            changed(dF=lambda dF: dF | {"pool1": dF["conv1_1"]}),
            "dF of pool1 has the shape (4, 8, 10); expected (4, 4, 5)",
        ),
    ],
)
def test_an_answer_that_cannot_be_compared_fails_its_case_in_one_sentence_and_the_run_goes_on(
    adapter: Callable[[Array, Case], Any], sentence: str
) -> None:
    def once(image: Array, case: Case) -> Any:
        return adapter(image, case) if case.name == SMALL.name else right(image, case)

    failed, passed = run(once, [SMALL, CASES["max-pooling"]], dtype="float64").results
    assert failed.problem.startswith(sentence)
    assert failed.problem.isprintable()
    assert not failed.passed
    assert failed.comparisons == ()
    assert passed.passed


def test_ctrl_c_ends_the_run() -> None:
    with pytest.raises(KeyboardInterrupt):
        run(raising(KeyboardInterrupt()), [SMALL], dtype="float64")


@pytest.mark.parametrize(
    ("name", "mutate"),
    [
        ("the image", lambda image, _: image.fill(0)),
        ("the case's x", lambda _, case: case.x.fill(0)),
        ("the weights of conv2_1", lambda _, case: case.network.layers[2].W.sort()),
        ("the biases of conv1_1", lambda _, case: case.network.layers[0].b.fill(1)),
        ("P", lambda _, case: np.negative(case.objective.content.P, case.objective.content.P)),
        ("A of conv1_1", lambda _, case: case.objective.style["conv1_1"].A.fill(2)),
        ("A of conv1_1", lambda _, case: case.objective.style.clear()),
        ("the weights of the loss", lambda _, case: case.objective.weights.w.clear()),
        ("the case", lambda _, case: object.__delattr__(case, "objective")),
        ("the case's x", lambda _, case: object.__setattr__(case, "x", None)),
    ],
)
def test_an_adapter_that_changes_what_it_is_given_fails_and_harms_nothing(
    name: str, mutate: Callable[[Array, Case], None]
) -> None:
    case = CASES["style-weights" if "loss" in name or "A of" in name else "avg-pooling"]

    def adapter(image: Array, case: Case) -> Any:
        answer = right(image, case)
        mutate(image, case)
        return answer

    result = check(adapter, case, dtype="float64")
    assert result.problem == f"changed what it was given: {name}"
    assert check(right, case, dtype="float64").passed


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_fail(value: float) -> None:
    for adapter, quantity in (
        (changed(loss=lambda _: value), "loss"),
        (changed(gradient=lambda g: g * value), "gradient"),
        (changed(dF=lambda dF: dF | {"pool1": dF["pool1"] * value}), "dF of pool1"),
    ):
        result = check(adapter, SMALL, dtype="float64")
        wrong = [each for each in result.comparisons if not each.passed]
        assert [(each.quantity, each.problem) for each in wrong] == [(quantity, "not finite")]
        assert result.worst == wrong[0]


# What is said of a failure


@pytest.mark.parametrize("wrong", [SWEEP, SWEEP[1:], SWEEP[2:]], ids=lambda names: names[0])
def test_the_deepest_layer_that_deviates_is_named(wrong: list[str]) -> None:
    def spoilt(dF: dict[str, Array]) -> dict[str, Array]:
        return dF | {name: dF[name] * 1.5 for name in wrong}

    result = check(changed(dF=spoilt, gradient=lambda g: g * 1.5), SMALL, dtype="float64")
    assert result.where == f"first in the pass to deviate: dF of {wrong[0]}"


@pytest.mark.parametrize(
    ("adapter", "sentence"),
    [
        (changed(loss=lambda loss: 2 * loss), "the loss deviates, every gradient is right"),
        (
            changed(gradient=lambda g: g[::-1]),
            "dF of conv1_1 is right: the pass goes wrong between there and the pixels",
        ),
        (
            changed(gradient=lambda g: g[::-1], dF=lambda _: {}),
            "no dF was given: nothing tells where the pass goes wrong",
        ),
        (right, ""),
    ],
)
def test_what_deviates_is_said_where_no_layer_does(
    adapter: Callable[[Array, Case], Any], sentence: str
) -> None:
    assert check(adapter, SMALL, dtype="float64").where == sentence


def test_a_known_mistake_is_named_for_its_case_and_for_all_cases_together() -> None:
    def halved(image: Array, case: Case) -> Any:
        loss, gradient, dF = right(image, case)
        return 2 * loss, 2 * gradient, {name: 2 * d for name, d in dF.items()}

    report = run(halved, [CASES["content-half"], CASES["convolution"]], dtype="float64")
    assert all("content loss without ½" in result.explanation for result in report.results)
    assert "2 of 2 cases that failed" in report.explanation
    assert "content loss without ½" in report.explanation


def test_no_explanation_is_looked_for_where_it_would_take_minutes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    doubled = changed(gradient=lambda g: 2 * g)
    pair = [SMALL, CASES["convolution"]]
    monkeypatch.setattr("gramstyle.conformance.running.EXPLAINED", 1)
    report = run(doubled, pair, dtype="float64")
    assert len(report.failed) == 2
    assert {report.explanation, *(result.explanation for result in report.results)} == {""}


def test_a_case_that_fails_for_want_of_an_answer_has_no_explanation() -> None:
    result = check(returning(()), SMALL, dtype="float64")
    assert (result.explanation, result.where, result.worst) == ("", "", None)


# The report


@pytest.fixture(scope="module")
def mixed() -> Report:
    """A case that passed, one whose gradient is wrong, one with NaN, one that raised."""

    def adapter(image: Array, case: Case) -> Any:
        doubled = changed(gradient=lambda g: 2 * g)
        return {
            "convolution": right,
            "avg-pooling": doubled,
            "relu": changed(loss=lambda _: math.nan),
            "max-pooling": raising(ValueError(CONTROLS)),
        }[case.name](image, case)

    names = ("convolution", "avg-pooling", "relu", "max-pooling")
    return run(adapter, [CASES[name] for name in names], dtype="float64")


def test_the_table_has_a_line_for_a_case_that_passed_and_all_of_one_that_failed(
    mixed: Report,
) -> None:
    header, *lines = table(mixed).splitlines()
    assert header.split()[:2] == ["case", "quantity"]
    of = {name: [line for line in lines if line.startswith(f"{name} ")] for name in CASES}
    assert len(of["convolution"]) == 1
    assert of["convolution"][0].endswith("passed")
    assert len(of["avg-pooling"]) == 5
    gradient = next(line for line in of["avg-pooling"] if "gradient" in line)
    # A doubled gradient is off by the truth itself.
    largest = np.abs(CASES["avg-pooling"].truth.gradient).max()
    assert gradient.split()[-5:] == [
        "1.0e+00",
        f"{largest:.1e}",
        "1.000000",
        gradient.split()[-2],
        "FAILED",
    ]
    assert [line.endswith("passed") for line in of["avg-pooling"]].count(True) == 4
    assert of["relu"][0].endswith("FAILED: not finite")
    assert of["max-pooling"][0].split() == ["max-pooling", "FAILED"]
    assert len(lines) == sum(map(len, of.values()))
    assert summary(mixed) == "1 of 4 cases passed, 3 failed (float64)"


def test_the_line_of_a_case_that_passed_shows_its_worst_quantity() -> None:
    adapter = changed(dF=lambda dF: dF | {"pool1": dF["pool1"] * (1 + 1e-11)})
    report = run(adapter, [SMALL], dtype="float64")
    assert table(report).splitlines()[1].split()[:5] == [
        "avg-pooling", "dF", "of", "pool1", "1.0e-11",
    ]  # fmt: skip


def test_each_failed_case_has_a_note_with_what_it_pins_and_what_was_found(mixed: Report) -> None:
    pooled, relu, raised = notes(mixed)
    assert pooled.startswith("avg-pooling: avg pooling of 2×2 with stride 2\n")
    assert "dF of conv1_1 is right" in pooled
    assert relu.splitlines() == [
        "relu: nothing passes where the ReLU is closed",
        "  the loss deviates, every gradient is right",
    ]
    assert raised.splitlines()[1].startswith(r"  raised ValueError: \x00\x01")
    assert len(raised.splitlines()) == 2


def test_json_holds_the_whole_report_and_null_for_what_is_not_finite(mixed: Report) -> None:
    def refuse(token: str) -> None:
        raise AssertionError(token)

    data = as_json(mixed, adapter="mine:f")
    document = json.loads(data.decode("utf-8"), parse_constant=refuse)
    assert {k: document[k] for k in ("format", "adapter", "dtype", "passed")} == {
        "format": 1, "adapter": "mine:f", "dtype": "float64", "passed": False,
    }  # fmt: skip
    assert [case["passed"] for case in document["cases"]] == [True, False, False, False]
    for case, result in zip(document["cases"], mixed.results, strict=True):
        assert case["problem"] == result.problem
        assert [each["quantity"] for each in case["comparisons"]] == [
            each.quantity for each in result.comparisons
        ]
    loss = document["cases"][2]["comparisons"][0]
    assert (loss["relative"], loss["passed"], loss["problem"]) == (None, False, "not finite")
    gradient = document["cases"][1]["comparisons"][1]
    assert gradient["relative"] == pytest.approx(1.0, abs=1e-12)
    assert gradient["tolerance"] == 1e-10


def test_junit_is_well_formed_whatever_a_message_holds_and_counts_right(mixed: Report) -> None:
    names = replace(mixed.results[3], case=f"<&\"'>{CONTROLS}")
    odd = replace(mixed, results=(*mixed.results[:3], names))
    suite = ElementTree.fromstring(as_junit(odd, adapter="mine:f"))[0]  # noqa: S314 - our own
    assert (suite.get("tests"), suite.get("failures")) == ("4", "3")
    assert [len(case.findall("failure")) for case in suite] == [0, 1, 1, 1]
    failure = suite[1].find("failure")
    assert failure is not None
    assert failure.text is not None
    assert "avg-pooling  gradient" in failure.text
    assert suite[3].get("name", "").startswith("<&\"'>")


# The real network


@pytest.mark.parametrize("size", [32, 37])
def test_the_case_of_a_model_file_is_a_transfer_s_objective(tiny_model: Model, size: int) -> None:
    case = real_case(tiny_model, size)
    assert case.objective.weights.alpha == 50 / size**2
    assert tuple(case.objective.style) == ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
    assert case.network.names[-1] == "conv5_1"
    assert case.truth.loss > 0
    assert check(right, case, dtype="float64").passed


def test_the_case_of_a_model_file_refuses_sizes_that_cannot_be(tiny_model: Model) -> None:
    for size in (0, 15, 513):
        with pytest.raises(OptionError, match=f"16 to 512 for the real network, not {size}"):
            real_case(tiny_model, size)
    with contextlib.suppress(ImageError):
        real_case(tiny_model, 16)


# The command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a module of adapters; it is imported under a name of its own."""
    (tmp_path / "mine_to_test.py").write_text(
        "from gramstyle.conformance.adapters.numpy_plain import value_and_grad as right\n"
        "def wrong(image, case):\n"
        "    loss, gradient, dF = right(image, case)\n"
        "    return loss, 2 * gradient, dF\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mine_to_test", raising=False)
    return tmp_path


def conformance(*arguments: str, case: str = "convolution,relu") -> int:
    return main(["conformance", "run", "--case", case, *arguments])


def test_the_command_prints_the_report_and_exits_with_0_or_1(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert conformance("--against", "numpy_plain") == 0
    output, error = capsys.readouterr()
    assert output.splitlines()[-1] == "2 of 2 cases passed, 0 failed (float64)"
    assert f"numpy_plain {np.__version__} on cpu" in output
    assert error == ""
    assert conformance("--against", "mine_to_test:wrong") == 1
    output, _ = capsys.readouterr()
    assert output.splitlines()[-1] == "0 of 2 cases passed, 2 failed (float64)"
    assert "gradient 2 times the truth" in output
    assert "2 of 2 cases that failed: " in output


def test_cases_come_in_the_catalogue_s_order_and_each_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert conformance("--against", "mine_to_test:right", case="relu,convolution,relu") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["convolution", "relu"]


def test_the_command_writes_json_and_junit(folder: Path) -> None:
    assert (
        conformance("--against", "mine_to_test:wrong", "--json", "r.json", "--junit", "r.xml") == 1
    )
    document = json.loads((folder / "r.json").read_text("utf-8"))
    assert document["adapter"] == "mine_to_test:wrong"
    assert [case["case"] for case in document["cases"]] == ["convolution", "relu"]
    root = ElementTree.parse(folder / "r.xml").getroot()  # noqa: S314 - our own
    assert root[0].get("failures") == "2"


def test_float32_is_what_the_fast_engines_compute_in_unasked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert conformance("--against", "numpy_strips") == 0
    assert "(float32)" in capsys.readouterr().out


def test_the_command_takes_cases_from_files(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["conformance", "build", "set"]) == 0
    capsys.readouterr()
    assert conformance("--against", "numpy_plain", "--set", "set") == 0
    assert "2 of 2 cases passed" in capsys.readouterr().out


def test_the_command_adds_the_real_network(
    folder: Path, tiny_model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = ("--real-model", "--model", str(tiny_model_path), "--size", "32")
    assert conformance("--against", "onnxruntime", *real, case="real-model") == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("real-model ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--against", "keras"), ("'keras'", "numpy_plain", "module:function")),
        (("--against", "no_such_module:f"), ("'no_such_module'", "ModuleNotFoundError")),
        (("--against", "mine_to_test:absent"), ("'mine_to_test'", "'absent'", "value_and_grad")),
        (("--against", "mine_to_test:right", "--device", "cuda"), ("--device",)),
        (("--against", "numpy_plain", "--device", "cuda"), ("CPU", "--device")),
        (("--against", "numpy_strips", "--dtype", "float64"), ("float32", "--dtype")),
        (("--against", "numpy_plain", "--case", "rely"), ("'rely'", "relu-at-zero")),
        (("--against", "numpy_plain", "--case", ","), ("--case",)),
        (("--against", "numpy_plain", "--size", "32"), ("--real-model",)),
        (("--against", "numpy_plain", "--model", "m.onnx"), ("--real-model",)),
        (("--against", "numpy_plain", "--real-model", "--model", "m.onnx"), ("m.onnx",)),
        (("--against", "numpy_plain", "--set", "nowhere"), ("nowhere",)),
        (("--against", "numpy_plain", "--json", "nowhere/r.json"), ("nowhere", "folder")),
        (("--against", "numpy_plain", "--junit", "."), ("cannot write",)),
        (("--against", "numpy_plain", "--json", "r", "--junit", "r"), ("twice",)),
    ],
)
def test_what_cannot_be_used_is_one_line_and_exit_code_2(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    assert conformance(*arguments) == 2
    output, error = capsys.readouterr()
    assert output == ""
    assert error.startswith("gramstyle: error: ")
    assert error.count("\n") == 1
    for word in words:
        assert word in error
    assert {path.name for path in folder.iterdir()} <= {"mine_to_test.py", "__pycache__"}


# The plugin


def test_the_kit_runs_as_tests_with_expected_failures_and_skips(folder: Path) -> None:
    """In a process of its own, in a folder of nothing but a module, as at a stranger's."""
    (folder / "xfails.txt").write_text(
        "# shares\ntest_conformance.py::test_case[convolution]  # a comment\n\n"
    )
    (folder / "skips.txt").write_text("relu\n")
    variables = {"ADAPTER": "mine_to_test:wrong", "XFAILS": "xfails.txt", "SKIPS": "skips.txt"}
    names = {f"GRAMSTYLE_CONFORMANCE_{name}": value for name, value in variables.items()}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--pyargs", "gramstyle.conformance"),
            *("-p", "no:cacheprovider", "-k", "convolution or relu"),
        ],
        cwd=folder,
        env={**os.environ, **names},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    # convolution, relu; convolution-narrow, relu-at-zero, content-behind-the-relu
    assert "3 failed, 1 skipped" in done.stdout
    assert "1 xfailed" in done.stdout
    assert "gradient 2 times the truth" in done.stdout
    assert "convolution-narrow  gradient" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "GRAMSTYLE_CONFORMANCE_ADAPTER=module:function"),
        ({"ADAPTER": "mine_to_test:absent"}, "'absent'"),
        ({"ADAPTER": "mine_to_test:right", "DTYPE": "int8"}, "not 'int8'"),
        ({"ADAPTER": "mine_to_test:right", "SKIPS": "s.txt"}, "s.txt names 'avg-pool'"),
        ({"ADAPTER": "mine_to_test:right", "XFAILS": "x.txt"}, "x.txt"),
    ],
)
def test_the_kit_s_tests_do_not_pass_where_there_is_nothing_to_test(
    folder: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: str
) -> None:
    (folder / "s.txt").write_text("avg-pool\n")
    for name, value in variables.items():
        monkeypatch.setenv(f"GRAMSTYLE_CONFORMANCE_{name}", value)
    with pytest.raises(pytest.Collector.CollectError, match=words):
        kit.pytest_generate_tests(None)
