"""Batches on a Dask cluster: the local images' bits, whatever happens to the workers."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from gramstyle.batch import Job, Outcome, attempt, on_workers, one_by_one, read_jobs, run_jobs
from gramstyle.batch.payload import pack
from gramstyle.cli import main
from gramstyle.cluster.client import Cluster, Done, KilledWorkersError, open_cluster
from gramstyle.errors import OptionError
from gramstyle.images import read_settings

dask = pytest.importorskip("dask")
pytest.importorskip("distributed")

Read = Callable[..., tuple[Job, ...]]

# A job of the tiny network takes about 5 ms for each iteration.
LONG, ENDLESS = 60, 1_000_000


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Workers keep the model here, not in the user's cache, and leave here what is left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("passing")))
        patch.delenv("GRAMSTYLE_MODEL", raising=False)
        yield


@pytest.fixture(scope="module")
def cluster(own_cache: None) -> Iterator[Cluster]:
    with open_cluster(workers=2, threads=1, patience=30) as cluster:
        yield cluster


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Four photographs, a painting, and a place for results."""
    for name in ("photos", "out"):
        (tmp_path / name).mkdir()
    for name in (*(f"photos/{letter}.png" for letter in "abcd"), "night.png"):
        PIL.Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).save(tmp_path / name)
    return tmp_path


@pytest.fixture
def read(folder: Path) -> Read:
    """Read a jobs file of all photographs with these options."""

    def read_with(more: str = "", *, iterations: int = 2) -> tuple[Job, ...]:
        (folder / "jobs.toml").write_text(
            '[[jobs]]\ncontent = "photos/*"\nstyle = "night.png"\noutput = "out/{content}.png"\n'
            f"size = 32\niterations = {iterations}\n{more}"
        )
        return read_jobs(folder / "jobs.toml")

    return read_with


@pytest.fixture
def everywhere(cluster: Cluster, tiny_model_path: Path) -> Callable[..., tuple[Outcome, ...]]:
    """Do jobs on the cluster."""

    def do(jobs: tuple[Job, ...], **more: Any) -> tuple[Outcome, ...]:
        def execute(jobs: tuple[Job, ...], /) -> Any:
            return on_workers(jobs, cluster=cluster, model=tiny_model_path)

        return run_jobs(jobs, execute=execute, **more)

    return do


Everywhere = Callable[..., tuple[Outcome, ...]]


def here(jobs: tuple[Job, ...], model: Path) -> tuple[Outcome, ...]:
    """Do jobs in this process with the cluster's one thread: the oracle."""
    jobs = tuple(job.with_threads(1) for job in jobs)
    return run_jobs(jobs, execute=lambda jobs: one_by_one(jobs, model=model))


def states(outcomes: tuple[Outcome, ...]) -> dict[str, str]:
    assert len({outcome.job.output for outcome in outcomes}) == len(outcomes)
    return {outcome.job.output.stem: outcome.state for outcome in outcomes}


def pixels(jobs: tuple[Job, ...]) -> dict[str, bytes]:
    found = {}
    for job in jobs:
        with PIL.Image.open(job.output) as image:
            found[job.output.stem] = image.tobytes()
    return found


def settings_of(job: Job) -> dict[str, Any]:
    settings = read_settings(job.output)
    assert settings is not None
    return settings


def remove(jobs: tuple[Job, ...]) -> None:
    for job in jobs:
        job.output.unlink()


def written(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# The same images


def test_the_images_are_the_local_ones_bit_for_bit_and_so_are_their_records(
    everywhere: Everywhere, read: Read, tiny_model_path: Path
) -> None:
    jobs = read('init = "noise"\nstyle_layers = ["conv1_1", "conv3_1"]\n', iterations=20)
    outcomes = everywhere(jobs)
    assert states(outcomes) == dict.fromkeys("abcd", "made")
    assert {outcome.job for outcome in outcomes} == set(jobs)
    there, records = pixels(jobs), [settings_of(job) for job in jobs]
    remove(jobs)
    expected = here(jobs, tiny_model_path)
    assert pixels(jobs) == there
    losses = {outcome.job.name: outcome.loss for outcome in outcomes}
    assert losses == {outcome.job.name: outcome.loss for outcome in expected}
    for job, record in zip(jobs, records, strict=True):
        local = settings_of(job)
        for settings in (record, local):
            settings["result"].pop("seconds")
        assert record == local


def test_an_image_that_is_here_is_kept_wherever_it_was_made(
    everywhere: Everywhere,
    cluster: Cluster,
    read: Read,
    tiny_model_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs = read()
    here(jobs[:2], tiny_model_path)
    assert states(everywhere(jobs)) == {"a": "kept", "b": "kept", "c": "made", "d": "made"}
    assert states(here(jobs, tiny_model_path)) == dict.fromkeys("abcd", "kept")
    # By a machine with so little memory that it takes tiles, which the record says.
    small = replace(jobs[0], options=replace(jobs[0].options, memory=601_000_000, seed=1))
    assert states(everywhere((small,))) == {"a": "made"}
    assert settings_of(small)["tile"] is not None
    roomy = replace(jobs[0], options=replace(jobs[0].options, seed=1))
    assert attempt(roomy, model=tiny_model_path).state == "kept"
    # Nothing travels for what is here.
    monkeypatch.setattr(cluster, "submit", pytest.fail)
    assert states(everywhere((roomy, *jobs[1:]))) == dict.fromkeys("abcd", "kept")


def test_a_job_takes_its_own_threads_or_the_clusters_or_its_workers(
    cluster: Cluster, read: Read, tiny_model_path: Path
) -> None:
    two, own, workers, _ = read()
    own = replace(own, options=replace(own.options, threads=3))
    joined = Cluster(cluster._client, "here", threads=2)
    assert states(tuple(on_workers([two, own], cluster=joined, model=tiny_model_path))) == {
        "a": "made",
        "b": "made",
    }
    joined.threads = None  # as where dask worker was told how many
    for _ in on_workers([workers], cluster=joined, model=tiny_model_path):
        pass
    assert [settings_of(job)["threads"] for job in (two, own, workers)] == [2, 3, 1]


def test_a_job_has_the_engine_of_this_installation(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker's own default might be another, and its image with it."""
    monkeypatch.setattr("gramstyle.run.options.default_engine", lambda _device: "hybrid")
    with zipfile.ZipFile(io.BytesIO(pack(read()[0], network=""))) as parcel:
        assert json.loads(parcel.read("letter.json"))["options"]["engine"] == "hybrid"


# What goes wrong


def test_a_bad_job_does_not_stop_the_others(
    everywhere: Everywhere, folder: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = read()
    (folder / "photos/a.png").write_bytes(b"nonsense")
    (folder / "photos/b.png").unlink()  # since the file was read
    (folder / "out/c.png").write_bytes((folder / "night.png").read_bytes())  # somebody else's
    outcomes = everywhere(jobs)
    assert states(outcomes) == {"a": "failed", "b": "failed", "c": "failed", "d": "made"}
    reasons = {outcome.job.output.stem: outcome.reason for outcome in outcomes}
    assert "worker tcp://" in reasons["a"]
    assert f"cannot read '{folder}/photos/a.png': it is not an image" in reasons["a"]
    assert reasons["b"] == f"cannot read {folder}/photos/b.png: No such file or directory; " \
        "check the path"  # fmt: skip
    assert "is none of this batch's images" in reasons["c"]
    assert not any("\n" in reason or "mistake" in reason for reason in reasons.values())
    assert (folder / "out/c.png").read_bytes() == (folder / "night.png").read_bytes()


def busy(cluster: Cluster) -> list[int]:
    """The processes that do a job just now."""

    def pid_if_busy() -> int:
        from gramstyle.cluster import worker as remote

        return os.getpid() if remote._ONE_AT_A_TIME.locked() else 0

    return [pid for pid in cluster._client.run(pid_if_busy).values() if pid]


def until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_a_worker_that_is_killed_costs_a_repetition_and_nothing_else(
    cluster: Cluster, read: Read, folder: Path, tiny_model_path: Path
) -> None:
    jobs, outcomes = read(iterations=2 * LONG), []
    for outcome in on_workers(jobs, cluster=cluster, model=tiny_model_path):
        if not outcomes:
            os.kill(until(lambda: busy(cluster))[0], signal.SIGKILL)
        outcomes.append(outcome)
    assert states(tuple(outcomes)) == dict.fromkeys("abcd", "made")
    there = pixels(jobs)
    assert {path.name for path in (folder / "out").iterdir()} == {f"{n}.png" for n in "abcd"}
    remove(jobs)
    here(jobs, tiny_model_path)
    assert pixels(jobs) == there


def by_value(function: Any) -> Any:
    """Tests are not a module that workers could import."""
    cloudpickle = pytest.importorskip("cloudpickle")
    cloudpickle.register_pickle_by_value(sys.modules[function.__module__])
    return function


def die_of_one(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.1)
    return 10 * number


def test_a_job_that_kills_every_worker_fails_and_none_that_was_beside_it(own_cache: None) -> None:
    """Dask suspects all that a worker was to do when it dies, begun or not."""
    with (
        # Two deaths are enough; by default it is four.
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        open_cluster(workers=1, threads=1, patience=30) as cluster,
    ):
        results = dict(cluster.map_jobs(by_value(die_of_one), [1, 2, 3]))
    assert (results[1], results[2]) == (20, 30)
    assert type(results[0]) is KilledWorkersError
    assert "2 workers have died of the same task; if memory" in str(results[0])


def test_a_cluster_that_is_gone_is_no_jobs_fault(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_placed: object) -> None:
        raise OptionError("the scheduler does not answer any more")

    monkeypatch.setattr(cluster, "wait", gone)
    with pytest.raises(OptionError, match="does not answer"):
        list(cluster.map_jobs(by_value(die_of_one), [2]))


def test_what_no_worker_is_needed_for_does_not_hold_up_what_is_finished(cluster: Cluster) -> None:
    def items() -> Iterator[int | Done[str]]:
        yield 7
        for _ in range(40):
            time.sleep(0.1)
            yield Done("here")

    found = list(cluster.map_jobs(by_value(die_of_one), items()))
    assert sorted(found)[0] == (0, 70)
    assert {result for index, result in found if index} == {"here"}
    # The job takes a tenth of a second, and the others take four seconds.
    assert found.index((0, 70)) < 35


def test_jobs_are_packed_a_few_at_a_time(
    everywhere: Everywhere, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed, most, done = 0, 0, 0

    def counted(job: Job, **more: Any) -> bytes:
        nonlocal packed, most
        packed += 1
        most = max(most, packed - done)
        return pack(job, **more)

    def after_job(_change: object) -> None:
        nonlocal done
        done += 1

    monkeypatch.setattr("gramstyle.batch.on_cluster.pack", counted)
    jobs = tuple(
        replace(job, output=job.output.with_stem(f"{job.output.stem}{n}"))
        for job in read()
        for n in range(4)
    )
    assert set(states(everywhere(jobs, on_change=after_job)).values()) == {"made"}
    assert packed == 16
    assert most <= 2 * 2


def test_a_worker_of_another_version_ends_the_batch_and_what_is_done_stays(
    cluster: Cluster, read: Read, folder: Path, tiny_model_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    jobs = read()
    here(jobs[:1], tiny_model_path)
    monkeypatch.setattr("gramstyle.batch.payload.installed_version", lambda: "9.9")
    with pytest.raises(OptionError, match=r"worker tcp://.* and this is 9\.9; install the same"):
        list(on_workers(jobs, cluster=cluster, model=tiny_model_path))
    assert [path.name for path in (folder / "out").iterdir()] == ["a.png"]


def test_when_a_batch_is_closed_its_workers_are_free(
    cluster: Cluster, folder: Path, read: Read, tiny_model_path: Path
) -> None:
    """Whoever's they are: the cluster itself is not closed."""
    jobs = read(iterations=ENDLESS)
    (folder / "photos/a.png").write_bytes(b"nonsense")
    working = on_workers(jobs, cluster=cluster, model=tiny_model_path)
    assert next(working).state == "failed"
    until(lambda: len(busy(cluster)) == 2)
    working.close()
    until(lambda: not busy(cluster))
    assert [path.name for path in (folder / "out").iterdir()] == []


def test_a_job_that_wants_a_cluster_itself_is_refused_before_anything_is_sent(
    cluster: Cluster, read: Read, tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "place_model", pytest.fail)
    for key in ('scheduler = "tcp://x:1"', "workers = 1"):
        with pytest.raises(OptionError, match=f"job 1: .* take {key.split()[0]} out of the job"):
            next(on_workers(read(f"{key}\n"), cluster=cluster, model=tiny_model_path))


SCHEDULER = """
import signal, sys
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", silence_logs=60,
                      dashboard_address="127.0.0.1:0") as cluster:
        print(cluster.scheduler_address, flush=True)
        signal.pause()
"""


def test_a_scheduler_that_is_gone_ends_the_batch_in_one_line_and_what_is_done_stays(
    own_cache: None,
    folder: Path,
    tiny_model_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (folder / "jobs.toml").write_text(
        '[defaults]\nstyle = "night.png"\noutput = "out/{content}.png"\nsize = 32\n'
        '[[jobs]]\ncontent = "photos/a.png"\niterations = 2\n'
        f'[[jobs]]\ncontent = "photos/[bcd].png"\niterations = {ENDLESS}\n'
    )
    (folder / "scheduler.py").write_text(SCHEDULER)
    with subprocess.Popen(
        [sys.executable, str(folder / "scheduler.py")],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as program:
        assert program.stdout is not None
        address = program.stdout.readline().strip()

        def kill() -> None:
            until(lambda: (folder / "out/a.png").exists())
            os.killpg(program.pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        file, model = str(folder / "jobs.toml"), str(tiny_model_path)
        code = main(["batch", file, "--scheduler", address, "--model", model])
        killer.join()
    out, err = capfd.readouterr()
    assert code == 2
    done, said = err.splitlines()
    assert done == "1/4 out/a.png: done"
    assert said.startswith(f"gramstyle: error: the scheduler at {address} does not answer any more")
    assert said.endswith("(1 of 4 images are there, to go on from)")
    assert out == ""
    assert [path.name for path in (folder / "out").iterdir()] == ["a.png"]


# The command


@pytest.fixture
def command(
    folder: Path, read: Read, tiny_model_path: Path, own_cache: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., int]:  # fmt: skip
    """Run `gramstyle batch jobs.toml` in the jobs file's folder."""
    read()
    monkeypatch.chdir(folder)
    return lambda *arguments: main(
        ["batch", "jobs.toml", "--model", str(tiny_model_path), *arguments]
    )


def test_the_command_does_the_jobs_on_workers_and_says_so_line_by_line(
    command: Callable[..., int], folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "photos/b.png").write_bytes(b"nonsense")
    assert command("--workers", "2", "--log", "log.jsonl") == 1
    out, err = capfd.readouterr()
    lines = sorted(line.partition(" ")[2] for line in err.splitlines())
    assert [line for line in lines if line.endswith(": done")] == [
        f"out/{letter}.png: done" for letter in "acd"
    ]
    assert lines[1].startswith("out/b.png: failed: worker tcp://")
    assert len(lines) == 4
    assert out.endswith(": 3 done, 0 were there, 1 failed\n")
    logged = [json.loads(line) for line in Path("log.jsonl").read_text().splitlines()]
    assert sorted(line["state"] for line in logged) == ["failed", "made", "made", "made"]


def free_port() -> int:
    with socket.socket() as there:
        there.bind(("127.0.0.1", 0))
        return int(there.getsockname()[1])


@pytest.mark.parametrize(
    ("arguments", "more", "words"),
    [
        (("--scheduler", "tcp://127.0.0.1:{port}"), "", "there is no Dask scheduler at tcp://127"),
        (("--workers", "2", "--jobs", "2"), "", "leave --jobs out, or give --workers instead"),
        (("--scheduler", "x:1", "--jobs", "1"), "", "leave --jobs out, or give --workers instead"),
        (("--workers", "0"), "", "workers must be at least 1, not 0"),
        (("--workers", "1", "--scheduler", "x:1"), "", "scheduler or workers, not both"),
        (("--workers", "1"), "workers = 1", "job 1: it asks for a cluster of its own"),
        (("--workers", "1"), 'scheduler = "x:1"', "take scheduler out of the job, or leave"),
        (("--jobs", "2"), "workers = 1", "take workers out of the job, or leave --jobs out"),
    ],
)
def test_a_cluster_that_cannot_be_is_one_line_and_nothing_is_written(
    command: Callable[..., int],
    folder: Path,
    read: Read,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    more: str,
    words: str,
) -> None:
    monkeypatch.setattr("gramstyle.cluster.client.ANSWER", 1.0)
    read(more)
    before = written(folder)
    port = free_port()
    assert command(*(a.format(port=port) for a in arguments), "--log", "log.jsonl") == 2
    out, err = capfd.readouterr()
    assert err.startswith("gramstyle: error: ")
    assert err.count("\n") == 1
    assert words in err
    assert out == ""
    assert written(folder) == before


def test_ctrl_c_is_one_line_and_repeating_goes_on(
    everywhere: Everywhere, folder: Path, read: Read, tiny_model_path: Path
) -> None:
    read(iterations=4 * LONG)
    # Python honours a SIGINT that its parent ignores, as shells' background jobs do.
    program = subprocess.Popen(
        [sys.executable, "-c",
         "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
         "import sys; from gramstyle.cli import main; sys.exit(main())",
         "batch", "jobs.toml", "--workers", "1", "--model", str(tiny_model_path)],
        cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    until(lambda: (folder / "out/a.png").exists())
    os.killpg(program.pid, signal.SIGINT)
    _, error = program.communicate(timeout=60)
    assert program.returncode == 130
    assert error.splitlines()[-1].endswith("of 4 images are there, to go on from)")
    assert all("done" in line for line in error.splitlines()[:-1])
    there = {path.stem for path in (folder / "out").iterdir()}
    assert "a" in there
    assert len(there) < 4
    assert states(everywhere(read(iterations=4 * LONG))) == {
        letter: "kept" if letter in there else "made" for letter in "abcd"
    }
