"""One job in its folder: the same image as a transfer, also after an interruption."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from gramstyle.images import read_settings
from gramstyle.run.open_model import OpenModel
from gramstyle.run.records.reading import read_record
from gramstyle.run.transfer import Options, transfer
from gramstyle.serve.folder import JobFiles
from gramstyle.serve.job import Request
from gramstyle.serve.rendering import Ended, InterruptedJobError, Order, run_job
from gramstyle.serve.reporting import Preview, Report, Stop
from serve_parts import encoded

MACHINE = {"threads": 1, "engine": "numpy"}


@pytest.fixture
def model(tiny_model_path: Path) -> Iterator[OpenModel]:
    with OpenModel(tiny_model_path) as opened:
        yield opened


@pytest.fixture
def order(tmp_path: Path) -> Callable[..., Order]:
    for name, seed in (("content", 1), ("style", 2)):
        (tmp_path / name).write_bytes(encoded(seed=seed))

    def call(seconds: float = 1e6, saving: float = 1e6, **options: Any) -> Order:
        request = Request(
            content=str(tmp_path / "content"),
            styles=(str(tmp_path / "style"),),
            options={"size": 32, "iterations": 8, **options},
        )
        folder = tmp_path / "job"
        return Order(
            folder=folder, request=request, machine=MACHINE, seconds=seconds, saving=saving
        )

    return call


def pixels(path: Path) -> Any:
    return np.asarray(PIL.Image.open(path))


def run(
    order: Order, model: OpenModel, stop: Callable[[int], Stop | None] = lambda _: None
) -> tuple[Ended, list[Report | Preview]]:
    """Run a job; `stop` gets the number of iterations so far in this attempt."""
    told: list[Report | Preview] = []
    iterations = iter(range(1, 1000))
    ended = run_job(order, model=model, tell=told.append, stop=lambda: stop(next(iterations)))
    return ended, told


def test_a_job_makes_the_image_of_a_transfer(
    order: Callable[..., Order], model: OpenModel, tmp_path: Path
) -> None:
    ended, told = run(order(), model)
    options = Options(size=32, iterations=8, threads=1, engine="numpy")
    image = transfer(tmp_path / "content", tmp_path / "style", options, model=model).image
    files = JobFiles(order().folder)
    assert np.array_equal(pixels(files.image), np.asarray(image))
    assert ended.reason == "all iterations done"
    assert read_settings(files.image) is None, "the stored image has no metadata"
    assert any(isinstance(each, Preview) for each in told)


def test_the_reported_points_are_those_of_the_log_and_their_terms_add_up(
    order: Callable[..., Order], model: OpenModel
) -> None:
    _, told = run(order(), model)
    points = [point for each in told if isinstance(each, Report) for point in each.points]
    logged = read_record(JobFiles(order().folder).log)
    assert [(n, loss) for n, loss, _ in points] == [(p.iteration, p.total) for p in logged]
    for _, loss, terms in points:
        assert sum(terms.values()) == pytest.approx(loss, rel=1e-12)  # a sum of two float64


@pytest.mark.parametrize("saving", [0.0, 1e6])
def test_an_interrupted_job_continues_to_the_same_bits(
    order: Callable[..., Order], model: OpenModel, saving: float, tmp_path: Path
) -> None:
    run(order(), model)
    whole = JobFiles(order().folder).image.read_bytes()
    JobFiles(order().folder).folder.rename(tmp_path / "whole")
    for _ in range(2):  # once from the start, once from a checkpoint
        with pytest.raises(InterruptedJobError):
            run(order(saving=saving), model, lambda n: "shutdown" if n == 3 else None)
    _, told = run(order(), model)
    files = JobFiles(order().folder)
    assert files.image.read_bytes() == whole
    first = next(each for each in told if isinstance(each, Report))
    assert first.points[0][0] == 0 or first.points[0][0] == 1, "all points of the run so far"
    assert not files.checkpoint.exists()


def test_a_cancelled_job_keeps_its_image_so_far(
    order: Callable[..., Order], model: OpenModel
) -> None:
    ended, _ = run(order(), model, lambda n: "cancel" if n == 3 else None)
    assert (ended.stop, ended.reason, ended.has_image) == ("cancel", "cancelled", True)
    assert ended.standing.iteration == 3
    assert pixels(JobFiles(order().folder).image).shape == (24, 32, 3)


def test_a_job_ends_at_its_time_limit_with_its_image(
    order: Callable[..., Order], model: OpenModel
) -> None:
    ended, _ = run(order(seconds=0.0), model)
    assert (ended.reason, ended.has_image) == ("stopped at the time limit", True)
    assert ended.standing.iteration == 1


def test_a_job_that_has_ended_is_not_run_again(
    order: Callable[..., Order], model: OpenModel
) -> None:
    first, _ = run(order(), model)
    again, told = run(order(), model)
    assert again == first
    assert not told


def test_a_job_with_a_damaged_checkpoint_begins_again(
    order: Callable[..., Order], model: OpenModel
) -> None:
    with pytest.raises(InterruptedJobError):
        run(order(), model, lambda n: "shutdown" if n == 3 else None)
    files = JobFiles(order().folder)
    (files.checkpoint / "manifest.json").write_text("{}")
    ended, _ = run(order(), model)
    assert ended.reason == "all iterations done"


def test_a_job_that_cannot_run_has_a_problem_of_one_line_without_paths(
    order: Callable[..., Order], model: OpenModel, tmp_path: Path
) -> None:
    ended, _ = run(order(size=4), model)  # too small for five poolings
    assert not ended.has_image
    assert ended.problem
    assert "\n" not in ended.problem
    assert str(tmp_path) not in ended.problem


def test_a_job_with_a_damaged_state_begins_again(
    order: Callable[..., Order], model: OpenModel
) -> None:
    with pytest.raises(InterruptedJobError):
        run(order(), model, lambda n: "shutdown" if n == 3 else None)
    (state,) = JobFiles(order().folder).checkpoint.glob("state-*.npz")
    state.write_bytes(state.read_bytes()[:-10])
    ended, _ = run(order(), model)
    assert ended.reason == "all iterations done"


def test_a_job_whose_end_is_not_legible_is_run_again(
    order: Callable[..., Order], model: OpenModel
) -> None:
    first, _ = run(order(), model)
    JobFiles(order().folder).ended.write_bytes(b"{")
    again, told = run(order(), model)
    assert told
    assert again.reason == first.reason


def test_a_job_whose_files_cannot_be_written_or_read_names_none_of_them(
    order: Callable[..., Order], model: OpenModel, tmp_path: Path
) -> None:
    JobFiles(order().folder).image.mkdir(parents=True)  # in the place of the result
    ended, _ = run(order(), model)
    assert ended.problem == (
        "the server could not read or write the files of the job; its disk may be full"
    )
    (tmp_path / "content").unlink()
    ended, _ = run(order(), model)
    assert ended.problem.startswith("cannot read the content image: ")
    assert str(tmp_path) not in ended.problem


def test_a_job_whose_folder_cannot_be_made_fails_with_one_sentence(
    order: Callable[..., Order], model: OpenModel
) -> None:
    lost = order()
    lost.folder.write_bytes(b"a file")
    assert run(lost, model)[0].problem == (
        "the server could not read or write the files of the job; its disk may be full"
    )
