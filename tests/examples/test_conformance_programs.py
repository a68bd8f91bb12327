"""The programs in examples/conformance pass every case in every float type that they offer."""

import shutil
import subprocess
from pathlib import Path

import pytest

from conformance_cases import CASES
from documented import ROOT
from gramstyle.conformance.programs import running_program
from gramstyle.conformance.running import run

EXAMPLES = ROOT / "examples" / "conformance"
INSTALL = ("npm", "install", "--ignore-scripts", "--no-audit", "--no-fund")
# A busy machine is slow; the programs take milliseconds for a case.
PATIENCE = 300.0


def passes_every_case(command: str, dtypes: tuple[str, ...]) -> None:
    with running_program(command, timeout=PATIENCE) as program:
        assert program.hello.dtypes == dtypes
        for dtype in dtypes:
            report = run(program, CASES.values(), dtype=dtype)
            failed = [(each.case, each.problem, each.where) for each in report.failed]
            assert failed == []
            for result in report.results:
                layers = CASES[result.case].network.names
                compared = {each.quantity for each in result.comparisons}
                assert {f"dF of {name}" for name in layers} <= compared
            assert program.seconds is not None


def program_of(*names: str) -> str:
    """The first of these programs that is installed."""
    found = next(filter(None, map(shutil.which, names)), None)
    return found or pytest.skip(f"there is no {names[0]}")


@pytest.mark.browser
def test_the_plain_javascript_passes_every_case() -> None:
    node = program_of("node")
    passes_every_case(f"'{node}' '{EXAMPLES / 'plain.mjs'}'", ("float32", "float64"))


@pytest.mark.browser
def test_the_javascript_of_tensorflow_passes_every_case(tmp_path: Path) -> None:
    node = program_of("node")
    program_of("npm")
    for name in ("package.json", "protocol.mjs", "tfjs.mjs"):
        shutil.copy(EXAMPLES / name, tmp_path)
    done = subprocess.run(INSTALL, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        pytest.skip(f"npm cannot install TensorFlow.js: {last}")
    passes_every_case(f"'{node}' '{tmp_path / 'tfjs.mjs'}'", ("float32",))


def test_the_plain_cpp_compiles_without_warnings_and_passes_every_case(tmp_path: Path) -> None:
    compiler = program_of("c++", "g++", "clang++")
    warnings = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")
    source, target = EXAMPLES / "plain.cpp", tmp_path / "plain"
    command = [compiler, "-std=c++17", "-O1", *warnings, "-o", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    passes_every_case(f"'{target}'", ("float32", "float64"))


@pytest.mark.browser
def test_the_programs_say_why_they_cannot_compute_a_case(tmp_path: Path) -> None:
    """A case in a folder that is not there, handed to each program directly."""
    node = program_of("node")
    greeting = '{"message": "greeting", "protocol": 1, "gramstyle": "0"}\n'
    case = (
        '{"message": "case", "case": 4, "dtype": "float32", "folder": "/nowhere",'
        ' "image": {"file": "x.f32", "dtype": "float32", "shape": [3, 2, 2]}}\n'
    )
    done = subprocess.run(
        [node, str(EXAMPLES / "plain.mjs")],
        input=greeting + case,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    hello, error = done.stdout.splitlines()
    assert '"hello"' in hello
    assert '"error"' in error
    assert '"case":4' in error
    assert "no such file" in error
    assert done.returncode == 0
