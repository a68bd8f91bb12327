"""Programs as subjects: what they do wrong fails one case in one sentence, and leaves nothing."""

import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance_cases import CASES
from conformance_programs import PAIR, write_program
from gramstyle.conformance.programs import running_program
from gramstyle.conformance.running import Report, run
from gramstyle.errors import OptionError
from workers import PATIENCE, until

SHAPE = CASES["convolution"].x.shape


@pytest.fixture(autouse=True)
def temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files, which a test may look into afterwards."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("gramstyle.system.temporary.tempfile.tempdir", str(folder))
    return folder


def report_of(command: str, *, timeout: float = PATIENCE) -> Report:
    """The report of a program on two cases."""
    with running_program(command, timeout=timeout) as program:
        return run(program, [CASES[name] for name in PAIR], dtype="float32")


# What a program does at its first case, and the sentence about it.
FAILURES = {
    "crash": (
        "print('reading\\nno kernel for it', file=sys.stderr)\nos._exit(3)",
        "the program ended with exit code 3; on stderr: no kernel for it",
    ),
    "end": ("sys.exit()", "the program ended with exit code 0"),
    "garbage": (
        "print('loss: 12.5', flush=True)",
        "the program wrote 'loss: 12.5' on stdout: expected JSON, found something else at line 1, "
        "column 1; write other text to stderr",
    ),
    "bytes": (
        "os.write(1, bytes(range(128, 256)) + b'\\n')",
        "on stdout: expected JSON in UTF-8, found other bytes; write other text to stderr",
    ),
    "another message": (
        "say(message='hello', protocol=1)",
        "on stdout: expected case at the document, found none",
    ),
    "no object": (
        "print('[1, 2]', flush=True)",
        "wrote '[1, 2]' on stdout: expected the JSON type object at the document",
    ),
    "another case": (
        "answer(case=7)",
        "the program answered case 7 where case 1 was asked",
    ),
    "missing file": (
        "answer(gradient='absent.f32')",
        "the gradient is missing: there is no file absent.f32",
    ),
    "short file": (
        "store('short.f32', [0.5] * 125)\nanswer(gradient='short.f32')",
        "the gradient has 500 bytes in short.f32; expected 504 (float32, shape (3, 6, 7))",
    ),
    "half the precision": (
        "shutil.copy(HERE / 'convolution.f32', folder / 'g.f64')\nanswer(gradient='g.f64')",
        "the gradient has 504 bytes in g.f64; expected 1008 (float64, shape (3, 6, 7))",
    ),
    "a path": (
        "answer(gradient='../convolution.f32')",
        "expected a name without a folder that ends in .npy, .f16, .f32 or .f64 "
        "at the document.gradient",
    ),
    "a link": (
        "(folder / 'link.f32').symlink_to(HERE / 'convolution.f32')\nanswer(gradient='link.f32')",
        "the gradient is in link.f32, which is not a regular file",
    ),
    "a pipe": (
        "os.mkfifo(folder / 'pipe.f32')\nanswer(gradient='pipe.f32')",
        "the gradient is in pipe.f32, which is not a regular file",
    ),
    "an unknown layer": (
        "answer(dF={'conv9_9': 'gradient.f32'})",
        "answered dF of 'conv9_9'; expected conv1_1",
    ),
    "a misshaped dF": (
        "answer(dF={'conv1_1': 'gradient.f32'})",
        "the dF of conv1_1 has 504 bytes in gradient.f32; expected 672",
    ),
    "a loss in words": (
        "answer(loss='12.5')",
        "expected the JSON type number at the document.loss, found '12.5'",
    ),
    "a loss without bounds": ("answer(loss=10 ** 400)", "expected a number from"),
    "a folder that is removed": (
        "answer()\nshutil.rmtree(folder.parent)\nsys.exit(5)",
        "the gradient is missing: there is no file gradient.f32",
    ),
    "a refusal": (
        "say(message='error', case=1, text='there is no circular padding here')",
        "the program says: there is no circular padding here",
    ),
    "a closed output": (
        "os.close(1)\ntime.sleep(60)",
        "the program closed its standard output",
    ),
    "an endless line": (
        "os.write(1, b'1' * 4_000_000)",
        "the program wrote a line of more than a mebibyte",
    ),
}


@pytest.mark.skipif(os.name == "nt", reason="needs links and pipes")
@pytest.mark.parametrize("what", FAILURES)
def test_a_failure_is_one_sentence_about_its_case_and_the_next_case_passes(
    what: str, tmp_path: Path, temporary_files: Path
) -> None:
    behaviour, sentence = FAILURES[what]
    first, second = report_of(write_program(tmp_path, behaviour)).results
    assert sentence in first.problem
    assert first.problem.isprintable()
    assert second.passed, second
    assert not list(temporary_files.iterdir())


def test_a_program_that_hangs_fails_its_case_after_the_time_limit(tmp_path: Path) -> None:
    command = write_program(tmp_path, "time.sleep(600)")
    # Long enough to start Python again on a busy machine.
    first, second = report_of(command, timeout=10).results
    assert first.problem == "the program did not answer within 10 seconds"
    assert second.passed, second


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
def test_a_signal_is_named(tmp_path: Path) -> None:
    first, _ = report_of(write_program(tmp_path, "os.kill(os.getpid(), signal.SIGSEGV)")).results
    assert first.problem == "the program was ended by SIGSEGV"


def test_an_infinite_loss_is_not_finite(tmp_path: Path) -> None:
    first, second = report_of(write_program(tmp_path, "answer(loss=None)")).results
    assert first.comparisons[0].problem == "not finite"
    assert second.passed


def test_a_program_that_does_not_start_again_fails_the_other_cases(tmp_path: Path) -> None:
    behaviour = "Path(__file__).write_text('print(1)')\nos._exit(4)"
    first, second = report_of(write_program(tmp_path, behaviour)).results
    assert first.problem == "the program ended with exit code 4"
    assert second.problem.startswith("started again, the program")
    assert "'1' on stdout" in second.problem


# .npy files


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros((3, 7, 6), "f4"), "the gradient has the shape (3, 7, 6); expected (3, 6, 7)"),
        (np.zeros(SHAPE, "i4"), "the gradient has the dtype int32; expected floats"),
        (np.zeros(SHAPE, "c8"), "the gradient has the dtype complex64; expected floats"),
        (np.full(SHAPE, None), "the gradient has the dtype object; expected floats"),
        (pickle.dumps([0]), "the gradient is in a file that is not in NumPy's format"),
        (b"", "the gradient is in a file that is not in NumPy's format"),
        (b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 60_000, "not in NumPy's format"),
        ("short", "the gradient is in a .npy file that is too short or too long"),
    ],
    ids=["shape", "int32", "complex64", "object", "pickle", "empty", "header", "short"],
)
def test_a_npy_file_with_anything_else_than_the_array_is_named(
    array: Any, sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "given.npy"
    if isinstance(array, bytes):
        path.write_bytes(array)
    else:
        whole = np.zeros(SHAPE, "f4") if isinstance(array, str) else array
        np.save(path, whole, allow_pickle=True)
        if isinstance(array, str):
            path.write_bytes(path.read_bytes()[:-4])
    behaviour = "shutil.copy(HERE / 'given.npy', folder / 'g.npy')\nanswer(gradient='g.npy')"
    first, second = report_of(write_program(tmp_path, behaviour)).results
    assert sentence in first.problem
    assert second.passed, second


@pytest.mark.parametrize("kind", ["<f4", ">f8", "fortran"])
def test_a_npy_file_may_have_any_order_and_float_type(kind: str, tmp_path: Path) -> None:
    gradient = CASES["convolution"].truth.gradient
    array = np.asfortranarray(gradient) if kind == "fortran" else gradient.astype(kind)
    np.save(tmp_path / "given.npy", array)
    behaviour = "shutil.copy(HERE / 'given.npy', folder / 'g.npy')\nanswer(gradient='g.npy')"
    first, _ = report_of(write_program(tmp_path, behaviour)).results
    assert first.passed, first


def test_a_program_may_read_npy_files(tmp_path: Path) -> None:
    behaviour = (
        "assert (folder / asked['image']['file']).read_bytes()[:6] == b'\\x93NUMPY'\nanswer()"
    )
    first, second = report_of(write_program(tmp_path, behaviour, files="npy")).results
    assert first.passed, first
    assert second.passed, second


# What remains


@pytest.mark.skipif(os.name == "nt", reason="needs permissions")
def test_nothing_that_a_program_leaves_remains(tmp_path: Path, temporary_files: Path) -> None:
    behaviour = (
        "(folder / 'deep').mkdir()\n"
        "(folder / 'deep' / 'left.bin').write_bytes(b'1' * 1000)\n"
        "(folder / 'deep').chmod(0o500)\n"
        "import tempfile\n"
        "Path(tempfile.mkdtemp(), 'scratch.bin').write_bytes(b'2' * 1000)\n"
        "answer()"
    )
    first, second = report_of(write_program(tmp_path, behaviour)).results
    assert first.passed, first
    assert second.passed, second
    assert not list(temporary_files.iterdir())


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_what_a_program_started_ends_with_it(tmp_path: Path) -> None:
    behaviour = (
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "(HERE / 'child').write_text(str(child.pid))\n"
        "os._exit(1)"
    )
    first, second = report_of(write_program(tmp_path, behaviour)).results
    assert first.problem.startswith("the program")
    assert second.passed
    child = (tmp_path / "child").read_text()
    until(lambda: not is_running(child))  # a killed process goes in a moment


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_a_stopped_command_ends_the_program_and_leaves_nothing(
    tmp_path: Path, temporary_files: Path
) -> None:
    behaviour = "(HERE / 'asked').write_text(str(os.getpid()))\ntime.sleep(600)"
    program = write_program(tmp_path, behaviour)
    started = subprocess.Popen(
        [sys.executable, "-m", "gramstyle", "conformance", "run", "--command", program],
        env={**os.environ, "TMPDIR": str(temporary_files)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    asked = tmp_path / "asked"
    until(lambda: asked.exists() and asked.read_text())
    assert list(temporary_files.iterdir())
    started.send_signal(signal.SIGTERM)
    output, error = started.communicate(timeout=PATIENCE)
    assert (started.returncode, output, error) == (143, "", "gramstyle: terminated\n")
    assert not is_running(asked.read_text())
    assert not list(temporary_files.iterdir())


def is_running(process: str) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        state = Path("/proc", process, "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_program_that_floods_without_reading_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "flood.py"
    path.write_text(
        "import json\n"
        "hello = dict(message='hello', protocol=1, name='x', version='1', dtypes=['float32'],"
        " files='raw')\n"
        "print(json.dumps(hello))\n"
        "while True: print('0' * 1000)\n"
    )
    first, second = report_of(f"'{sys.executable}' '{path}'").results
    for result in (first, second):
        assert "on stdout: expected" in result.problem


# The first message


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        ("print('hello')", "wrote 'hello' on stdout: expected JSON"),
        (
            "raise SystemExit('no GPU here')",
            "ended with exit code 1; on stderr: no GPU",
        ),
        (
            # As Node.js writes it.
            "raise SystemExit('node:loader:1\\n  ^\\n\\nError [NOT_FOUND]: Cannot find x.mjs\\n"
            "    at load (node:loader:1)\\n\\nNode.js v20.20.2')",
            "ended with exit code 1; on stderr: Error [NOT_FOUND]: Cannot find x.mjs",
        ),
        ("import time; time.sleep(600)", "did not answer within 2 seconds"),
        ("print('{}')", "expected message at the document"),
        (
            'print(\'{"message": "hello", "protocol": 2, "name": "x", "version": "1",'
            ' "dtypes": ["float32"], "files": "raw"}\')',
            "speaks the protocol 2; this gramstyle speaks 1",
        ),
        (
            'print(\'{"message": "hello", "protocol": 1, "name": "x", "version": "1",'
            ' "dtypes": ["int8"], "files": "raw"}\')',
            "expected one of float64, float32, float16 at the document.dtypes[0]",
        ),
    ],
    ids=["words", "crash", "traceback", "hang", "nothing", "protocol", "dtype"],
)
def test_a_program_that_does_not_speak_the_protocol_is_refused(
    program: str, sentence: str, tmp_path: Path, temporary_files: Path
) -> None:
    path = tmp_path / "program.py"
    path.write_text(program)
    with (
        pytest.raises(OptionError) as caught,
        # Only the program that hangs may take the whole time.
        running_program(
            f"'{sys.executable}' '{path}'", timeout=2 if "2 seconds" in sentence else PATIENCE
        ),
    ):
        pytest.fail("it was taken")
    assert sentence in str(caught.value)
    assert str(caught.value).startswith(f"the program {sys.executable!r} ")
    assert str(caught.value).isprintable()
    assert not list(temporary_files.iterdir())


@pytest.mark.parametrize(
    ("command", "timeout", "words"),
    [
        ("no-such-program --fast", 4, "cannot start the program 'no-such-program'"),
        ("'unfinished", 4, "cannot be read: No closing quotation"),
        ("", 4, "--command names no program"),
        ("x\0y", 4, "cannot start the program"),
        (sys.executable, 0, "--timeout must be"),
        (sys.executable, -1, "--timeout must be"),
        (sys.executable, float("nan"), "--timeout must be"),
        (sys.executable, float("inf"), "--timeout must be"),
    ],
)
def test_a_command_that_cannot_be_started_is_one_line(
    command: str, timeout: float, words: str
) -> None:
    with pytest.raises(OptionError, match=words), running_program(command, timeout=timeout):
        pytest.fail("it was taken")


def test_no_shell_reads_the_command(tmp_path: Path) -> None:
    path = tmp_path / "arguments.py"
    path.write_text(
        "import json, sys\n"
        "from pathlib import Path\n"
        "Path(sys.argv[0]).with_name('got').write_text(json.dumps(sys.argv[1:]))\n"
    )
    command = f"'{sys.executable}' '{path}' $HOME `id` ; touch 'a b' && true > out"
    with (
        pytest.raises(OptionError, match="exit code 0"),
        running_program(command, timeout=PATIENCE),
    ):
        pytest.fail("it was taken")
    words = json.loads((tmp_path / "got").read_text())
    assert words == ["$HOME", "`id`", ";", "touch", "a b", "&&", "true", ">", "out"]
