"""Images of one backward pass: what the layers respond, and what each term wants changed."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gramstyle.analysis.plots.canvas import drawn, load_matplotlib
from gramstyle.analysis.trace import CONTENT, Row, terms
from gramstyle.core.arrays import Array
from gramstyle.core.objective import Evaluation, Objective

CHANNELS_SHOWN, CHANNELS_IN_A_ROW = 16, 4
WISHES_IN_A_ROW = 4
# How far an image is moved to show a wish, root mean square, of 255.
GREY_LEVELS = 20.0
# The largest values, this share of them, would leave all others dark.
GLARE = 0.005


def trace_images(
    objective: Objective, x: Array, rows: Sequence[Row], layers: Iterable[str]
) -> dict[str, bytes]:
    """Draw what a trace measures: PNG files by name.

    Parameters
    ----------
    objective, x
        What was traced; x is float (3, H, W), RGB, 0..255.
    rows
        The rows of its trace to draw.
    layers
        Whose feature maps to draw. A layer's Gram matrices and wishes are drawn where a loss term
        looks at it.

    Returns
    -------
    dict
        ``feature-maps-LAYER.png`` for each layer, ``gram-LAYER.png`` and ``wish-LAYER.png`` for
        each style layer, ``wish-content.png``, ``wishes.png`` of these together, ``backward.png``.

    Raises
    ------
    GramstyleError
        If matplotlib is not installed.
    """
    load_matplotlib()
    layers = tuple(dict.fromkeys(layers))
    forward = objective.network.forward if objective.forward is None else objective.forward
    responses = forward(objective.preprocessing.forward(x))
    files = {}
    for name in layers:
        F = responses[name]
        files[f"feature-maps-{name}.png"] = feature_maps(name, F)
        if name in objective.style:
            target = objective.style[name]
            M = F.shape[1] * F.shape[2]
            G, A = objective.kernels.gram(F) / M, target.A / target.M
            files[f"gram-{name}.png"] = gram_matrices(name, G, A)
    # The kernels take the memory of the responses, so these come last.
    wanted = _wanted(objective, terms(objective, x), layers)
    for name, wish in wanted.items():
        files[f"wish-{name}.png"] = wish_of_a_term(_title(objective, name), x, wish.gradient)
    if wanted:
        titles = {_title(objective, name): wish.gradient for name, wish in wanted.items()}
        files["wishes.png"] = wishes(x, titles)
    files["backward.png"] = backward_pass(rows)
    return files


def _wanted(
    objective: Objective, all_terms: Mapping[str, Evaluation], layers: Sequence[str]
) -> dict[str, Evaluation]:
    """Return the terms that look at one of these layers."""
    return {
        name: evaluation
        for name, evaluation in all_terms.items()
        if _layer_of(objective, name) in layers
    }


def _layer_of(objective: Objective, term: str) -> str:
    content = objective.content
    return content.layer if content is not None and term == CONTENT else term


def _title(objective: Objective, term: str) -> str:
    layer = _layer_of(objective, term)
    return f"content at {layer}" if term == CONTENT else f"style at {layer}"


def feature_maps(layer: str, F: Array) -> bytes:
    """Draw the channels of F (N, H, V) with the largest mean, each on its own grey scale."""
    means = F.mean(axis=(1, 2), dtype=np.float64)
    # Stable, so that equal means come in the channels' order.
    chosen = np.argsort(-means, kind="stable")[:CHANNELS_SHOWN]
    columns = min(CHANNELS_IN_A_ROW, len(chosen))
    rows = -(-len(chosen) // columns)

    def fill(figure: Any) -> None:
        N, H, V = F.shape
        figure.suptitle(
            f"{layer}: the {len(chosen)} of {N} channels with the largest mean, {V}×{H} positions"
        )
        places = list(figure.subplots(rows, columns, squeeze=False).flat)
        for place in places:
            _bare(place)
        for place, channel in zip(places, chosen, strict=False):
            place.imshow(F[channel], cmap="magma", vmin=0, vmax=_peak(F[channel]))
            place.set_title(f"channel {channel}, mean {means[channel]:.3g}", fontsize=8)

    side = 2.2
    return drawn(fill, width=side * columns, height=(side * _aspect(F) + 0.25) * rows + 0.4)


def gram_matrices(layer: str, G: Array, A: Array) -> bytes:
    """Draw G / M beside A / M, both (N, N), on one scale, and their difference."""
    colors = load_matplotlib().colors
    D = G - A
    together = colors.PowerNorm(0.5, vmin=0, vmax=_glare(np.concatenate([G, A])))
    reach = _glare(abs(D))
    apart = colors.FuncNorm((_signed_root, _signed_square), vmin=-reach, vmax=reach)

    def fill(figure: Any) -> None:
        figure.suptitle(f"{layer}: Gram matrices of {len(G)} channels, each divided by its M")
        first, second, third = figure.subplots(1, 3)
        scale = "square-root scale"
        first.imshow(G, cmap="magma", norm=together)
        image = second.imshow(A, cmap="magma", norm=together)
        figure.colorbar(image, ax=[first, second], shrink=0.8, extend="max", label=scale)
        difference = third.imshow(D, cmap="RdBu_r", norm=apart)
        figure.colorbar(difference, ax=third, shrink=0.8, extend="both", label=scale)
        titles = ("the image, G/M", "the painting, A/M", "difference, G/M − A/M")
        for place, title in zip((first, second, third), titles, strict=True):
            place.set_title(title)
            place.set_xlabel("channel")
        first.set_ylabel("channel")

    return drawn(fill, width=12.5, height=4.2)


def wish_of_a_term(title: str, x: Array, gradient: Array) -> bytes:
    """Draw where a term wants x (3, H, W) changed, and x after one step of 20 grey levels."""

    def fill(figure: Any) -> None:
        figure.suptitle(f"{title}: what it wants of the image, {_length_text(gradient)}")
        lengths, image = figure.subplots(1, 2)
        shown = _show_lengths(lengths, gradient)
        figure.colorbar(shown, ax=lengths, shrink=0.8, extend="max")
        lengths.set_title("length of −∂L/∂x over the three colours")
        image.imshow(_moved(x, gradient))
        image.set_title(f"one step along −∂L/∂x, {GREY_LEVELS:g} grey levels RMS")
        for place in (lengths, image):
            _bare(place)

    return drawn(fill, width=10.5, height=4.7 * _aspect(x) + 0.8)


def wishes(x: Array, gradients: Mapping[str, Array]) -> bytes:
    """Draw x (3, H, W) and, for each term by its title, where it looks and one step its way."""
    columns = min(WISHES_IN_A_ROW, 1 + len(gradients))
    rows = -(-(1 + len(gradients)) // columns)

    def fill(figure: Any) -> None:
        figure.suptitle(
            "what each term wants of the image: length of −∂L/∂x (above), "
            f"one step of {GREY_LEVELS:g} grey levels RMS along it (below)"
        )
        places = figure.subplots(2 * rows, columns, squeeze=False)
        for place in places.flat:
            _bare(place)
        places[1, 0].imshow(_visible(x))
        places[1, 0].set_title("the image", fontsize=9)
        for at, (title, gradient) in enumerate(gradients.items(), start=1):
            row, column = divmod(at, columns)
            upper, lower = places[2 * row : 2 * row + 2, column]
            _show_lengths(upper, gradient)
            upper.set_title(f"{title}\n{_length_text(gradient)}", fontsize=9)
            lower.imshow(_moved(x, gradient))

    side = 2.6
    height = rows * (2 * side * _aspect(x) + 0.5) + 0.4
    return drawn(fill, width=max(8.0, side * columns), height=height)


def backward_pass(rows: Sequence[Row]) -> bytes:
    """Draw ‖dF‖ before and after each layer's ReLU, in the order of the pass."""

    def fill(figure: Any) -> None:
        axes = figure.subplots()
        axes.set_title("the backward pass: length of the derivative by each layer's responses")
        axes.set_ylabel("‖dF‖ (for the pixels ‖dx‖)")
        axes.set_xticks(range(len(rows)), [row.layer for row in rows])
        axes.tick_params(axis="x", rotation=60)
        axes.set_xlim(-0.7, len(rows) - 0.3)
        axes.set_yscale("log")
        axes.grid(axis="y", color="0.9")
        axes.set_axisbelow(True)
        marks: dict[str, tuple[str, float, list[float | None]]] = {
            "before the ReLU's mask": ("C0", -0.21, [row.before for row in rows]),
            "after it": ("C1", 0.21, [row.after for row in rows]),
            "seed of the loss": ("k", -0.21, [row.seed for row in rows]),
        }
        for name, (colour, shift, lengths) in marks.items():
            # A logarithmic scale has no place for 0.
            shown = [(at + shift, length) for at, length in enumerate(lengths) if length]
            places, heights = [at for at, _ in shown], [length for _, length in shown]
            if colour == "k":
                axes.plot(places, heights, "kD", markersize=4, label=name)
            else:
                axes.bar(places, heights, width=0.4, color=colour, label=name)
        ends = [length for _, _, lengths in marks.values() for length in lengths if length]
        if ends:
            axes.set_ylim(min(ends) / 2, max(ends) * 2)
        else:
            axes.text(0.5, 0.5, "every derivative is 0", transform=axes.transAxes, ha="center")
        axes.legend(loc="best")

    return drawn(fill, width=max(5.0, 0.45 * len(rows) + 1.5), height=4.4)


def _bare(axes: Any) -> None:
    """Leave away the frame, and the ticks, whose layout would take most of the time."""
    axes.set_axis_off()
    axes.set_xticks([])
    axes.set_yticks([])


def _aspect(image: Array) -> float:
    """Return height / width of (…, H, V), within what leaves a legible figure."""
    H, V = image.shape[-2:]
    return float(np.clip(H / V, 0.3, 3))


def _peak(values: Array) -> float:
    """Return the largest value, or 1 where all are 0: a scale needs a length."""
    return float(values.max()) or 1.0


def _glare(values: Array) -> float:
    """Return what all but the largest few values stay below, or 1 where all are 0."""
    return float(np.quantile(values, 1 - GLARE)) or _peak(values)


def _show_lengths(axes: Any, gradient: Array) -> Any:
    """Draw the length of a gradient (3, H, W) over the three colours."""
    lengths = np.linalg.norm(gradient.astype(np.float64), axis=0)
    return axes.imshow(lengths, cmap="magma", vmin=0, vmax=_glare(lengths))


def _length_text(gradient: Array) -> str:
    length = _peak(abs(gradient)) * np.linalg.norm(_way(gradient))
    return f"‖dx‖ = {length:.3g}" if length else "‖dx‖ = 0: nothing"


def _way(gradient: Array) -> Array:
    """Return a gradient over its largest value, so that its squares neither vanish nor overflow."""
    return gradient.astype(np.float64) / _peak(abs(gradient))


def _moved(x: Array, gradient: Array) -> Array:
    """Return x after a step against the gradient, as the pixels of an image (H, W, 3)."""
    way = _way(gradient)
    mean_square = np.mean(np.square(way))
    step = GREY_LEVELS / np.sqrt(mean_square) if mean_square else 0.0
    return _visible(x - step * way)


def _visible(x: Array) -> Array:
    pixels: Array = np.clip(np.rint(x), 0, 255).astype(np.uint8).transpose(1, 2, 0)
    return pixels


def _signed_root(values: Any) -> Any:
    return np.sign(values) * np.sqrt(np.abs(values))


def _signed_square(values: Any) -> Any:
    return np.sign(values) * np.square(values)
