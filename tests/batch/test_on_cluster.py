"""Batches on a Dask cluster: the bits of the local images, whatever happens to the workers."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import PIL.Image
import psutil
import pytest

from gramstyle.batch import Job, Outcome, attempt, on_workers, one_by_one, run_jobs
from gramstyle.batch.payload import pack
from gramstyle.cli import main
from gramstyle.cluster.client import Cluster, Done, KilledWorkersError
from gramstyle.cluster.opening import open_cluster
from gramstyle.errors import OptionError
from gramstyle.images import read_settings
from workers import PATIENCE, PROGRAM, by_value, free_port, in_session, program, until

dask = pytest.importorskip("dask")
pytest.importorskip("distributed")

Jobs = Callable[..., tuple[Job, ...]]

# A job of the tiny network takes about 5 ms for each iteration.
LONG, ENDLESS = 60, 1_000_000

# A busy machine may take minutes to start a worker again.
HOUR = 3600


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Workers store the model and temporary files here, not in the user's folders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("temporary")))
        patch.delenv("GRAMSTYLE_MODEL", raising=False)
        yield


@pytest.fixture(scope="module")
def cluster(own_cache: None) -> Iterator[Cluster]:
    with open_cluster(workers=2, threads=1, patience=HOUR) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def both_workers(request: pytest.FixtureRequest) -> None:
    """Wait until the workers that a test before has killed are there again."""
    if "cluster" in request.fixturenames:
        cluster: Cluster = request.getfixturevalue("cluster")
        until(lambda: cluster.worker_count() == 2)


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


def test_the_images_and_their_settings_are_the_local_ones_bit_for_bit(
    everywhere: Everywhere, jobs_with: Jobs, tiny_model_path: Path
) -> None:
    jobs = jobs_with('init = "noise"\nstyle_layers = ["conv1_1", "conv3_1"]\n', iterations=20)
    outcomes = everywhere(jobs)
    assert states(outcomes) == dict.fromkeys("abcd", "done")
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


def test_an_image_is_reused_wherever_it_was_rendered(
    everywhere: Everywhere,
    cluster: Cluster,
    jobs_with: Jobs,
    tiny_model_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs = jobs_with()
    here(jobs[:2], tiny_model_path)
    assert states(everywhere(jobs)) == {"a": "reused", "b": "reused", "c": "done", "d": "done"}
    assert states(here(jobs, tiny_model_path)) == dict.fromkeys("abcd", "reused")
    # A machine with little memory uses tiles, as the settings say.
    small = replace(jobs[0], options=replace(jobs[0].options, memory=601_000_000, seed=1))
    assert states(everywhere((small,))) == {"a": "done"}
    assert settings_of(small)["tile"] is not None
    roomy = replace(jobs[0], options=replace(jobs[0].options, seed=1))
    assert attempt(roomy, model=tiny_model_path).state == "reused"
    # Nothing is sent for an image that is here.
    monkeypatch.setattr(cluster, "submit", pytest.fail)
    assert states(everywhere((roomy, *jobs[1:]))) == dict.fromkeys("abcd", "reused")


def test_a_job_uses_its_own_threads_or_the_clusters_or_its_workers(
    cluster: Cluster, jobs_with: Jobs, tiny_model_path: Path
) -> None:
    two, own, workers, _ = jobs_with()
    own = replace(own, options=replace(own.options, threads=3))
    joined = Cluster(cluster._client, "here", threads=2)
    assert states(tuple(on_workers([two, own], cluster=joined, model=tiny_model_path))) == {
        "a": "done",
        "b": "done",
    }
    joined.threads = None  # as if dask worker had been started with a number
    for _ in on_workers([workers], cluster=joined, model=tiny_model_path):
        pass
    assert [settings_of(job)["threads"] for job in (two, own, workers)] == [2, 3, 1]


def test_a_job_has_the_engine_of_this_installation(
    jobs_with: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default of the worker could be another engine, which gives another image."""
    monkeypatch.setattr("gramstyle.run.options.default_engine", lambda _device: "hybrid")
    with zipfile.ZipFile(io.BytesIO(pack(jobs_with()[0], network=""))) as payload:
        assert json.loads(payload.read("header.json"))["options"]["engine"] == "hybrid"


# What goes wrong


def test_a_bad_job_does_not_stop_the_others(
    everywhere: Everywhere, folder: Path, jobs_with: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = jobs_with()
    (folder / "photos/a.png").write_bytes(b"nonsense")
    (folder / "photos/b.png").unlink()  # since the file was read
    (folder / "out/c.png").write_bytes((folder / "night.png").read_bytes())  # a foreign image
    outcomes = everywhere(jobs)
    assert states(outcomes) == {"a": "failed", "b": "failed", "c": "failed", "d": "done"}
    reasons = {outcome.job.output.stem: outcome.reason for outcome in outcomes}
    assert "worker tls://" in reasons["a"]
    assert f"cannot read '{folder}/photos/a.png': it is not an image" in reasons["a"]
    assert reasons["b"] == f"cannot read {folder}/photos/b.png: No such file or directory; " \
        "check the path"  # fmt: skip
    assert "is not one of this batch's images" in reasons["c"]
    assert not any("\n" in reason or "bug" in reason for reason in reasons.values())
    assert (folder / "out/c.png").read_bytes() == (folder / "night.png").read_bytes()


def busy(cluster: Cluster) -> list[int]:
    """Return the processes that do a job now."""

    def pid_if_busy() -> int:
        from gramstyle.cluster import worker as remote

        return os.getpid() if remote._ONE_AT_A_TIME.locked() else 0

    return [pid for pid in cluster._client.run(pid_if_busy).values() if pid]


def test_the_job_of_a_killed_worker_is_repeated(
    cluster: Cluster, jobs_with: Jobs, folder: Path, tiny_model_path: Path
) -> None:
    def die_in_a_job() -> int:
        import threading

        from gramstyle.cluster import worker as remote

        class Deadly:
            def __enter__(self) -> None:
                threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGKILL)).start()

            def __exit__(self, *_: object) -> None:
                pass

        remote._ONE_AT_A_TIME = Deadly()  # type: ignore[assignment]
        return os.getpid()

    victim = next(iter(cluster._client.nthreads()))
    (pid,) = cluster._client.run(die_in_a_job, workers=[victim]).values()
    jobs = jobs_with(iterations=LONG)
    outcomes = tuple(on_workers(jobs, cluster=cluster, model=tiny_model_path))
    until(lambda: not psutil.pid_exists(pid))
    assert states(outcomes) == dict.fromkeys("abcd", "done")
    there = pixels(jobs)
    assert {path.name for path in (folder / "out").iterdir()} == {f"{n}.png" for n in "abcd"}
    remove(jobs)
    here(jobs, tiny_model_path)
    assert pixels(jobs) == there


def die_of_one(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.1)
    return 10 * number


def test_only_the_job_that_kills_every_worker_fails(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask blames all tasks that a dying worker had, begun or not."""
    # Two deaths are enough; by default it is four.
    monkeypatch.setattr(cluster._client.cluster.scheduler, "allowed_failures", 1)
    results = dict(cluster.map_jobs(by_value(die_of_one), [1, 2, 3]))
    assert (results[1], results[2]) == (20, 30)
    assert type(results[0]) is KilledWorkersError
    assert "2 workers have died while they ran the same task; if their memory" in str(results[0])


def test_a_lost_cluster_is_not_the_failure_of_a_job(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_placed: object) -> None:
        raise OptionError("the scheduler does not answer any more")

    monkeypatch.setattr(cluster, "wait", gone)
    with pytest.raises(OptionError, match="does not answer"):
        list(cluster.map_jobs(by_value(die_of_one), [2]))


def test_items_that_need_no_worker_do_not_delay_finished_ones(cluster: Cluster) -> None:
    found: list[tuple[int, Any]] = []

    def items() -> Iterator[int | Done[str]]:
        yield 7
        deadline = time.monotonic() + 300
        while (0, 70) not in found:
            assert time.monotonic() < deadline  # its result would be the last
            time.sleep(0.1)
            yield Done("here")

    for result in cluster.map_jobs(by_value(die_of_one), items()):
        found.append(result)  # noqa: PERF402 - items() reads the list meanwhile
    assert {result for index, result in found if index} == {"here"}


def test_jobs_are_packed_a_few_at_a_time(
    everywhere: Everywhere, jobs_with: Jobs, monkeypatch: pytest.MonkeyPatch
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
        for job in jobs_with()
        for n in range(4)
    )
    assert set(states(everywhere(jobs, on_change=after_job)).values()) == {"done"}
    assert packed == 16
    assert most <= 2 * 2


def test_a_worker_of_another_version_ends_the_batch_and_finished_images_stay(
    cluster: Cluster, jobs_with: Jobs, folder: Path, tiny_model_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    jobs = jobs_with()
    here(jobs[:1], tiny_model_path)
    monkeypatch.setattr("gramstyle.batch.payload.installed_version", lambda: "9.9")
    with pytest.raises(OptionError, match=r"worker tls://.* and this is 9\.9; install the same"):
        list(on_workers(jobs, cluster=cluster, model=tiny_model_path))
    assert [path.name for path in (folder / "out").iterdir()] == ["a.png"]


def test_closing_a_batch_frees_its_workers(
    cluster: Cluster, folder: Path, jobs_with: Jobs, tiny_model_path: Path
) -> None:
    jobs = jobs_with(iterations=ENDLESS)
    (folder / "photos/a.png").write_bytes(b"nonsense")
    working = on_workers(jobs, cluster=cluster, model=tiny_model_path)
    assert next(working).state == "failed"
    until(lambda: len(busy(cluster)) == 2)
    working.close()
    until(lambda: not busy(cluster))
    assert [path.name for path in (folder / "out").iterdir()] == []


def test_a_job_that_asks_for_a_cluster_is_refused_before_anything_is_sent(
    cluster: Cluster, jobs_with: Jobs, tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "place_model", pytest.fail)
    (job, *_) = jobs_with()
    for key, value in {"scheduler": "tcp://x:1", "workers": 1}.items():
        asking = replace(job, options=replace(job.options, **{key: value}))  # type: ignore[arg-type]
        with pytest.raises(OptionError, match=f"job 1: .* remove {key} from the job"):
            next(on_workers([asking], cluster=cluster, model=tiny_model_path))


# A job of two iterations, then three others.
ONE_SHORT = """
[defaults]
style = "night.png"
output = "out/{{content}}.png"
size = 32
[[jobs]]
content = "photos/a.png"
iterations = 2
[[jobs]]
content = "photos/[bcd].png"
iterations = {iterations}
"""

SCHEDULER = """
import signal, sys
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", silence_logs=60,
                      dashboard_address="127.0.0.1:0") as cluster:
        print(cluster.scheduler_address, flush=True)
        signal.pause()
"""


def test_a_lost_scheduler_ends_the_batch_in_one_line_and_finished_images_stay(
    own_cache: None,
    folder: Path,
    tiny_model_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (folder / "jobs.toml").write_text(ONE_SHORT.format(iterations=ENDLESS))
    (folder / "scheduler.py").write_text(SCHEDULER)
    with program(
        [sys.executable, str(folder / "scheduler.py")],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as scheduler:
        address = scheduler.stdout.readline().strip()

        def kill() -> None:
            until(lambda: (folder / "out/a.png").exists())
            os.killpg(scheduler.pid, signal.SIGKILL)

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
    assert said.endswith("(1 of 4 images are finished; repeat the command to resume)")
    assert out == ""
    assert [path.name for path in (folder / "out").iterdir()] == ["a.png"]


# The command


@pytest.fixture
def command(
    folder: Path, jobs_with: Jobs, tiny_model_path: Path, own_cache: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., int]:  # fmt: skip
    """Run `gramstyle batch jobs.toml` in the jobs file's folder."""
    (folder / "photos/readme.txt").unlink()  # the command says that it is no image
    jobs_with()
    monkeypatch.chdir(folder)
    return lambda *arguments: main(
        ["batch", "jobs.toml", "--model", str(tiny_model_path), *arguments]
    )


def test_the_command_does_the_jobs_on_workers_and_prints_a_line_for_each(
    command: Callable[..., int], folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "photos/b.png").write_bytes(b"nonsense")
    assert command("--workers", "2", "--log", "log.jsonl") == 1
    out, err = capfd.readouterr()
    lines = sorted(line.partition(" ")[2] for line in err.splitlines())
    assert [line for line in lines if line.endswith(": done")] == [
        f"out/{letter}.png: done" for letter in "acd"
    ]
    assert lines[1].startswith("out/b.png: failed: worker tls://")
    assert len(lines) == 4
    assert out.endswith(": 3 done, 0 reused, 1 failed\n")
    logged = [json.loads(line) for line in Path("log.jsonl").read_text().splitlines()]
    assert sorted(line["state"] for line in logged) == ["done", "done", "done", "failed"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--scheduler", "tcp://127.0.0.1:{port}"), "there is no Dask scheduler at tcp://127"),
        (("--workers", "2", "--jobs", "2"), "leave --jobs out, or give --workers instead"),
        (("--scheduler", "x:1", "--jobs", "1"), "leave --jobs out, or give --workers instead"),
        (("--workers", "0"), "workers must be at least 1, not 0"),
        (("--workers", "1", "--scheduler", "x:1"), "scheduler or workers, not both"),
    ],
)
def test_an_impossible_cluster_is_an_error_in_one_line_and_nothing_is_written(
    command: Callable[..., int],
    folder: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    words: str,
) -> None:
    monkeypatch.setattr("gramstyle.cluster.remote.ANSWER", 1.0)
    before = written(folder)
    port = free_port()
    assert command(*(a.format(port=port) for a in arguments), "--log", "log.jsonl") == 2
    out, err = capfd.readouterr()
    assert err.startswith("gramstyle: error: ")
    assert err.count("\n") == 1
    assert words in err
    assert out == ""
    assert written(folder) == before


def test_ctrl_c_is_one_line_and_the_repeated_command_resumes(
    everywhere: Everywhere, folder: Path, read: Callable[[str], Any], tiny_model_path: Path
) -> None:
    read(ONE_SHORT.format(iterations=ENDLESS))
    with program(
        [*PROGRAM, "batch", "jobs.toml", "--workers", "1", "--model", str(tiny_model_path)],
        cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as running:  # fmt: skip
        until(lambda: (folder / "out/a.png").exists())
        os.killpg(running.pid, signal.SIGINT)
        _, error = running.communicate(timeout=PATIENCE)
    assert running.returncode == 130
    stopped = error.splitlines()
    assert stopped[:-1] in ([], ["1/4 out/a.png: done"])
    assert stopped[-1].endswith("of 4 images are finished; repeat the command to resume)")
    assert [path.name for path in (folder / "out").iterdir()] == ["a.png"]
    until(lambda: not in_session(running.pid))
    assert states(everywhere(read(ONE_SHORT.format(iterations=2)))) == {
        "a": "reused", "b": "done", "c": "done", "d": "done"
    }  # fmt: skip
