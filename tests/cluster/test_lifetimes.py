"""What a program leaves behind, however it and its workers end: nothing, and nothing on stderr."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import PIL.Image
import psutil
import pytest

from gramstyle.cli import main
from gramstyle.cluster.dask import configured
from gramstyle.cluster.opening import open_cluster
from gramstyle.errors import OptionError
from gramstyle.images import read_settings
from workers import PATIENCE, PROGRAM, in_session, program, until

dask = pytest.importorskip("dask")


@pytest.fixture
def command(
    tmp_path: Path, own_cache: Path, rng: np.random.Generator, tiny_model_path: Path
) -> tuple[str, ...]:
    """`gramstyle transfer` at two scales in tiles; it prints nothing but errors."""
    for name in ("photo", "painting"):
        pixels = rng.integers(0, 256, (48, 64, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    return (
        "transfer", str(tmp_path / "photo.png"), str(tmp_path / "painting.png"),
        "-o", str(tmp_path / "out.png"), "--model", str(tiny_model_path),
        "--size", "64", "--scales", "2", "--tile", "48", "--iterations", "2", "--quiet",
    )  # fmt: skip


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start the program in a session of its own; none of its processes outlives the block."""
    with program(
        [*PROGRAM, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as leader:  # fmt: skip
        try:
            yield leader
            until(lambda: not in_session(leader.pid))
        finally:
            for pid in in_session(leader.pid):
                os.kill(pid, signal.SIGKILL)


def workers_of(pid: int) -> list[psutil.Process]:
    """Return the processes that a program has spawned as workers, started or still starting."""
    children = psutil.Process(pid).children()
    return [child for child in children if any("spawn_main" in each for each in child.cmdline())]


def loops() -> int:
    """Return how many event loops of clusters run in this process."""
    names = [thread.name for thread in threading.enumerate()]
    return sum(name in ("gramstyle-cluster", "IO loop") for name in names)


def test_a_run_on_workers_of_its_own_says_nothing_and_leaves_nothing(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    with started(*command, "--workers", "1") as running:
        assert running.communicate(timeout=PATIENCE) == ("", "")
    assert running.returncode == 0
    assert read_settings(tmp_path / "out.png") is not None


def test_a_run_on_a_scheduler_by_its_address_says_nothing(
    command: tuple[str, ...],
    trusted_address: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = loops()
    assert main([*command, "--scheduler", trusted_address]) == 0
    assert capfd.readouterr() == ("", "")
    assert read_settings(tmp_path / "out.png") is not None
    assert loops() == before


def test_ctrl_c_while_workers_start_is_one_line_and_leaves_nothing(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    with started(*command, "--workers", "1") as running:
        until(lambda: workers_of(running.pid))
        os.killpg(running.pid, signal.SIGINT)  # as a terminal sends it: to all of them
        said = running.communicate(timeout=PATIENCE)
    line = (
        "gramstyle: stopped by Ctrl-C. Nothing was written: the first iteration was not complete\n"
    )
    assert said == ("", line)
    assert running.returncode == 130
    assert not (tmp_path / "out.png").exists()


def test_workers_end_with_a_program_that_is_killed(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    endless = [*command, "--workers", "1", "--iterations", "100000", "--save-every", "1"]
    with started(*endless) as running:
        until(lambda: any(tmp_path.glob("out-*.png")))
        assert workers_of(running.pid)
        running.kill()
        _, said = running.communicate(timeout=PATIENCE)
    # Python says that it has removed the semaphores of a program that could not.
    assert "Traceback" not in said


def test_a_worker_that_is_killed_while_it_starts_is_one_line(
    own_cache: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "death.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    before = loops()
    with (
        dask.config.set({"distributed.worker.preload": [str(tmp_path / "death.py")]}),
        pytest.raises(
            OptionError, match=r"^a worker on this machine has not started \(.*--workers$"
        ),
        open_cluster(workers=2),
    ):
        pass
    assert capfd.readouterr() == ("", "")
    assert loops() == before


def test_timeouts_in_the_configuration_do_not_end_a_cluster_that_starts(own_cache: Path) -> None:
    # A shared cluster may end when it is idle; this one would end before its first worker is there.
    short = {"distributed.scheduler.idle-timeout": "1ms", "distributed.comm.timeouts.tcp": "1ms"}
    with dask.config.set(short), open_cluster(workers=1):
        pass
    with dask.config.set(short), configured(local=False):
        assert dask.config.get("distributed.comm.timeouts.tcp") == "1ms"
