"""Coarse to fine: the levels of a run, and how one leads to the next."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gramstyle.cli import main
from gramstyle.core.arrays import Array
from gramstyle.errors import OptionError
from gramstyle.images import from_pil, write_image
from gramstyle.run.options import Options
from gramstyle.run.prepare import prepare
from gramstyle.run.records import read_record
from gramstyle.run.scales import edges, levels
from gramstyle.run.transfer import Position, Progress, chart, climb, run, transfer


@pytest.fixture
def images(rng: np.random.Generator) -> tuple[Array, Array]:
    photograph = rng.integers(0, 256, (60, 80, 3)).astype(np.uint8)
    return photograph, rng.integers(0, 256, (70, 80, 3)).astype(np.uint8)


def options(**given: object) -> Options:
    return Options(**{"size": 80, "scales": 2, "iterations": 12, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "found"),
    [
        (256, (256,)),
        (512, (512,)),
        (723, (723,)),
        (724, (512, 724)),
        (1024, (512, 724, 1024)),
        (4096, (512, 724, 1024, 1448, 2048, 2896, 4096)),
    ],
)
def test_sizes_halve_their_pixels_down_to_512(size: int, found: tuple[int, ...]) -> None:
    assert edges(size) == found


def test_as_many_levels_as_asked_for_and_no_images_too_small_for_the_network() -> None:
    assert edges(512, 3) == (256, 362, 512)
    assert edges(4096, 1) == (4096,)
    with pytest.raises(OptionError, match="--scales 2, or fewer"):
        levels(80, iterations=10, scales=3, shorter=60)


@pytest.mark.parametrize(
    ("size", "iterations", "found"),
    [
        (512, 100, [100]),
        (1024, 100, [100, 10, 50]),
        (2048, 100, [100, 10, 10, 10, 25]),
        (8192, 100, [100, *[10] * 7, 10]),
        (1024, 4, [4, 4, 4]),
    ],
)
def test_the_first_level_has_all_the_iterations_the_last_fewer_as_it_grows_none_below_ten(
    size: int, iterations: int, found: list[int]
) -> None:
    planned = levels(size, iterations=iterations, shorter=size * 3 // 4)
    assert [level.iterations for level in planned] == found


def test_one_level_is_the_run_as_it_always_was(
    images: tuple[Array, Array], tiny_model_path: Path
) -> None:
    single = options(scales=1)
    plainly = run(prepare(*images, single, model=tiny_model_path))
    climbed = climb(chart(*images, single, model=tiny_model_path))
    assert np.array_equal(plainly.image, climbed.image)
    assert plainly.record.settings == climbed.record.settings
    losses = [(each.iteration, each.evaluations, each.loss) for each in plainly.record.losses]
    assert losses == [(e.iteration, e.evaluations, e.loss) for e in climbed.record.losses]


def test_a_level_starts_from_the_last_one_s_image(
    images: tuple[Array, Array], tiny_model_path: Path
) -> None:
    course = chart(*images, options(optimiser="lbfgsb-device"), model=tiny_model_path)
    ends: list[Position] = []
    result = climb(course, keep=lambda at: ends.append(at) if at.ended else None)
    assert [at.x.shape for at in ends] == [(3, 43, 57), (3, 60, 80)]
    first = ends[0].x.transpose(1, 2, 0).astype(np.float32) / np.float32(255)
    second = prepare(
        *images, options(scales=1, iterations=10, init=first, optimiser="lbfgsb-device"),
        model=tiny_model_path,
    )  # fmt: skip
    assert np.array_equal(run(second).image, result.image)
    found = [(each.level, each.iteration) for each in result.record.losses]
    assert found == [(0, i) for i in range(13)] + [(1, i) for i in range(13, 23)]
    assert result.record.losses[-1].evaluations == ends[-1].evaluations
    assert result.record.settings["levels"] == [57, 80]
    assert result.record.best == result.record.losses[-1].iteration


def test_a_caller_s_stop_ends_the_whole_run_where_it_is(
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
def test_a_run_goes_on_from_a_kept_position_bit_by_bit(
    stop: int, more: dict[str, object], images: tuple[Array, Array], tiny_model_path: Path
) -> None:
    asked = options(optimiser="lbfgsb-device", **more)
    course = chart(*images, asked, model=tiny_model_path)
    through = climb(course)
    kept: list[Position] = []

    def keep(at: Position) -> None:
        # What a folder would hold: the arrays are the run's own and go on with it.
        rows = [] if at.state is None else [(s.copy(), y.copy()) for s, y in at.state.pairs.saved()]
        pairs = prepare(*images, asked, model=tiny_model_path).pairs()
        pairs.restore(iter(rows))
        state = at.state and replace_pairs(at, pairs)
        kept.append(Position(at.stages, at.losses, at.seconds, at.evaluations, at.x.copy(), state))

    class StopError(KeyboardInterrupt):
        pass

    def interrupted(progress: Progress) -> None:
        if progress.losses.iteration == stop:
            raise StopError

    with pytest.raises(StopError):
        climb(course, keep=keep, every=100, callback=interrupted)
    assert kept[-1].losses[-1].iteration == stop
    resumed = climb(course, since=lambda: kept[-1], keep=lambda _: None)
    assert np.array_equal(resumed.image, through.image)
    assert resumed.record.losses[-1].loss == through.record.losses[-1].loss
    assert resumed.record.losses[-1].evaluations == through.record.losses[-1].evaluations


def test_a_position_at_another_level_than_the_course_s_is_refused_with_both_named(
    images: tuple[Array, Array], tiny_model_path: Path
) -> None:
    course = chart(*images, options(optimiser="lbfgsb-device"), model=tiny_model_path)
    kept: list[Position] = []
    climb(course, keep=kept.append, every=17)
    amid = next(at for at in kept if at.losses[-1].iteration == 17)
    other = replace(amid.stages[-1], iterations=6)
    elsewhere = replace(amid, stages=(*amid.stages[:-1], other), state=None)
    with pytest.raises(OptionError, match=r"80 × 60, 6 iterations.* now .*80 × 60, 10 iterations"):
        climb(course, since=lambda: elsewhere)


def replace_pairs(at: Position, pairs: object):  # type: ignore[no-untyped-def]
    return replace(at.state, x=at.state.x.copy(), pairs=pairs)  # type: ignore[arg-type,type-var,union-attr]


def test_the_program_climbs_says_so_and_logs_each_level_with_its_own_alpha(
    images: tuple[Array, Array],
    tiny_model_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from PIL import Image

    for name, pixels in zip(("photo.png", "painting.png"), images, strict=True):
        write_image(tmp_path / name, from_pil(Image.fromarray(pixels)))
    photo, painting, out = (str(tmp_path / n) for n in ("photo.png", "painting.png", "out.png"))
    log = tmp_path / "run.jsonl"
    asked = ["--size", "80", "--scales", "2", "--iterations", "12", "--log", str(log)]
    arguments = ["transfer", photo, painting, "-o", out, "--model", str(tiny_model_path), *asked]
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert "level 1/2 57×43" in said.err
    assert "level 2/2 80×60" in said.err
    assert "after 22 iterations" in said.out
    events = [json.loads(line) for line in log.read_text().splitlines()]
    found = [each for each in events if each["event"] == "level"]
    assert [(each["width"], each["height"], each["iterations"]) for each in found] == [
        (57, 43, 12), (80, 60, 10),
    ]  # fmt: skip
    assert [each["alpha"] for each in found] == [50 / (57 * 43), 50 / (80 * 60)]
    points = read_record(log)
    # Each point's parts, weighted at its own level, add up to its total.
    for point in points[1:]:
        assert point.content + point.style == pytest.approx(point.total, rel=1e-9)
