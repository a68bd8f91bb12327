"""Kill a worker of a run with --workers at a random moment; the run must not notice."""

import os
import random
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import PIL.Image

from .kills import MOST_TRIALS, KillResult
from .scene import Scene

PROGRAM = "import sys; from gramstyle.cli import main; sys.exit(main())"
ITERATIONS = 10
MEASURED = 2
# A run that has not ended after so many seconds hangs.
HANG = 300.0
# After so many seconds every worker must have ended with its program.
PATIENCE = 10.0
POLL = 0.01
MARK = "GRAMSTYLE_TORTURE"


def kill_workers(scene: Scene, kills: int, *, seed: int, workers: int = 2) -> KillResult:
    """Kill one worker of each run; compare the image with that of a run whose workers live."""
    rng = random.Random(f"workers:{seed}")  # noqa: S311 - not for secrets
    result = KillResult(f"a worker of transfer --workers {workers}")
    truth, seconds = _whole(scene, workers)
    for number in range(MOST_TRIALS * kills):
        if result.kills == kills:
            break
        each = _Run(scene, workers)
        killed = each.kill_one(rng, rng.uniform(0, seconds))
        each.end()
        refused = killed and each.refused
        if refused:
            each = _Run(scene, workers)
            each.end()
        problem = each.problem(truth)
        result.kills += killed
        result.late += not killed
        result.refused += refused
        result.identical += killed and not problem
        result.findings += [f"trial {number}: {problem}"] * bool(problem)
    return result


def _whole(scene: Scene, workers: int) -> tuple[bytes, float]:
    """Return the pixels of a run whose workers live, and for how many seconds they do."""
    seconds = []
    for _ in range(MEASURED):
        each = _Run(scene, workers)
        each.wait_for_worker()
        began = time.monotonic()
        each.end()
        seconds.append(time.monotonic() - began)
        if problem := each.problem():
            raise RuntimeError(f"a run with --workers fails: {problem}")
    return each.pixels(), median(seconds)


class _Run:
    """A run on workers that the program starts, in a process of its own."""

    def __init__(self, scene: Scene, workers: int) -> None:
        self._output = scene.folder / "clustered.png"
        self._output.unlink(missing_ok=True)
        command: list[str | Path] = [
            *(sys.executable, "-c", PROGRAM, "transfer", scene.photo, scene.style, "--quiet"),
            *("-o", self._output, "--model", scene.model, "--engine", "numpy", "--size", "48"),
            *("--tile", "32", "--iterations", str(ITERATIONS), "--workers", str(workers)),
        ]
        # Its workers inherit the mark, and have it even when their parent has ended.
        self._mark = f"{MARK}={secrets.token_hex(8)}".encode()
        name, _, value = self._mark.decode().partition("=")
        self._process = subprocess.Popen(
            command,
            env={**os.environ, name: value},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self._errors = ""

    def wait_for_worker(self) -> None:
        """Wait until the first worker has started."""
        while self._process.poll() is None and not self._workers():
            time.sleep(POLL)

    def kill_one(self, rng: random.Random, after: float) -> bool:
        """Kill a worker so many seconds after the first one has started, if the run still runs."""
        self.wait_for_worker()
        began = time.monotonic()
        while self._process.poll() is None and time.monotonic() < began + after:
            time.sleep(POLL)
        if self._process.poll() is not None or not (workers := self._workers()):
            return False
        os.kill(rng.choice(workers), signal.SIGKILL)
        return True

    def end(self) -> None:
        """Wait for the end of the run."""
        try:
            _, errors = self._process.communicate(timeout=HANG)
        except subprocess.TimeoutExpired:
            self._process.kill()
            _, errors = self._process.communicate()
        self._errors = errors.decode(errors="replace").strip()

    @property
    def refused(self) -> bool:
        """Whether the run ended as gramstyle ends when it cannot go on: one line, and code 2."""
        one = len(self._errors.splitlines()) == 1
        return self._process.returncode == 2 and one and not self._output.exists()

    def pixels(self) -> bytes:
        """Return the pixels of the image."""
        with PIL.Image.open(self._output) as image:
            return image.tobytes()

    def problem(self, truth: bytes | None = None) -> str:
        """Return what is wrong with the run, or nothing."""
        if self._process.returncode or self._errors:
            return f"code {self._process.returncode}: {self._errors[-300:]}"
        if truth is not None and self.pixels() != truth:
            return "other pixels"
        end = time.monotonic() + PATIENCE
        while alive := self._workers():
            if time.monotonic() > end:
                return f"{len(alive)} workers outlive the program"
            time.sleep(POLL)
        return ""

    def _workers(self) -> list[int]:
        """Return the processes of the program's workers."""
        return [
            int(path.name)
            for path in Path("/proc").glob("[0-9]*")
            if self._mark in _text(path / "environ") and b"spawn_main" in _text(path / "cmdline")
        ]


def _text(path: Path) -> bytes:
    """Return a file of a process; nothing if the process has just ended."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
