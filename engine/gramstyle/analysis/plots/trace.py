"""Plots of one backward pass: the layers' responses and the gradient of each loss term."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gramstyle.analysis.plots.canvas import drawn, load_matplotlib
from gramstyle.analysis.trace import Row, terms
from gramstyle.core.arrays import Array
from gramstyle.core.objective import Objective
from gramstyle.core.term import PIXELS
from gramstyle.core.terms import GuidedStyleTerm, StyleTerm, positions

CHANNELS_SHOWN, CHANNELS_IN_A_ROW = 16, 4
GRADIENTS_IN_A_ROW = 4
# The length of the step that shows a gradient: grey levels, root mean square.
GREY_LEVELS = 20.0
# The fraction of the largest values that a colour scale clips, so that the others are visible.
CLIPPED = 0.005


def trace_images(
    objective: Objective, x: Array, rows: Sequence[Row], layers: Iterable[str]
) -> dict[str, bytes]:
    """Draw the quantities of a trace; return PNG files by name.

    Parameters
    ----------
    objective, x
        The traced objective and image; x is float (3, H, W), RGB, 0..255.
    rows
        The rows of its trace to draw.
    layers
        The layers whose feature maps to draw. Gram matrices and gradients are drawn for the
        layers among them that a loss term uses.

    Returns
    -------
    dict
        ``feature-maps-LAYER.png`` for each layer, ``gram-LAYER.png`` for each style layer
        that Gram matrices are compared at (``gram-LAYER-region1.png`` and so on if the style has
        regions),
        ``gradient-TERM-LAYER.png`` for each term of the loss, such as
        ``gradient-content-conv4_2.png``, ``gradients.png`` of these together, ``backward.png``.

    Raises
    ------
    GramstyleError
        If matplotlib is not installed.
    """
    load_matplotlib()
    layers = tuple(dict.fromkeys(layers))
    forward = objective.network.forward if objective.forward is None else objective.forward
    responses = forward(objective.preprocessing.forward(x))
    files, styles = {}, objective.terms_of("style")
    for name in layers:
        F = responses[name]
        files[f"feature-maps-{name}.png"] = feature_maps(name, F)
        target = styles.get(name)
        if isinstance(target, StyleTerm | GuidedStyleTerm):  # others have no Gram matrices
            for region, (G, A) in _compared(objective, target, F).items():
                files[f"gram-{name}{region}.png"] = gram_matrices(f"{name}{region}", G, A)
    # The kernels take the memory of the responses, so these come last.
    gradients = {
        term: evaluation.gradient
        for term, evaluation in terms(objective, x).items()
        if term[1] in layers or term[1] == PIXELS
    }
    titles = {f"{name} at {layer}": dx for (name, layer), dx in gradients.items()}
    for (name, layer), title in zip(gradients, titles, strict=True):
        files[f"gradient-{name}-{layer}.png"] = gradient_of_term(title, x, titles[title])
    if titles:
        files["gradients.png"] = gradients_of_terms(x, titles)
    files["backward.png"] = backward_pass(rows)
    return files


def feature_maps(layer: str, F: Array) -> bytes:
    """Draw the channels of F (N, H, V) with the largest means, each on its own scale."""
    means = F.mean(axis=(1, 2), dtype=np.float64)
    # Stable, so that channels with equal means stay in order.
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


def _compared(
    objective: Objective, term: StyleTerm | GuidedStyleTerm, F: Array
) -> dict[str, tuple[Array, Array]]:
    """Return the Gram matrices G/M and A/M that a style term compares, for each of its regions."""
    assert term.A is not None  # noqa: S101 - the terms of an objective have their targets
    sums = term.sums(F, objective.kernels)
    if isinstance(term, StyleTerm):
        return {"": (sums / positions(F), term.A / term.M)}
    return {
        f"-region{r + 1}": (sums[r] / term.m[r], term.A[r] / term.M[r])
        for r in range(len(term.shares))
    }


def gram_matrices(layer: str, G: Array, A: Array) -> bytes:
    """Draw G / M and A / M, both (N, N), on a common scale, and their difference."""
    colors = load_matplotlib().colors
    D = G - A
    common = colors.PowerNorm(0.5, vmin=0, vmax=_upper_limit(np.concatenate([G, A])))
    limit = _upper_limit(abs(D))
    signed = colors.FuncNorm((_signed_root, _signed_square), vmin=-limit, vmax=limit)

    def fill(figure: Any) -> None:
        figure.suptitle(f"{layer}: Gram matrices of {len(G)} channels, each divided by its M")
        first, second, third = figure.subplots(1, 3)
        scale = "square-root scale"
        first.imshow(G, cmap="magma", norm=common)
        image = second.imshow(A, cmap="magma", norm=common)
        figure.colorbar(image, ax=[first, second], shrink=0.8, extend="max", label=scale)
        difference = third.imshow(D, cmap="RdBu_r", norm=signed)
        figure.colorbar(difference, ax=third, shrink=0.8, extend="both", label=scale)
        titles = ("generated image, G/M", "style image, A/M", "difference, G/M − A/M")
        for place, title in zip((first, second, third), titles, strict=True):
            place.set_title(title)
            place.set_xlabel("channel")
        first.set_ylabel("channel")

    return drawn(fill, width=12.5, height=4.2)


def gradient_of_term(title: str, x: Array, gradient: Array) -> bytes:
    """Draw a term's gradient by x (3, H, W), and x after one step of 20 grey levels against it."""

    def fill(figure: Any) -> None:
        figure.suptitle(f"{title}: gradient by the image, {_length_text(gradient)}")
        lengths, image = figure.subplots(1, 2)
        shown = _show_lengths(lengths, gradient)
        figure.colorbar(shown, ax=lengths, shrink=0.8, extend="max")
        lengths.set_title("length of ∂L/∂x over the three colours")
        image.imshow(_moved(x, gradient))
        image.set_title(f"one step along −∂L/∂x, {GREY_LEVELS:g} grey levels RMS")
        for place in (lengths, image):
            _bare(place)

    return drawn(fill, width=10.5, height=4.7 * _aspect(x) + 0.8)


def gradients_of_terms(x: Array, gradients: Mapping[str, Array]) -> bytes:
    """Draw x (3, H, W) and, for each term by its title, its gradient and x after one step."""
    columns = min(GRADIENTS_IN_A_ROW, 1 + len(gradients))
    rows = -(-(1 + len(gradients)) // columns)

    def fill(figure: Any) -> None:
        figure.suptitle(
            "gradient of each loss term: length of ∂L/∂x (above), "
            f"one step of {GREY_LEVELS:g} grey levels RMS along −∂L/∂x (below)"
        )
        places = figure.subplots(2 * rows, columns, squeeze=False)
        for place in places.flat:
            _bare(place)
        places[1, 0].imshow(_visible(x))
        places[1, 0].set_title("generated image", fontsize=9)
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
        axes.set_title("backward pass: length of the derivative by each layer's responses")
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
            "gradient of the layer's own loss": ("k", -0.21, [row.seed for row in rows]),
        }
        for name, (colour, shift, lengths) in marks.items():
            # A logarithmic scale cannot show 0.
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
    """Remove the frame and the ticks, whose layout would take most of the time."""
    axes.set_axis_off()
    axes.set_xticks([])
    axes.set_yticks([])


def _aspect(image: Array) -> float:
    """Return height / width of (…, H, V), limited so that the figure stays legible."""
    H, V = image.shape[-2:]
    return float(np.clip(H / V, 0.3, 3))


def _peak(values: Array) -> float:
    """Return the largest value, or 1 if all are 0, since a scale must not be empty."""
    return float(values.max()) or 1.0


def _upper_limit(values: Array) -> float:
    """Return the upper limit of a colour scale: a high quantile, or 1 if all values are 0."""
    return float(np.quantile(values, 1 - CLIPPED)) or _peak(values)


def _show_lengths(axes: Any, gradient: Array) -> Any:
    """Draw the length of a gradient (3, H, W) over the three colours."""
    lengths = np.linalg.norm(gradient.astype(np.float64), axis=0)
    return axes.imshow(lengths, cmap="magma", vmin=0, vmax=_upper_limit(lengths))


def _length_text(gradient: Array) -> str:
    length = _peak(abs(gradient)) * np.linalg.norm(_normalised(gradient))
    return f"‖dx‖ = {length:.3g}" if length else "‖dx‖ = 0"


def _normalised(gradient: Array) -> Array:
    """Return a gradient relative to its largest value, so that no square over- or underflows."""
    return gradient.astype(np.float64) / _peak(abs(gradient))


def _moved(x: Array, gradient: Array) -> Array:
    """Return x after a step against the gradient, as uint8 pixels (H, W, 3)."""
    direction = _normalised(gradient)
    mean_square = np.mean(np.square(direction))
    step = GREY_LEVELS / np.sqrt(mean_square) if mean_square else 0.0
    return _visible(x - step * direction)


def _visible(x: Array) -> Array:
    pixels: Array = np.clip(np.rint(x), 0, 255).astype(np.uint8).transpose(1, 2, 0)
    return pixels


def _signed_root(values: Any) -> Any:
    return np.sign(values) * np.sqrt(np.abs(values))


def _signed_square(values: Any) -> Any:
    return np.sign(values) * np.square(values)
