"""Plots of the losses of runs over their iterations, with a panel for each term."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from gramstyle.analysis.plots.canvas import drawn, label
from gramstyle.errors import OptionError
from gramstyle.run.records.reading import Point

By = Literal["iterations", "seconds"]

PANELS_IN_A_ROW = 4
# Ten colours can be distinguished; further lines are dashed.
COLOURS, STYLES = tuple(f"C{number}" for number in range(10)), ("-", "--")
MAX_RUNS = len(COLOURS) * len(STYLES)

Value = Callable[[Point], float]


def loss_curves(
    runs: Mapping[str, Sequence[Point]], *, by: By = "iterations", suffix: str = ".png"
) -> bytes:
    """Draw the total loss and the contribution of each term, on a logarithmic scale.

    Parameters
    ----------
    runs
        The points of each run by its name in the legend.
    by
        The horizontal axis: iterations, or seconds since the start of the run.
    suffix
        The file format: one of `FORMATS`.

    Returns
    -------
    bytes
        The image file. Losses of 0 cannot be drawn on the scale and are omitted.

    Raises
    ------
    OptionError
        If there are more runs than line styles, or no loss is above 0.
    GramstyleError
        If matplotlib is not installed.
    """
    if len(runs) > MAX_RUNS:
        raise OptionError(f"{len(runs)} runs cannot be distinguished; plot at most {MAX_RUNS}")
    panels = {title: value for title, value in _panels(runs).items() if _any_positive(runs, value)}
    if not panels:
        raise OptionError("there is nothing to draw on a logarithmic scale: every loss is 0")
    columns = min(len(panels), PANELS_IN_A_ROW)
    rows = -(-len(panels) // columns)

    def fill(figure: Any) -> None:
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for place, (title, value) in zip(axes.flat, panels.items(), strict=False):
            _draw_panel(place, title, value, runs, by)
        for place in axes.flat[len(panels) :]:
            place.set_axis_off()
        for place in axes.flat[max(0, len(panels) - columns) : len(panels)]:
            place.set_xlabel("iteration" if by == "iterations" else "seconds")
            place.tick_params(labelbottom=True)
        for place in axes[:, 0]:
            place.set_ylabel("loss × weights")
        lines = [axes.flat[0].plot([], [], **look)[0] for look in _line_styles(len(runs))]
        figure.legend(lines, [label(name) for name in runs], loc="outside lower center", ncols=2)

    legend = 0.2 * -(-len(runs) // 2) + 0.3
    return drawn(fill, width=3.1 * max(columns, 2), height=2.7 * rows + legend, suffix=suffix)


def _panels(runs: Mapping[str, Sequence[Point]]) -> dict[str, Value]:
    """Return the panels by title: the total loss, its terms, and the layers of terms with several.

    A term that one of the runs does not have is 0 there.
    """
    layers: dict[str, dict[str, float]] = {}
    for points in runs.values():
        for name, there in points[0].layers.items():
            layers.setdefault(name, {}).update(there)
    panels: dict[str, Value] = {"total loss": lambda point: point.total}
    panels |= {label(name): _term(name) for name in layers}
    for name, there in layers.items():
        if len(there) > 1:
            panels |= {f"{label(name)} at {label(each)}": _layer(name, each) for each in there}
    return panels


def _term(name: str) -> Value:
    return lambda point: point.terms.get(name, 0.0)


def _layer(name: str, layer: str) -> Value:
    return lambda point: point.layers.get(name, {}).get(layer, 0.0)


def _any_positive(runs: Mapping[str, Sequence[Point]], value: Value) -> bool:
    return any(value(point) > 0 for points in runs.values() for point in points)


def _draw_panel(
    axes: Any, title: str, value: Value, runs: Mapping[str, Sequence[Point]], by: By
) -> None:
    axes.set_title(title)
    axes.set_yscale("log")
    axes.grid(color="0.9")
    for points, look in zip(runs.values(), _line_styles(len(runs)), strict=True):
        shown = [point for point in points if value(point) > 0]
        over = [float(point.iteration) if by == "iterations" else point.seconds for point in shown]
        marker = "." if len(shown) == 1 else None
        axes.plot(over, [value(point) for point in shown], marker=marker, **look)


def _line_styles(count: int) -> list[dict[str, Any]]:
    """Return the line style of each run."""
    looks = [
        {"color": colour, "linestyle": style, "linewidth": 1.4}
        for style in STYLES
        for colour in COLOURS
    ]
    return looks[:count]
