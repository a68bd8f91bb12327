"""Plots show the measured values and are reproducible byte by byte."""

import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import matplotlib.figure
import numpy as np
import PIL.Image
import pytest

from gramstyle.analysis.plots import FORMATS, canvas, curves, loss_curves, trace_images
from gramstyle.analysis.plots import trace as backward_pass
from gramstyle.analysis.trace import Row, terms, trace
from gramstyle.core.arrays import Array
from gramstyle.core.objective import Objective
from gramstyle.errors import GramstyleError, OptionError
from gramstyle.model import Model
from gramstyle.run.records.reading import MAX_NUMBER, Point
from objectives import ContentTarget, Weights, composed, recomposed, style_targets, styles_of

MAGIC = {".png": b"\x89PNG\r\n", ".svg": b"<?xml", ".pdf": b"%PDF-"}
Points = Sequence[Point]


def point(iteration: int, scale: float = 1.0) -> Point:
    return Point(
        iteration=iteration,
        seconds=10.0 * iteration,
        total=8.0 * scale,
        terms={"content": 5.0 * scale, "style": 3.0 * scale},
        layers={
            "content": {"conv4_2": 5.0 * scale},
            "style": {"conv1_1": 1.0 * scale, "conv2_1": 2.0 * scale},
        },
    )


def without(at: Point, name: str) -> Point:
    """The point of a run without one of the losses."""
    terms, layers = dict(at.terms), dict(at.layers)
    del terms[name], layers[name]
    return replace(at, terms=terms, layers=layers)


RUN = tuple(point(n, 1 / n) for n in (1, 2, 4))
NO_STYLE = tuple(without(at, "style") for at in RUN)
NO_CONTENT = tuple(without(at, "content") for at in RUN)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures in the order in which they are drawn; they are not rendered, which takes long."""
    kept: list[Any] = []

    def drawn(fill: Callable[[Any], None], *, width: float, height: float, **_: str) -> bytes:
        assert min(width, height) > 1
        kept.append(matplotlib.figure.Figure())
        fill(kept[-1])
        return b""

    for module in (curves, backward_pass):
        monkeypatch.setattr(module, "drawn", drawn)
    return kept


def panels(figure: Any) -> dict[str, Any]:
    return {axes.get_title(): axes for axes in figure.axes if axes.get_title()}


def lines(axes: Any) -> list[tuple[list[float], list[float]]]:
    drawn = [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]
    return [line for line in drawn if line[0]]


@pytest.mark.parametrize("by", ["iterations", "seconds"])
def test_each_panel_shows_the_losses_of_its_term(figures: list[Any], by: curves.By) -> None:
    loss_curves({"a.jsonl": RUN, "b.jsonl": RUN[:2]}, by=by)
    shown = panels(figures[0])
    expected = {
        "total loss": 8.0,
        "content": 5.0,
        "style": 3.0,
        "style at conv1_1": 1.0,
        "style at conv2_1": 2.0,
    }
    assert list(shown) == list(expected)
    unit = 10.0 if by == "seconds" else 1.0
    for title, loss in expected.items():
        first, second = lines(shown[title])
        assert first == ([unit, 2 * unit, 4 * unit], [loss, loss / 2, loss / 4])
        assert second == ([unit, 2 * unit], [loss, loss / 2])
        assert shown[title].get_yscale() == "log"
    assert [text.get_text() for text in figures[0].legends[0].texts] == ["a.jsonl", "b.jsonl"]
    # All panels share a scale, so that terms can be compared.
    assert len({axes.get_ylim() for axes in shown.values()}) == 1
    assert shown["style at conv2_1"].get_xlabel() == ("seconds" if unit > 1 else "iteration")
    assert shown["total loss"].get_ylabel() == "loss × weights"


def test_the_legend_has_the_line_styles_of_the_panels(figures: list[Any]) -> None:
    loss_curves({f"{n}": RUN for n in range(12)})
    (legend,) = figures[0].legends
    looks = [(line.get_color(), line.get_linestyle()) for line in legend.get_lines()]
    assert len(set(looks)) == 12
    for axes in panels(figures[0]).values():
        drawn = [line for line in axes.lines if len(line.get_xdata())]
        assert [(line.get_color(), line.get_linestyle()) for line in drawn] == looks


def test_losses_of_0_are_omitted_and_a_term_that_is_always_0_has_no_panel(
    figures: list[Any],
) -> None:
    run = tuple(
        replace(
            at,
            layers={"style": {"conv1_1": 0.0 if at.iteration == 2 else 1.0, "conv2_1": 0.0}},
        )
        for at in NO_CONTENT
    )
    loss_curves({"a": run})
    shown = panels(figures[0])
    assert list(shown) == ["total loss", "style", "style at conv1_1"]
    assert lines(shown["style at conv1_1"]) == [([1.0, 4.0], [1.0, 1.0])]


def test_a_run_of_one_iteration_is_drawn_as_a_point(figures: list[Any]) -> None:
    loss_curves({"a": RUN[:1], "b": RUN})
    markers = [line.get_marker() for line in panels(figures[0])["total loss"].lines]
    assert markers[:2] == [".", "None"]


def test_runs_may_have_different_layers(figures: list[Any]) -> None:
    other = tuple(replace(at, layers={**at.layers, "style": {"conv5_1": 1.0}}) for at in RUN)
    loss_curves({"a": RUN, "b": other})
    shown = panels(figures[0])
    assert list(shown)[3:] == [f"style at {n}" for n in ("conv1_1", "conv2_1", "conv5_1")]
    assert len(lines(shown["style at conv5_1"])) == 1


def test_losses_that_are_all_0_and_too_many_runs_are_refused() -> None:
    nothing = point(1, 0.0)
    with pytest.raises(OptionError, match="every loss is 0"):
        loss_curves({"a": [nothing]})
    with pytest.raises(OptionError, match=r"21 runs .* at most 20"):
        loss_curves({f"{n}": RUN for n in range(21)})


@pytest.mark.parametrize("suffix", list(FORMATS))
def test_equal_losses_give_equal_bytes_in_every_format(suffix: str) -> None:
    first, second = (loss_curves({"a": NO_STYLE}, suffix=suffix) for _ in range(2))
    assert first.startswith(MAGIC[suffix])
    assert first == second
    for word in (b"CreationDate", b"dc:date"):
        assert word not in first


def test_the_user_s_matplotlib_settings_are_ignored() -> None:
    expected = loss_curves({"a": NO_STYLE})
    with mpl.rc_context({"text.usetex": True, "lines.linewidth": 9.0, "savefig.dpi": 30}):
        assert loss_curves({"a": NO_STYLE}) == expected
        assert mpl.rcParams["savefig.dpi"] == 30


@pytest.mark.parametrize(
    "name",
    [
        r"$\frac{",
        "$x$",
        "_hidden",
        "a\nb\x1b[31m",
        "a" * 300 + "b" * 200,
        "写真.jsonl",
        "\ud800",
        "",
    ],
)
def test_any_name_can_be_a_label_in_a_legend(name: str) -> None:
    shown = ""

    def fill(figure: Any) -> None:
        nonlocal shown
        (line,) = figure.subplots().plot([1, 2])
        (text,) = figure.legend([line], [canvas.label(name)]).texts
        shown = text.get_text()

    assert canvas.drawn(fill, width=2, height=2)
    assert shown.isprintable()
    assert len(shown) <= 50
    if "$" in name:  # an escaped dollar sign starts no formula
        assert shown == name.replace("$", r"\$")
    if len(name) > 50:
        assert shown.strip("ab") == "…"
        assert shown[0] + shown[-1] == "ab"
    if name == "_hidden":
        assert shown.strip() == name


@pytest.mark.parametrize("scale", [1e-320, MAX_NUMBER**3 / 8])
def test_every_loss_that_a_record_may_contain_fits_the_scale(scale: float) -> None:
    first = replace(point(1), total=8 * scale, terms={}, layers={})
    assert loss_curves({"a": [first, replace(first, total=1.0)]})


def test_without_matplotlib_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Model
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(GramstyleError, match=r'pip install "matplotlib>='):
        loss_curves({"a": RUN})


class _Loader:
    """Finds matplotlib, which cannot be loaded for lack of a folder."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "matplotlib":
            raise OSError("Matplotlib requires access to a writable cache directory")


def test_matplotlib_without_a_folder_for_its_cache_gives_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "matplotlib", raising=False)
    monkeypatch.setattr(sys, "meta_path", [_Loader(), *sys.meta_path])
    with pytest.raises(GramstyleError, match=r"^matplotlib cannot be loaded: .* cache directory$"):
        loss_curves({"a": RUN})


# Plots of a backward pass.

STYLE = ("conv1_1", "conv2_1")


@pytest.fixture
def objective(tiny_model: Model, rng: np.random.Generator) -> Objective:
    network = tiny_model.network.until(["conv2_2"]).astype(np.float64)
    p, a = (
        network.forward(tiny_model.preprocessing.forward(rng.uniform(0, 255, (3, *size))))
        for size in ((24, 32), (20, 20))
    )
    return composed(
        network=network,
        preprocessing=tiny_model.preprocessing,
        content=ContentTarget("conv2_2", p["conv2_2"]),
        style=style_targets(a, STYLE),
        weights=Weights(alpha=1.0, beta=10.0, w={"conv1_1": 1.0, "conv2_1": 2.0}),
    )


@pytest.fixture
def x(rng: np.random.Generator) -> Array:
    return rng.uniform(100, 155, (3, 24, 32))


def images(figure: Any) -> list[Array]:
    return [np.asarray(image.get_array()) for axes in figure.axes for image in axes.images]


def test_the_requested_layers_are_drawn(figures: list[Any], objective: Objective, x: Array) -> None:
    rows = trace(objective, x).rows
    assert list(trace_images(objective, x, rows, ["conv1_2", "conv2_1"])) == [
        "feature-maps-conv1_2.png",
        "feature-maps-conv2_1.png",
        "gram-conv2_1.png",
        "gradient-style-conv2_1.png",
        "gradients.png",
        "backward.png",
    ]
    assert list(trace_images(objective, x, rows, ["conv2_2"])) == [
        "feature-maps-conv2_2.png",
        "gradient-content-conv2_2.png",
        "gradients.png",
        "backward.png",
    ]
    assert list(trace_images(objective, x, rows, ["pool1"])) == [
        "feature-maps-pool1.png",
        "backward.png",
    ]


def test_the_images_are_reproducible_and_not_empty(objective: Objective, x: Array) -> None:
    alone = objective.alone("style", "conv1_1")
    rows = trace(alone, x).rows
    first, second = (trace_images(alone, x, rows, ["conv1_1"]) for _ in range(2))
    assert len(first) == 5
    assert first == second
    for data in first.values():
        with PIL.Image.open(io.BytesIO(data)) as image:
            assert image.format == "PNG"
            assert image.info.keys() <= {"dpi"}
            assert min(image.size) > 200
            assert len(image.convert("RGB").getcolors(1 << 24)) > 20


def test_the_channels_with_the_largest_means_are_drawn(
    figures: list[Any], rng: np.random.Generator
) -> None:
    F = rng.uniform(0, 1, (40, 6, 5)) * rng.permutation(np.arange(1, 41)).reshape(40, 1, 1)
    backward_pass.feature_maps("conv3_1", F)
    best = sorted(range(40), key=lambda n: -np.mean(F[n]))[:16]
    titles = [axes.get_title() for axes in figures[0].axes]
    assert titles == [f"channel {n}, mean {np.mean(F[n]):.3g}" for n in best]
    for drawn, channel in zip(images(figures[0]), best, strict=True):
        np.testing.assert_array_equal(drawn, F[channel])
    assert "conv3_1" in figures[0].get_suptitle()


@pytest.mark.parametrize("shape", [(1, 1, 90), (2, 90, 1)])
def test_layers_with_few_channels_and_extreme_shapes_can_be_drawn(shape: tuple[int, ...]) -> None:
    assert backward_pass.feature_maps("conv1_1", np.zeros(shape, np.float32))


def test_the_gram_matrices_are_divided_by_their_own_m_and_share_a_scale(
    figures: list[Any], objective: Objective, x: Array
) -> None:
    trace_images(objective, x, trace(objective, x).rows, ["conv2_1"])
    F = objective.network.forward(objective.preprocessing.forward(x))["conv2_1"]
    target = styles_of(objective)["conv2_1"]
    G, A = np.einsum("ixy,jxy->ij", F, F) / (12 * 16), target.A / (10 * 10)
    axes = figures[1].axes
    found = [axes[n].images[0] for n in range(3)]
    for image, expected in zip(found, (G, A, G - A), strict=True):
        # The same sums in another order.
        np.testing.assert_allclose(np.asarray(image.get_array()), expected, rtol=1e-10, atol=1e-9)
    assert found[0].norm is found[1].norm
    assert found[2].norm.vmin == -found[2].norm.vmax


def test_values_that_are_all_0_can_be_drawn(x: Array) -> None:
    still = {"response": None, "seed": None, "after": None, "open": None, "seconds": None}
    assert backward_pass.backward_pass(
        [Row(layer="pixels", shape=(3, 24, 32), before=0.0, **still)]
    )
    assert backward_pass.gradients_of_terms(x, {"content at conv4_2": np.zeros_like(x)})
    assert backward_pass.gram_matrices("conv1_1", np.zeros((4, 4)), np.zeros((4, 4)))


def test_a_gradient_is_shown_by_a_step_of_20_grey_levels_against_it(
    figures: list[Any], objective: Objective, x: Array
) -> None:
    gradient = objective.loss_and_gradient(x).gradient
    x = np.full_like(x, 128.0)  # so that no step leaves 0..255
    gradient = np.clip(gradient / np.std(gradient), -3, 3) * 1e-9
    backward_pass.gradient_of_term("style at conv1_1", x, gradient)
    heat = panels(figures[0])["length of ∂L/∂x over the three colours"].images[0]
    lengths = np.asarray(heat.get_array())
    np.testing.assert_allclose(lengths, np.sqrt(np.sum(gradient**2, axis=0)), rtol=1e-12)
    (step_panel,) = (a for t, a in panels(figures[0]).items() if "one step" in t)
    image = np.asarray(step_panel.images[0].get_array())
    change = image.transpose(2, 0, 1).astype(float) - 128
    # Rounding to whole grey levels changes the 20 by 0.3 RMS at most.
    assert np.sqrt(np.mean(change**2)) == pytest.approx(20, abs=0.05)
    np.testing.assert_allclose(change, -gradient * 20 / np.sqrt(np.mean(gradient**2)), atol=0.51)


@pytest.mark.parametrize("scale", [0.0, 1e-320, 1e-200, 1e100])
def test_a_gradient_of_any_length_can_be_drawn(
    figures: list[Any], rng: np.random.Generator, x: Array, scale: float
) -> None:
    gradient = rng.normal(size=x.shape) * scale
    backward_pass.gradient_of_term("content at conv4_2", x, gradient)
    (step_panel,) = (a for t, a in panels(figures[0]).items() if "one step" in t)
    image = np.asarray(step_panel.images[0].get_array()).transpose(2, 0, 1)
    assert np.array_equal(image, np.rint(x)) == (scale == 0.0)
    assert figures[0].get_suptitle().endswith("‖dx‖ = 0") == (scale == 0.0)


def test_the_gradients_of_all_terms_are_drawn_together(
    figures: list[Any], objective: Objective, x: Array
) -> None:
    trace_images(objective, x, trace(objective, x).rows, objective.layers)
    together = figures[-2]
    expected = {term: np.linalg.norm(at.gradient) for term, at in terms(objective, x).items()}
    titles = [title for title in panels(together) if title != "generated image"]
    assert titles == [
        f"{name} at {layer}\n‖dx‖ = {expected[name, layer]:.3g}"
        for name, layer in (("content", "conv2_2"), ("style", "conv1_1"), ("style", "conv2_1"))
    ]
    np.testing.assert_array_equal(
        panels(together)["generated image"].images[0].get_array(), np.rint(x).transpose(1, 2, 0)
    )


def test_the_bars_of_a_backward_pass_are_the_rows_of_the_trace(
    figures: list[Any], objective: Objective, x: Array
) -> None:
    rows = trace(objective, x).rows
    backward_pass.backward_pass(rows)
    (axes,) = figures[0].axes
    assert [label.get_text() for label in axes.get_xticklabels()] == [row.layer for row in rows]
    before, after = (list(bars.datavalues) for bars in axes.containers)
    assert before == [row.before for row in rows]
    assert after == [row.after for row in rows if row.after is not None]
    assert axes.get_yscale() == "log"
    places = [bar.get_x() for bar in axes.patches[: len(rows)]]
    assert all(right - left == pytest.approx(1) for left, right in pairwise(places))
    ((_, seeds),) = lines(axes)
    assert seeds == [row.seed for row in rows if row.seed is not None]


def test_a_backward_pass_without_a_gradient_can_be_drawn(
    figures: list[Any], objective: Objective, x: Array
) -> None:
    quiet = recomposed(objective, weights=Weights(0.0, 0.0, {"conv1_1": 1.0, "conv2_1": 2.0}))
    rows = trace(quiet, x).rows
    assert rows[-1].before == 0
    backward_pass.backward_pass(rows)
    assert "every derivative is 0" in {text.get_text() for text in figures[0].axes[0].texts}
