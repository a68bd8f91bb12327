"""Doing the jobs: one by one and side by side, and what stops a job or a batch."""

import multiprocessing
import os
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from gramstyle.batch import (
    Change,
    Execute,
    Job,
    Outcome,
    attempt,
    execute,
    one_by_one,
    run_jobs,
    side_by_side,
)
from gramstyle.batch.execute import Outcomes
from gramstyle.core.arrays import Array
from gramstyle.engines.winograd import blocks, kernel_panels
from gramstyle.errors import GramstyleError, OptionError
from gramstyle.images import read_settings
from gramstyle.run.transfer import Progress, transfer

Jobs = Callable[..., tuple[Job, ...]]


@pytest.fixture
def here(tiny_model_path: Path) -> Execute:
    return partial(one_by_one, model=tiny_model_path)


@pytest.fixture
def two_at_once(tiny_model_path: Path) -> Execute:
    return partial(side_by_side, model=tiny_model_path, at_once=2)


def written(folder: Path) -> set[str]:
    return {path.name for path in (folder / "out").iterdir()}


def test_a_job_is_the_transfer_with_the_same_options_and_carries_its_settings(
    job: Job, tiny_model_path: Path
) -> None:
    outcome = attempt(job, model=tiny_model_path)
    expected = transfer(job.content, job.style, job.options, model=tiny_model_path)
    with PIL.Image.open(job.output) as image:
        assert image.tobytes() == expected.image.tobytes()
    assert outcome.state == "done"
    assert outcome.loss == expected.record.summary["loss"]
    assert outcome.reason == expected.record.reason
    found = read_settings(job.output)
    assert found is not None
    assert found["content"]["name"] == "a.png"
    assert found["result"]["iterations"] == 2


def test_callbacks_hear_of_every_job_and_every_iteration(
    jobs_with: Jobs, tiny_model_path: Path
) -> None:
    jobs, seen, iterations = jobs_with(photos="[ab].png"), list[Change](), list[tuple[str, int]]()

    def count(job: Job, progress: Progress) -> None:
        iterations.append((job.name, progress.losses.iteration))

    execute = partial(one_by_one, model=tiny_model_path, callback=count)
    outcomes = run_jobs(jobs, execute=execute, on_change=seen.append)
    assert [(change.done, change.jobs) for change in seen] == [(1, 2), (2, 2)]
    assert tuple(change.outcome for change in seen) == outcomes
    assert [outcome.job for outcome in outcomes] == list(jobs)
    assert iterations == [(job.name, i) for job in jobs for i in (1, 2)]


def test_a_batch_that_was_stopped_resumes_with_the_missing_jobs(
    folder: Path, jobs_with: Jobs, here: Execute
) -> None:
    jobs = jobs_with()

    def stop(change: Change) -> None:
        if change.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, execute=here, on_change=stop)
    assert written(folder) == {"a.png", "b.png"}
    times = {path: path.stat().st_mtime_ns for path in (folder / "out").iterdir()}
    outcomes = run_jobs(jobs_with(), execute=here)
    assert [outcome.state for outcome in outcomes] == ["reused", "reused", "done", "done"]
    assert {path: path.stat().st_mtime_ns for path in times} == times
    again = run_jobs(jobs, execute=here)
    assert [(outcome.state, outcome.loss) for outcome in again] == [
        ("reused", outcome.loss) for outcome in outcomes
    ]


def test_ctrl_c_during_a_job_is_not_an_outcome_and_leaves_no_file(
    folder: Path, job: Job, tiny_model_path: Path
) -> None:
    def stop(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(job, model=tiny_model_path, callback=stop)
    assert written(folder) == set()


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("nonsense", "is not an image of a known format"),
        ("tiny", "too small"),
        ("overflow", "not finite"),
        ("gone", "there is no such file"),
    ],
)
def test_one_bad_job_does_not_stop_the_others(
    folder: Path, jobs_with: Jobs, here: Execute, trouble: str, words: str
) -> None:
    first, second, third, _ = jobs_with()
    bad = folder / "photos/b.png"
    if trouble == "nonsense":
        bad.write_bytes(b"nonsense")
    elif trouble == "tiny":
        PIL.Image.new("RGB", (32, 1)).save(bad)
    elif trouble == "gone":
        bad.unlink()
    else:
        second = replace(second, options=replace(second.options, beta=1e308, iterations=50))
    with np.errstate(all="ignore"):  # as the program does
        outcomes = run_jobs((first, second, third), execute=here)
    assert [outcome.state for outcome in outcomes] == ["done", "failed", "done"]
    reason = outcomes[1].reason
    assert words in reason
    assert "bug" not in reason
    assert "\n" not in reason
    assert written(folder) == {"a.png", "c.png"}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "not enough memory"),
        (ValueError("two\nlines"), "ValueError: two lines; this is a bug in gramstyle"),
    ],
)
def test_an_unexpected_error_is_an_outcome_too(
    job: Job, tiny_model_path: Path, error: Exception, words: str
) -> None:
    def fail(_progress: Progress) -> None:
        raise error

    outcome = attempt(job, model=tiny_model_path, callback=fail)
    assert outcome.state == "failed"
    assert words in outcome.reason
    assert str(outcome.error)


class Fatal(type(Path())):  # type: ignore[misc]
    """A path that ends the process that reads from it."""

    def __fspath__(self) -> str:
        os._exit(9)


def test_several_at_once_render_the_same_images_and_a_bad_job_or_a_dead_process_stops_nothing(
    jobs_with: Jobs, here: Execute, two_at_once: Execute
) -> None:
    first, second, third, fourth = jobs_with()
    run_jobs([first, second], execute=here)
    expected = {job: PIL.Image.open(job.output).tobytes() for job in (first, second)}
    for job in (first, second):
        job.output.unlink()
    dies = replace(third, content=Fatal(third.content))
    fails = replace(fourth, content=fourth.content.with_name("readme.txt"))
    jobs = [dies, fails, first, second]
    outcomes = {outcome.job.name: outcome for outcome in run_jobs(jobs, execute=two_at_once)}
    assert {job.name: outcomes[job.name].job for job in jobs} == {job.name: job for job in jobs}
    assert "its process ended with code 9" in outcomes[dies.name].reason
    assert "is not an image of a known format" in outcomes[fails.name].reason
    assert {job: PIL.Image.open(job.output).tobytes() for job in (first, second)} == expected


def test_the_jobs_that_are_missing_share_the_cores(
    jobs_with: Jobs, here: Execute, tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = jobs_with(iterations=1)
    given: list[int | None] = []

    def in_this_process(
        _work: object, jobs: list[Job], *, at_once: int
    ) -> Iterator[tuple[Job, Outcome]]:
        given.extend(job.options.threads for job in jobs)
        yield from ((job, Outcome(job, "done", 0.0, "")) for job in jobs)

    monkeypatch.setattr(execute, "available_threads", lambda: 8)
    monkeypatch.setattr(execute, "each_in_a_process", in_this_process)
    for at_once in (2, 3, 8):
        run_jobs(jobs, execute=partial(side_by_side, model=tiny_model_path, at_once=at_once))
    run_jobs(jobs[1:], execute=here)
    own = replace(jobs[1], options=replace(jobs[1].options, threads=5, seed=1))
    run_jobs(jobs, execute=partial(side_by_side, model=tiny_model_path, at_once=8))
    run_jobs([own], execute=partial(side_by_side, model=tiny_model_path, at_once=8))
    assert given == [4] * 4 + [2] * 4 + [2] * 4 + [8] + [5]


def test_a_batch_that_is_stopped_closes_its_executor(jobs_with: Jobs) -> None:
    closed: list[bool] = []

    def execute(jobs: tuple[Job, ...], /) -> Outcomes:
        try:
            for job in jobs:
                yield Outcome(job, "done", 0.0, "")
        finally:
            closed.append(True)

    def stop(change: Change) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs_with(), execute=execute, on_change=stop)
    assert closed == [True]


def test_closing_side_by_side_ends_its_processes(jobs_with: Jobs, two_at_once: Execute) -> None:
    others = set(multiprocessing.active_children())  # workers of a cluster that tests share
    # So many iterations that the second is at work when the first has failed.
    bad, good, *_ = jobs_with(iterations=1_000_000)
    working = two_at_once([replace(bad, content=bad.content.with_name("readme.txt")), good])
    assert next(working).state == "failed"
    assert len(set(multiprocessing.active_children()) - others) == 1
    working.close()
    assert set(multiprocessing.active_children()) <= others


def test_fewer_than_one_at_once_is_refused(job: Job, tiny_model_path: Path) -> None:
    with pytest.raises(OptionError, match="at least 1, not 0"):
        next(side_by_side([job], model=tiny_model_path, at_once=0))


def test_jobs_and_outcomes_can_be_pickled(job: Job) -> None:
    outcome = Outcome(job, "done", 1.0, "", 2.0)
    assert pickle.loads(pickle.dumps(outcome)) == outcome  # noqa: S301 - our own


def test_jobs_one_by_one_share_what_is_computed_from_the_network_alone(
    jobs_with: Jobs, here: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    arranged: list[tuple[int, ...]] = []

    def counted(W: Array) -> Array:
        arranged.append(W.shape)
        return kernel_panels.by_taps(W)

    monkeypatch.setattr(blocks, "by_taps", counted)
    jobs = jobs_with('engine = "winograd"', iterations=1)
    outcomes = run_jobs(jobs, execute=here)
    assert [outcome.state for outcome in outcomes] == ["done"] * 4
    assert len(arranged) == 12  # once for each convolution from conv1_2 to conv5_1


def test_two_batches_do_not_render_into_one_folder(
    jobs_with: Jobs, here: Execute, folder: Path
) -> None:
    first, second = jobs_with(photos="[ab].png")
    second = replace(second, output=folder / "photos/new.png")
    refused: list[str] = []

    def meet(_: Change) -> None:
        for job in (first, second):  # each folder of the batch is its own
            with pytest.raises(GramstyleError) as caught:
                run_jobs([job], execute=here)
            refused.append(str(caught.value))

    run_jobs([first, second], execute=here, on_change=meet)
    assert len(refused) == 4
    assert f"another process (process id {os.getpid()}) renders into" in refused[0]
    assert written(folder) == {"a.png"}
    assert run_jobs([first], execute=here)[0].state == "reused"


def test_a_batch_of_more_folders_than_open_files_is_possible(job: Job, folder: Path) -> None:
    jobs = []
    for number in range(execute.MAX_LOCKS + 50):
        (folder / f"out/{number}").mkdir()
        jobs.append(replace(job, output=folder / f"out/{number}/a.png"))

    def count(_: object) -> Outcomes:
        held.append(len(list(folder.glob("out/*/.gramstyle.lock"))))
        yield from ()

    held: list[int] = []
    assert run_jobs(jobs, execute=count) == ()
    assert held == [execute.MAX_LOCKS]
    assert not list(folder.glob("out/*/.gramstyle.lock"))


def test_a_file_that_appears_during_the_run_is_not_overwritten(job: Job, here: Execute) -> None:
    def appear(*_: object) -> None:
        job.output.write_bytes(job.content.read_bytes())  # type: ignore[union-attr]

    (outcome,) = run_jobs([job], execute=partial(here, callback=appear))
    assert outcome.state == "failed"
    assert "is not one of this batch's images and would be overwritten" in outcome.reason
    assert job.output.read_bytes() == job.content.read_bytes()  # type: ignore[union-attr]
