"""tools/gpu_check: it runs without a GPU, notices broken kernels, and says what it skipped."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # tools is not installed

from tools.gpu_check import __main__ as program
from tools.gpu_check import kernels, parts, report, timing
from tools.gpu_check.parts import Clock, Part, SkippedError, run
from tools.gpu_check.stand_in import stand_in

from gramstyle.engines.cuda import forward, products, steps
from gramstyle.engines.cuda import kernels as device_kernels
from gramstyle.engines.cuda.device import Device, open_device

ROOT = Path(__file__).parents[2]
# No test waits for a time to pass: each part ends when it is done.
LONG = "100000"

# What a machine that is made for PyTorch may lack of gramstyle's packages.
BLOCKER = """
import sys
from importlib.machinery import PathFinder
class Absent(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        absent = name.split(".")[0] in {names}
        return None if absent else super().find_spec(name, path, target)
sys.meta_path[:] = [Absent if each is PathFinder else each for each in sys.meta_path]
"""
SMALL_PACKAGES = {"numba", "onnxruntime", "platformdirs", "rich", "shtab", "threadpoolctl"}


def started(folder: Path, *arguments: str, absent: set[str]) -> subprocess.CompletedProcess[str]:
    """Run the program in a process of its own that lacks some packages."""
    (folder / "sitecustomize.py").write_text(BLOCKER.format(names=absent))
    return subprocess.run(
        [sys.executable, "-m", "tools.gpu_check", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"PYTHONPATH": f"{folder}:{ROOT / 'engine'}", "PATH": "/usr/bin:/bin"},
    )


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    """NumPy's steps in the place of CUDA kernels, which would have to be compiled."""
    monkeypatch.setitem(sys.modules, "cupy", stand_in(compiles=False))
    return open_device(tf32=False)


def test_a_bare_machine_without_a_gpu_and_pytorch_checks_all_but_the_comparison(
    tmp_path: Path,
) -> None:
    written = tmp_path / "gpu.json"
    how = ("--on", "cpu", "--sizes", "33", "--iterations", "1", "--seconds", LONG)
    done = started(tmp_path, *how, "--json", str(written), absent={*SMALL_PACKAGES, "torch"})
    assert done.returncode == 0, done.stderr + done.stdout
    found = json.loads(written.read_text())
    assert found["passed"] is True
    assert found["measured_on_a_gpu"] is False
    assert set(found["machine"]["stand_ins"]) == {"threadpoolctl", "platformdirs"}
    checks = {part["name"]: part["checks"] for part in found["parts"]}
    assert list(checks) == ["kernels", "conformance", "timing"]
    assert {each["state"] for each in checks["kernels"] + checks["conformance"]} == {"passed"}
    states = {each["name"].split()[0]: each["state"] for each in checks["timing"]}
    assert states == {"gramstyle": "passed", "PyTorch": "not measured"}
    assert "PyTorch is not installed" in done.stdout


@pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed")
def test_the_objective_that_is_timed_is_the_one_that_pytorch_computes(tmp_path: Path) -> None:
    written = tmp_path / "gpu.json"
    how = ("--on", "cpu", "--sizes", "33", "--iterations", "1", "--seconds", LONG)
    done = started(tmp_path, *how, "--json", str(written), absent=set())
    assert done.returncode == 0, done.stderr + done.stdout
    rows = json.loads(written.read_text())["parts"][-1]["figures"]["rows"]
    assert [row["tf32"] for row in rows] == [False, True]
    for row in rows:
        # Both compute in float32, and in the same order nowhere.
        assert row["differs"]["loss"] < 1e-4
        assert row["differs"]["gradient"] < 1e-3
        assert set(row["pytorch"]["layouts"]) == {"contiguous", "channels_last"}


def test_times_of_the_stand_in_are_not_reported_as_those_of_a_gpu(tmp_path: Path) -> None:
    figures = {
        "median_seconds": 1.0, "first_seconds": 2.0, "run_iterations": 3, "run_evaluations": 4,
        "run_seconds": 5.0, "run_loss": 6.0, "memory_bytes": None,
    }  # fmt: skip
    row = {"size": 512, "tf32": True, "gramstyle": figures, "pytorch": figures}
    part = Part("timing", figures={"rows": [row]})
    about = {"gpu": "x", "driver": "", "system": "", "versions": {}}
    text = report.text({**about, "is_stand_in": True}, [part])
    assert "Speed on a GPU: not measured" in text
    assert "| ratio |" not in text
    assert text.count("| 6 | not measured |") == 2  # the memory
    text = report.text({**about, "is_stand_in": False}, [part])
    assert "Speed on a GPU" not in text
    assert "| ratio | 1.00 |" in text


def test_without_a_gpu_it_ends_with_one_line_and_the_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert program.main([]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("gpu_check: CuPy cannot be loaded")
    assert told.err.count("\n") == 1


def test_a_model_file_that_is_not_there_ends_with_one_line_and_the_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert program.main(["--on", "cpu", "--model", str(tmp_path / "none.onnx")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def harmed(device: Device, name: str, harm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a step do harm to its last output, which it gets with what the output was before."""
    right = steps.steps(device.xp)

    def wrong(*arguments: Any, **options: Any) -> None:
        last = arguments[-1].view(np.ndarray)
        before = last.copy()
        getattr(right, name)(*arguments, **options)
        harm(last, before)

    for module in (kernels, products, forward, device_kernels):
        monkeypatch.setattr(module, "steps", lambda _xp: right._replace(**{name: wrong}))


@pytest.mark.parametrize("name", steps.Steps._fields)
def test_a_kernel_that_is_wrong_in_one_entry_is_noticed(
    name: str, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def harm(last: Any, _before: Any) -> None:
        last[(-1,) * last.ndim] += 0.01

    harmed(device, name, harm, monkeypatch)
    assert any(name in check for check in states(device)["failed"] if check.startswith("step"))


@pytest.mark.parametrize("name", steps.Steps._fields)
def test_a_kernel_that_leaves_out_one_entry_is_noticed(
    name: str, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def harm(last: Any, before: Any) -> None:
        last[(0,) * last.ndim] = before[(0,) * last.ndim]

    harmed(device, name, harm, monkeypatch)
    assert states(device)["failed"]


def test_right_kernels_pass(device: Device) -> None:
    found = states(device)
    assert found["failed"] == []
    assert len(found["passed"]) > 100


def states(device: Device) -> dict[str, list[str]]:
    """Return the names of the kernels' checks by state."""
    rng = np.random.default_rng(0)
    part = run(Part("kernels"), kernels.checks(device, rng, small=True), Clock(float(LONG)))
    return {
        state: [check.name for check in part.checks if check.state == state]
        for state in ("passed", "failed", parts.NOT_MEASURED)
    }


def test_a_failed_check_does_not_stop_the_others() -> None:
    def fails() -> str:
        raise ZeroDivisionError("by\nzero")

    def skipped() -> str:
        raise SkippedError("no PyTorch")

    works = [("one", lambda: 0.5), ("two", fails), ("three", skipped), ("four", lambda: "said")]
    part = run(Part("all"), works, Clock(float(LONG)))
    assert [(each.name, each.state) for each in part.checks] == [
        ("one", "passed"), ("two", "failed"), ("three", "not measured"), ("four", "passed"),
    ]  # fmt: skip
    assert part.failed
    assert part.checks[0].detail == "5.0e-01"
    assert part.checks[1].detail.startswith("ZeroDivisionError: by zero (test_gpu_check.py:")


def test_what_there_is_no_time_for_is_not_measured_and_no_failure() -> None:
    part = run(Part("all"), [("one", lambda: pytest.fail("was run"))], Clock(0.0))
    assert [(each.state, each.detail) for each in part.checks] == [
        ("not measured", "no time was left")
    ]
    assert not part.failed


def test_a_gradient_that_differs_from_pytorch_s_is_a_failure() -> None:
    row = {"tf32": False, "loss": 1.0, "gradient": np.ones(3)}
    assert timing._difference(row, 1.0, np.ones(3)) == {"loss": 0.0, "gradient": 0.0}
    for gradient in (np.full(3, 1.1), np.full(3, np.nan)):
        with pytest.raises(ValueError, match="differ from PyTorch's"):
            timing._difference(row, 1.0, gradient)


def test_the_stand_in_refuses_what_cupy_refuses() -> None:
    cupy = stand_in(compiles=False)
    array = cupy.asarray(np.ones(3))
    for work in (
        lambda: array + np.ones(3),
        lambda: np.ones(3) + array,
        lambda: cupy.stack([array, np.ones(3)]),
        lambda: array.__setitem__(..., np.ones(3)),
    ):
        with pytest.raises(TypeError, match=r"Unsupported type <class 'numpy\.ndarray'>"):
            work()
    assert cupy.transfers == 0
    assert [float(array[0]), int(array[0]), bool(array[0]), array[0].item()] == [1] * 4
    assert array.tolist() == [1] * 3
    assert cupy.asnumpy(array).tolist() == [1] * 3
    assert cupy.transfers == 6
