"""tools/paint.py: the image that a seed paints, and its error messages."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tools.paint import main
from tools.painting.canvas import Canvas
from tools.painting.fields import Frame
from tools.painting.flows import Flow, Swirl, add_swirls
from tools.painting.palettes import colours_at, pigments
from tools.painting.scenes import paint
from tools.painting.strokes import Stroke

PROGRAM = Path(__file__).parents[2] / "tools" / "paint.py"


@pytest.fixture(scope="module", params=["night", "meadow", "ember"])
def luminance(request):
    return image(request.param, width=64, height=48).mean(axis=2)


def image(theme="night", seed=7, width=40, height=32):
    return np.asarray(paint(Frame(width, height, np.random.default_rng(seed)), theme))


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-W", "error", str(PROGRAM), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_seed_paints_the_same_bytes_in_two_processes(tmp_path):
    for name in ("one.png", "two.png"):
        done = run("--width", 24, "--height", 20, "-o", tmp_path / name)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"wrote {tmp_path / name}\n"
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_another_seed_paints_another_image():
    one, other = image(seed=7).astype(float), image(seed=8).astype(float)
    assert np.abs(one - other).mean() > 10


@pytest.mark.parametrize(("width", "height"), [(16, 16), (32, 20), (20, 32)])
def test_the_image_has_the_size_asked_for(width, height):
    assert image(width=width, height=height).shape == (height, width, 3)


def relief(luminance, block):
    """Mean gradient from block to block, of the luminance averaged over blocks."""
    rows, columns = luminance.shape[0] // block, luminance.shape[1] // block
    down, right = np.gradient(luminance.reshape(rows, block, columns, block).mean(axis=(1, 3)))
    return np.hypot(down, right).mean()


@pytest.mark.parametrize("block", [1, 2, 4, 8, 16])
def test_an_image_has_relief_at_every_scale(luminance, block):
    assert relief(luminance, block) > 12


def test_a_smooth_gradient_has_no_such_relief():
    wash = np.linspace(0, 255, 64)[:, None].repeat(80, axis=1)
    assert relief(wash, 1) < 5


def test_no_part_of_an_image_is_a_plain_wash(luminance):
    assert luminance.reshape(3, 16, 4, 16).std(axis=(1, 3)).min() > 10


def test_the_night_is_blue_above_and_golden_below():
    colours = image().astype(float)
    above, below = colours[:8].mean(axis=(0, 1)), colours[-4:].mean(axis=(0, 1))
    assert above[2] > above[0] + 30
    assert below[0] > below[2] + 60


def test_a_broad_stroke_covers_its_spine_and_nothing_beyond_its_width():
    frame = Frame(60, 40, np.random.default_rng(0))
    canvas = Canvas(frame, np.zeros(3, np.float32))
    spine = np.array([[10, 20], [30, 20], [50, 20]], np.float32)
    red = np.array([1, 0, 0], np.float32)
    canvas.draw(Stroke(spine, 12.0, 1.0, red, red, np.array([3, 5])))
    painted = canvas.colour[..., 0]
    assert painted[20, 12:40].min() > 0.5
    assert painted[:12].max() == 0
    assert painted[29:].max() == 0
    assert canvas.colour[..., 1:].max() == 0


def test_a_swirl_turns_the_flow_around_its_centre():
    frame = Frame(101, 101, np.random.default_rng(0))
    calm = Flow.at_angle(frame.full(0))
    swirl = Swirl((50 / 101, 50 / 101), radius=200 / frame.scale, turn=50.0)
    flow = add_swirls(frame, calm, [swirl])
    assert flow.v[50, 70] == pytest.approx(1, abs=0.01)  # right of the centre: downward
    assert flow.v[50, 30] == pytest.approx(-1, abs=0.01)
    assert flow.u[70, 50] == pytest.approx(-1, abs=0.01)  # below the centre: leftward


def test_a_palette_is_read_from_dark_to_light():
    palette = pigments("000000 808080 ffffff")
    colours = colours_at(palette, np.array([-1, 0, 0.5, 1, 2], np.float32))
    assert colours[:, 0] == pytest.approx([0, 0, 128 / 255, 1, 1])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--width", "0", "-o", "x.png"), "0 is not from 16 to 4096 pixels"),
        (("--height", "-5", "-o", "x.png"), "-5 is not from 16 to 4096 pixels"),
        (("--width", "wide", "-o", "x.png"), "wide is not from 16 to 4096 pixels"),
        (("--seed", "1.5", "-o", "x.png"), "1.5 is not a whole number of at least 0"),
        (("--theme", "fog", "-o", "x.png"), "fog"),
        (("-o", "no/such/folder/x.png"), "is not a folder"),
        (("-o", "x.gif"), "does not end in .png or .jpg"),
        ((), "-o/--output"),
    ],
)
def test_a_bad_argument_ends_in_one_line_and_code_2(
    monkeypatch, capsys, tmp_path, arguments, words
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["paint", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    out, err = capsys.readouterr()
    assert stop.value.code == 2
    assert words in err
    assert err.count("\n") == 1
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_ends_in_one_line_and_code_2(tmp_path):
    (tmp_path / "taken.png").mkdir()
    done = run("--width", 16, "--height", 16, "-o", tmp_path / "taken.png")
    assert done.returncode == 2
    assert done.stderr.startswith("paint: cannot write ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
