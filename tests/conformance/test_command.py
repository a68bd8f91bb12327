"""The conformance kit for users: the command, the pytest tests, and docs/conformance.md."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from conformance_cases import CASES
from conformance_programs import write_program
from conformance_sets import contents
from documented import text_of
from gramstyle.cli import main
from gramstyle.conformance import Case
from gramstyle.conformance import test_conformance as kit
from gramstyle.conformance.adapters import load
from gramstyle.conformance.files import VERSION, write_cases
from gramstyle.conformance.running import check

PAGE = text_of("docs/conformance.md")


# The command


def conformance(*arguments: str, case: str = "convolution,relu") -> int:
    return main(["conformance", "run", "--case", case, *arguments])


def test_the_command_prints_the_report_and_exits_with_0_or_1(
    working_directory: Path, capsys: pytest.CaptureFixture[str]
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
    assert "2 of 2 failed cases: " in output


def test_cases_run_once_each_in_the_order_of_the_catalogue(
    working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert conformance("--against", "mine_to_test:right", case="relu,convolution,relu") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["convolution", "relu"]


def test_the_command_writes_json_and_junit(working_directory: Path) -> None:
    assert (
        conformance("--against", "mine_to_test:wrong", "--json", "r.json", "--junit", "r.xml") == 1
    )
    document = json.loads((working_directory / "r.json").read_text("utf-8"))
    assert document["adapter"] == "mine_to_test:wrong"
    assert [case["case"] for case in document["cases"]] == ["convolution", "relu"]
    root = ElementTree.parse(working_directory / "r.xml").getroot()  # noqa: S314 - our own
    assert root[0].get("failures") == "2"


def test_the_command_tests_a_program_in_the_first_float_type_that_it_offers(
    working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = write_program(working_directory, "answer(loss=1e9)")
    arguments = ("--command", command, "--json", "r.json", "--timeout", "60")
    assert main(["conformance", "run", "--case", "convolution,relu", *arguments]) == 1
    output, error = capsys.readouterr()
    assert output.splitlines()[-1] == "1 of 2 cases passed, 1 failed (float32)"
    assert f"tiny 2.1 ({command}), gramstyle" in output
    assert error == ""
    document = json.loads((working_directory / "r.json").read_text("utf-8"))
    assert document["adapter"] == command
    assert main(["conformance", "run", "--command", command, "--dtype", "float64"]) == 2
    assert "computes in float32; leave --dtype out" in capsys.readouterr().err


def test_the_command_writes_a_page_and_rates(
    working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--against", "mine_to_test:wrong", "--html", "r.html", "--json", "r.json", "--time")
    assert conformance(*given, case="relu") == 1
    assert "evaluations/s" in capsys.readouterr().out
    page = (working_directory / "r.html").read_text("utf-8")
    assert "mine_to_test:wrong on cpu, gramstyle" in page
    (case,) = json.loads((working_directory / "r.json").read_text("utf-8"))["cases"]
    assert case["rate"] > 0


def test_with_a_baseline_only_what_got_worse_fails(
    working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert conformance("--against", "mine_to_test:wrong", "--json", "wrong.json", case="relu") == 1
    assert conformance("--against", "mine_to_test:right", "--json", "right.json", case="relu") == 0
    capsys.readouterr()
    assert conformance("--against", "mine_to_test:wrong", "--baseline", "wrong.json") == 0
    *_, last = capsys.readouterr().out.splitlines()
    assert last == (
        "0 of 2 cases passed, 2 failed (float64); since the baseline 0 worse, 0 better, 1 new"
    )
    assert conformance("--against", "mine_to_test:wrong", "--baseline", "right.json") == 1
    output = capsys.readouterr().out
    assert "worse: relu: passed in the baseline, fails now" in output
    assert "new: convolution: FAILED" in output
    given = ("--baseline", "wrong.json", "--json", "now.json", "--html", "now.html")
    assert conformance("--against", "mine_to_test:right", *given, case="relu") == 0
    assert "better: relu: failed in the baseline, passes now" in capsys.readouterr().out
    document = json.loads((working_directory / "now.json").read_text("utf-8"))
    assert list(document["baseline"]["better"]) == ["relu"]
    assert "failed in the baseline" in (working_directory / "now.html").read_text("utf-8")


def test_the_command_writes_graphs_beside_a_set_or_alone(
    working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["conformance", "build", "--onnx", "graphs"]) == 0
    size = sum(map(len, contents(working_directory / "graphs").values()))
    assert capsys.readouterr().out == f"wrote graphs ({len(CASES)} graphs, {size} bytes)\n"
    for arguments, words in (
        ((), "--onnx DIR"),
        (("one", "--onnx", "./one"), "a folder each"),
        (("one", "--onnx", "one/graphs"), "neither in the other"),
        (("--onnx", "mine_to_test.py"), "is not a folder"),
    ):
        assert main(["conformance", "build", *arguments]) == 2
        assert words in capsys.readouterr().err
    assert not (working_directory / "one").exists()


def test_the_default_float_type_of_a_fast_engine_is_float32(
    working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert conformance("--against", "numpy_strips") == 0
    assert "(float32)" in capsys.readouterr().out


def test_the_command_builds_a_set_and_takes_its_cases(
    working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["conformance", "build", "set"]) == 0
    size = sum(map(len, contents(working_directory / "set").values()))
    line = f"wrote set ({len(CASES)} cases, {size} bytes, version {VERSION})\n"
    assert capsys.readouterr().out == line
    assert conformance("--against", "numpy_plain", "--set", "set") == 0
    assert "2 of 2 cases passed" in capsys.readouterr().out


def test_the_command_adds_the_real_network(
    working_directory: Path, tiny_model_path: Path, capsys: pytest.CaptureFixture[str]
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
        (("--against", "numpy_plain", "--json", "r", "--html", "./r"), ("twice",)),
        (("--against", "numpy_plain", "--json", "r", "--baseline", "r"), ("twice",)),
        (("--against", "numpy_plain", "--html", "nowhere/r.html"), ("nowhere", "folder")),
        (("--against", "numpy_plain", "--baseline", "nowhere.json"), ("baseline", "nowhere.json")),
        (("--against", "numpy_plain", "--json", "r" * 300), ("cannot write", "too long")),
        (("--against", "numpy_plain", "--baseline", "."), ("baseline", "not a file")),
        (("--against", "numpy_plain", "--baseline", "/dev/null"), ("baseline", "not a file")),
        (("--against", "numpy_plain", "--timeout", "5"), ("--timeout", "--command")),
        (("--command", "no-such-program 1"), ("cannot start", "'no-such-program'")),
        (("--command", "'"), ("No closing quotation",)),
        (("--command", sys.executable + " -c 0", "--timeout", "nan"), ("--timeout",)),
        (("--command", sys.executable + " -c 0", "--device", "cuda"), ("--device",)),
    ],
)
def test_an_argument_that_cannot_be_used_is_one_line_and_exit_code_2(
    working_directory: Path,
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
    assert {path.name for path in working_directory.iterdir()} <= {"mine_to_test.py", "__pycache__"}


@pytest.mark.parametrize(
    ("arguments", "report", "words"),
    [
        (("--against", "mine_to_test:right"), "mine_to_test.py", "replace the implementation"),
        (("--command", f"'{sys.executable}' program.py"), "./program.py", "the implementation"),
        (("--against", "numpy_plain", "--set", "cases"), "cases/manifest.json", "of the cases"),
        (("--against", "numpy_plain", "--set", "link"), "cases/relu.npz", "of the cases"),
    ],
)
@pytest.mark.parametrize("option", ["--json", "--junit", "--html"])
def test_a_report_replaces_no_input(
    working_directory: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    report: str,
    words: str,
    option: str,
) -> None:
    (working_directory / "program.py").write_text("raise SystemExit")
    write_cases(Path("cases"), [CASES["relu"]])
    Path("link").symlink_to("cases")
    before = Path(report).read_bytes()
    assert conformance(*arguments, option, report, case="relu") == 2
    output, error = capsys.readouterr()
    assert output == ""
    assert error.count("\n") == 1
    assert words in error
    assert Path(report).read_bytes() == before


def test_a_report_is_not_written_into_the_folder_of_the_random_case(
    working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cases(Path("found"), [CASES["relu"]])
    arguments = ("--random", "1", "--save", "found", "--json", "found/manifest.json")
    before = Path("found/manifest.json").read_bytes()
    assert main(["conformance", "run", "--against", "mine_to_test:wrong", *arguments]) == 2
    assert "in the folder of the cases" in capsys.readouterr().err
    assert Path("found/manifest.json").read_bytes() == before


# The tests for pytest


def kit_run(folder: Path, chosen: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The kit's tests in a new process; `chosen` is pytest's -k."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--pyargs", "gramstyle.conformance"),
            *("-p", "no:cacheprovider", "-k", chosen),
        ],
        cwd=folder,
        env={**os.environ, **{f"GRAMSTYLE_CONFORMANCE_{k}": v for k, v in variables.items()}},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_kit_runs_as_tests_with_expected_failures_and_skips(working_directory: Path) -> None:
    """In a new process and a folder with nothing but a module, as a user would."""
    (working_directory / "xfails.txt").write_text(
        "# shares\ntest_conformance.py::test_case[convolution]  # a comment\n\n"
    )
    (working_directory / "skips.txt").write_text("relu\n")
    variables = {"ADAPTER": "mine_to_test:wrong", "XFAILS": "xfails.txt", "SKIPS": "skips.txt"}
    done = kit_run(working_directory, "convolution or relu", **variables)
    assert done.returncode == 1, done.stdout
    # convolution, relu; convolution-narrow, relu-at-zero, content-behind-the-relu
    assert "3 failed, 1 skipped" in done.stdout
    assert "1 xfailed" in done.stdout
    assert "gradient 2 times the truth" in done.stdout
    assert "convolution-narrow  gradient" in done.stdout
    assert "Traceback" not in done.stdout


ONLY_TWO = "convolution and not narrow or relu and not zero and not behind"


def test_the_kit_s_tests_start_a_program_once_and_end_it(tmp_path: Path) -> None:
    command = write_program(tmp_path, "answer(loss=1.0)")
    program = tmp_path / "program.py"
    lines = program.read_text("utf-8").splitlines()
    diary = "def note(word): print(word, file=open(HERE / 'diary.txt', 'a'))"
    lines.insert(lines.index("for line in sys.stdin:"), f"{diary}\nnote('begins')")
    program.write_text("\n".join([*lines, "note('ends')\n"]), "utf-8")
    done = kit_run(tmp_path, ONLY_TWO, COMMAND=command)
    assert done.returncode == 1, done.stdout
    # The program answers the second case with the truth, in float32, the only type that it has.
    assert "1 failed, 1 passed" in done.stdout
    assert "the loss deviates; every gradient is correct" in done.stdout
    assert (tmp_path / "diary.txt").read_text().split() == ["begins", "ends"]


@pytest.mark.parametrize(
    ("command", "dtype", "words"),
    [
        ("no-such-program-of-anyone", "float32", "'no-such-program-of-anyone'"),
        ("", "float64", "GRAMSTYLE_CONFORMANCE_DTYPE must be float32 for tiny, not 'float64'"),
    ],
)
def test_the_kit_s_tests_end_at_once_if_the_program_cannot_be_used(
    tmp_path: Path, command: str, dtype: str, words: str
) -> None:
    tiny = write_program(tmp_path)
    done = kit_run(tmp_path, ONLY_TWO, COMMAND=command or tiny, DTYPE=dtype)
    assert done.returncode == 2, done.stdout
    assert done.stdout.count(words) == 1
    assert "Traceback" not in done.stdout


SOFTPLUS = """
from gramstyle.conformance.mistakes.families import FAMILIES, Member

(softplus,) = [each for each in FAMILIES if each.name == "softplus with β = …"]


def value_and_grad(image, case):
    found = Member(softplus, 2.5, "").plant(case)
    return found.loss, found.gradient, found.dF
"""


def test_the_kit_s_tests_name_in_large_cases_what_they_fitted_to_small_ones(
    working_directory: Path,
) -> None:
    (working_directory / "softplus.py").write_text(SOFTPLUS, "utf-8")
    # The case objective is too large for a fit.
    chosen = "relu and not zero and not behind or objective and not odd and not max and not author"
    done = kit_run(working_directory, chosen, ADAPTER="softplus:value_and_grad")
    assert "2 failed" in done.stdout
    assert done.stdout.count("matches softplus with β = 2.5 to") == 2


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "GRAMSTYLE_CONFORMANCE_ADAPTER=module:function"),
        ({"ADAPTER": "mine_to_test:right", "COMMAND": "x"}, "COMMAND are both set; leave one out"),
        ({"ADAPTER": "mine_to_test:absent"}, "'absent'"),
        ({"ADAPTER": "mine_to_test:right", "DTYPE": "int8"}, "not 'int8'"),
        ({"ADAPTER": "mine_to_test:right", "SKIPS": "s.txt"}, "s.txt names 'avg-pool'"),
        ({"ADAPTER": "mine_to_test:right", "XFAILS": "x.txt"}, "x.txt"),
    ],
)
def test_the_kit_s_tests_fail_without_valid_variables(
    working_directory: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: str
) -> None:
    (working_directory / "s.txt").write_text("avg-pool\n")
    for name, value in variables.items():
        monkeypatch.setenv(f"GRAMSTYLE_CONFORMANCE_{name}", value)
    with pytest.raises(pytest.Collector.CollectError, match=words):
        kit.pytest_generate_tests(None)


# The page


def test_the_adapter_of_the_page_passes_every_case(working_directory: Path) -> None:
    (code,) = re.findall(r"```python\n(import numpy as np\n\nMODES = .*?)```", PAGE, re.DOTALL)
    (working_directory / "adapter_of_the_page.py").write_text(code, "utf-8")
    adapter = load("adapter_of_the_page:value_and_grad")
    for dtype in ("float64", "float32"):
        for case in CASES.values():
            result = check(adapter, case, dtype=dtype)
            assert result.passed, result
            assert len(result.comparisons) == 2 + len(case.layers)


def test_the_page_describes_every_attribute_of_a_case() -> None:
    for name in {*Case.__dataclass_fields__, *(n for n in vars(Case) if not n.startswith("_"))}:
        assert re.search(rf"^\|.*`case\.{name}\b", PAGE, re.MULTILINE), name
