"""Runs of several scales: their sizes and iterations, and how one leads to the next."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageFile
import pytest

from gramstyle.cli import main
from gramstyle.core.arrays import Array
from gramstyle.errors import OptionError
from gramstyle.images import from_pil, write_image
from gramstyle.optimise.lbfgsb import PairsInMemory
from gramstyle.run.options import Options
from gramstyle.run.plan import RunPlan, plan_run
from gramstyle.run.plan.scales import edges, scales_of
from gramstyle.run.records.reading import read_record
from gramstyle.run.state import RunState
from gramstyle.run.transfer import Progress, execute, transfer


@pytest.fixture
def images(rng: np.random.Generator) -> tuple[Array, Array]:
    photograph = rng.integers(0, 256, (60, 80, 3)).astype(np.uint8)
    return photograph, rng.integers(0, 256, (70, 80, 3)).astype(np.uint8)


def options(**given: object) -> Options:
    return Options(**{"size": 80, "scales": 2, "iterations": 12, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "found"),
    [
        (160, (160,)),
        (225, (225,)),
        (226, (160, 226)),
        (512, (181, 256, 362, 512)),
        (1024, (181, 256, 362, 512, 724, 1024)),
    ],
)
def test_sizes_halve_their_pixels_down_to_160(size: int, found: tuple[int, ...]) -> None:
    assert edges(size, first=160) == found


def test_there_are_as_many_scales_as_asked_for_and_no_image_too_small_for_the_network() -> None:
    assert edges(512, 3, first=160) == (256, 362, 512)
    assert edges(4096, 1, first=160) == (4096,)
    with pytest.raises(OptionError, match="--scales 2, or fewer"):
        scales_of(80, iterations=10, scales=3, first=160, shorter=60)


@pytest.mark.parametrize(
    ("size", "iterations", "found"),
    [
        (160, 100, [100]),
        (256, 100, [100, 40]),
        (512, 100, [100, 20, 20, 40]),
        (1024, 100, [100, 20, 20, 20, 10, 40]),
        (2048, 100, [100, 20, 20, 20, 10, 10, 10, 25]),
        (8192, 100, [100, 20, 20, 20, *[10] * 7, 10]),
        (1024, 4, [4, 4, 4, 4, 4, 4]),
    ],
)
def test_the_first_scale_has_all_iterations_and_the_last_fewer_as_it_grows_but_ten_at_least(
    size: int, iterations: int, found: list[int]
) -> None:
    planned = scales_of(size, iterations=iterations, first=160, shorter=size * 3 // 4)
    assert [scale.iterations for scale in planned] == found


class Saved:
    """A saver that keeps the states in memory."""

    def __init__(
        self, every: int = 100, copy: Callable[[RunState], RunState] | None = None
    ) -> None:
        self.every = every
        self.states: list[RunState] = []
        self._copy = copy

    def save(self, state: RunState) -> None:
        self.states.append(state if self._copy is None else self._copy(state))


def test_a_run_of_one_scale_says_nothing_of_scales(
    images: tuple[Array, Array], tiny_model_path: Path
) -> None:
    record = execute(plan_run(*images, options(scales=1), model=tiny_model_path)).record
    assert record.settings.scale_edges == ()
    assert {each.scale for each in record.losses} == {0}


def test_each_image_is_decoded_once_and_the_model_is_read_once_whatever_the_scales(
    images: tuple[Array, Array],
    tiny_model_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = transfer_command(images, tmp_path, tiny_model_path)
    opened = list[str]()
    original = Path.open

    def counted(path: Path, mode: str = "r", *more: Any, **other: Any) -> Any:
        if "r" in mode:
            opened.append(path.name)
        return original(path, mode, *more, **other)

    monkeypatch.setattr(Path, "open", counted)
    decoded = list[str]()
    load = PIL.ImageFile.ImageFile.load

    def loaded(image: PIL.ImageFile.ImageFile) -> Any:
        if image.tile:  # there is something left to decode
            decoded.append({(80, 60): "photo", (80, 70): "painting"}[image.size])
        return load(image)

    monkeypatch.setattr(PIL.ImageFile.ImageFile, "load", loaded)
    assert main([*arguments, "--init", str(tmp_path / "painting.png")]) == 0
    # The style image is the start as well: two roles, each decoded once.
    assert Counter(decoded) == {"photo": 1, "painting": 2}
    assert opened.count(tiny_model_path.name) == 1

    decoded.clear()
    opened.clear()
    photo, painting = tmp_path / "photo.png", tmp_path / "painting.png"
    transfer(photo, painting, options(), model=tiny_model_path)
    assert Counter(decoded) == {"photo": 1, "painting": 1}
    assert opened.count(tiny_model_path.name) == 1


def test_a_scale_starts_from_the_image_of_the_one_before(
    images: tuple[Array, Array], tiny_model_path: Path
) -> None:
    saved = Saved()
    asked = options(optimiser="own")
    result = execute(plan_run(*images, asked, model=tiny_model_path), saver=saved)
    ends = [state for state in saved.states if state.ended]
    assert [state.x.shape for state in ends] == [(3, 43, 57), (3, 60, 80)]
    first = ends[0].x.transpose(1, 2, 0).astype(np.float32) / np.float32(255)
    second = options(scales=1, iterations=10, init=first, optimiser="own")
    alone = execute(plan_run(*images, second, model=tiny_model_path))
    assert np.array_equal(alone.image, result.image)
    found = [(each.scale, each.iteration) for each in result.record.losses]
    assert found == [(0, i) for i in range(13)] + [(1, i) for i in range(13, 23)]
    assert result.record.losses[-1].evaluations == ends[-1].evaluations
    assert result.record.settings.scale_edges == (57, 80)
    assert result.record.best == result.record.losses[-1].iteration


def test_a_stop_by_the_callback_ends_the_run_at_its_scale(
    images: tuple[Array, Array], tiny_model_path: Path
) -> None:
    def stop(progress: Progress) -> bool:
        return progress.losses.iteration == 5

    image, record = transfer(*images, options(), model=tiny_model_path, callback=stop)
    assert image.size == (57, 43)
    assert record.losses[-1].iteration == 5
    assert record.reason == "stopped by the caller"


@pytest.mark.parametrize("stop", [3, 12, 17])
@pytest.mark.parametrize("more", [{}, {"tile": 48}, {"engine": "numpy"}])
def test_a_run_continues_from_a_saved_state_bit_by_bit(
    stop: int, more: dict[str, object], images: tuple[Array, Array], tiny_model_path: Path
) -> None:
    asked = options(optimiser="own", **more)

    def plan() -> RunPlan:
        return plan_run(*images, asked, model=tiny_model_path)

    through = execute(plan())

    def copied(state: RunState) -> RunState:
        # What a folder would hold: the arrays are the run's own, which it goes on changing.
        optimiser = state.optimiser
        if optimiser is not None:
            pairs = PairsInMemory(10)
            pairs.restore(iter([(s.copy(), y.copy()) for s, y in optimiser.pairs.saved()]))
            optimiser = replace(optimiser, x=optimiser.x.copy(), pairs=pairs)
        return replace(state, x=state.x.copy(), optimiser=optimiser)

    class StopError(KeyboardInterrupt):
        pass

    def interrupted(progress: Progress) -> None:
        if progress.losses.iteration == stop:
            raise StopError

    saved = Saved(copy=copied)
    with pytest.raises(StopError):
        execute(plan(), saver=saved, callback=interrupted)
    assert saved.states[-1].iteration == stop
    resumed = execute(plan(), state=lambda: saved.states[-1], saver=Saved())
    assert np.array_equal(resumed.image, through.image)
    assert resumed.record.losses[-1].loss == through.record.losses[-1].loss
    assert resumed.record.losses[-1].evaluations == through.record.losses[-1].evaluations


def transfer_command(
    images: tuple[Array, Array], folder: Path, model: Path, *more: str
) -> list[str]:
    for name, pixels in zip(("photo.png", "painting.png"), images, strict=True):
        write_image(folder / name, from_pil(PIL.Image.fromarray(pixels)))
    photo, painting, out = (str(folder / n) for n in ("photo.png", "painting.png", "out.png"))
    asked = ["--size", "80", "--scales", "2", "--iterations", "12", *more]
    return ["transfer", photo, painting, "-o", out, "--model", str(model), *asked]


def test_the_program_names_each_scale_and_logs_it_with_its_own_alpha(
    images: tuple[Array, Array],
    tiny_model_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = tmp_path / "run.jsonl"
    assert main(transfer_command(images, tmp_path, tiny_model_path, "--log", str(log))) == 0
    said = capsys.readouterr()
    assert "scale 1/2 57×43" in said.err
    assert "scale 2/2 80×60" in said.err
    assert "after 22 iterations" in said.out
    events = [json.loads(line) for line in log.read_text().splitlines()]
    found = [each for each in events if each["event"] == "scale"]
    assert [(each["width"], each["height"], each["iterations"]) for each in found] == [
        (57, 43, 12), (80, 60, 10),
    ]  # fmt: skip
    alphas = [each["weights"]["content"] for each in found]
    assert alphas == [24 / (57 * 43), 24 / (80 * 60)]
    points = read_record(log)
    # Each point's parts, weighted at its own scale, add up to its total.
    for point in points[1:]:
        assert sum(point.terms.values()) == pytest.approx(point.total, rel=1e-9)
