"""Figures 1, 2 and 3 of the paper: which cells they have, and how these are laid out."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import PIL.Image

from gramstyle.analysis.figures.cells import Cell
from gramstyle.analysis.figures.sheet import Row, compose, with_inset
from gramstyle.core.conventions import STYLE_LAYERS
from gramstyle.errors import OptionError
from gramstyle.images import fitted_size, read_image, resize, to_pil
from gramstyle.run.options import Options
from gramstyle.run.reconstruct import content_options, style_options

# Where figure 1 reconstructs content, a to e.
CONTENT_LAYERS = STYLE_LAYERS

# The columns of figure 3, α/β, as the paper prints them. They hold on the plain weights.
RATIOS = (1e-5, 1e-4, 1e-3, 1e-2)
# The same columns for a network whose filters have a mean activation of 1.
RATIOS_NORMALISED = (1e-8, 1e-7, 1e-6, 1e-5)

# Paintings are lettered as in figure 2, where A is the photograph.
_LETTERS = "BCDEFGHIJKLMNOPQRSTUVWXYZ"

Images = Mapping[str, PIL.Image.Image]


@dataclass(frozen=True)
class Figure:
    """The cells of a figure, and the sheet that they make: ``compose(images by cell name)``."""

    cells: tuple[Cell, ...]
    compose: Callable[[Images], PIL.Image.Image]


def growing(layers: Sequence[str] = STYLE_LAYERS) -> list[tuple[str, ...]]:
    """Return the growing sets of style layers: the first, the first two, … all of them."""
    return [tuple(layers[:n]) for n in range(1, len(layers) + 1)]


def reconstructions(content: Path, style: Path, options: Options) -> Figure:
    """Figure 1: the painting from the growing sets of Gram matrices, the photograph from layers.

    Parameters
    ----------
    content, style
        The photograph and the painting.
    options
        Of every cell, but for its layers and its start, which is noise.
    """
    by_style = [
        Cell(f"style-{layers[-1]}", None, style, style_options(layers, options))
        for layers in growing()
    ]
    by_content = [
        Cell(f"content-{layer}", content, None, content_options(layer, options))
        for layer in CONTENT_LAYERS
    ]

    def sheet(images: Images) -> PIL.Image.Image:
        return compose(
            [
                Row(
                    "style",
                    [_fitted(style, options), *(images[cell.name] for cell in by_style)],
                    ["painting", *map(_set_label, growing())],
                ),
                Row(
                    "content",
                    [_fitted(content, options), *(images[cell.name] for cell in by_content)],
                    ["photograph", *CONTENT_LAYERS],
                ),
            ]
        )

    return Figure((*by_style, *by_content), sheet)


def tradeoff(content: Path, style: Path, ratios: Sequence[float], options: Options) -> Figure:
    """Figure 3: rows of growing sets of style layers, columns of α/β.

    Parameters
    ----------
    content, style
        The photograph and the painting.
    ratios
        α/β of each column.
    options
        Of every cell, but for α and the style layers.

    Raises
    ------
    OptionError
        If there is no ratio, one is not above 0, or one is there twice.
    """
    if not ratios or len(set(ratios)) != len(ratios):
        raise OptionError("--ratios must be at least one number, and none twice")
    if not all(math.isfinite(ratio) and ratio > 0 for ratio in ratios):
        raise OptionError("each of --ratios must be a number above 0")
    rows = [
        [
            Cell(
                f"{layers[-1]}-{float(ratio)!r}",
                content,
                style,
                replace(options, style_layers=layers, alpha=ratio * options.beta),
            )
            for ratio in ratios
        ]
        for layers in growing()
    ]

    def sheet(images: Images) -> PIL.Image.Image:
        headings = [number(ratio) for ratio in ratios]
        return compose(
            [
                Row(
                    _set_label(layers),
                    [images[cell.name] for cell in row],
                    headings if row is rows[0] else [""] * len(row),
                )
                for layers, row in zip(growing(), rows, strict=True)
            ],
            title="alpha / beta",
        )

    return Figure(tuple(cell for row in rows for cell in row), sheet)


def styles(content: Path, paintings: Sequence[Path], options: Options) -> Figure:
    """Figure 2: one photograph in several styles, each painting in its image's corner.

    Parameters
    ----------
    content, paintings
        The photograph, and 1 to 25 paintings.
    options
        Of every cell.

    Raises
    ------
    OptionError
        If there are too many paintings, or none.
    """
    if not 1 <= len(paintings) <= len(_LETTERS):
        raise OptionError(f"give 1 to {len(_LETTERS)} paintings, not {len(paintings)}")
    cells = [
        Cell(f"style-{letter}", content, painting, options)
        for letter, painting in zip(_LETTERS, paintings, strict=False)
    ]

    def sheet(images: Images) -> PIL.Image.Image:
        shown = [_fitted(content, options)]
        for cell, painting in zip(cells, paintings, strict=True):
            shown.append(with_inset(images[cell.name], _fitted(painting, options)))
        letters = ["A", *_LETTERS[: len(cells)]]
        across = math.ceil(math.sqrt(len(shown)))
        return compose(
            [
                Row("", shown[i : i + across], letters[i : i + across])
                for i in range(0, len(shown), across)
            ]
        )

    return Figure(tuple(cells), sheet)


def number(ratio: float) -> str:
    """Return a ratio as a label: a power of ten as 10^n, others in short."""
    exponent = round(math.log10(ratio))
    return f"10^{exponent}" if math.isclose(ratio, 10.0**exponent, rel_tol=1e-9) else f"{ratio:.3g}"


def _set_label(layers: Sequence[str]) -> str:
    """Return the label of a growing set: what it has more than the one before."""
    return layers[0] if len(layers) == 1 else f"+ {layers[-1]}"


def _fitted(path: Path, options: Options) -> PIL.Image.Image:
    """Return an image as a run of these options sees it."""
    image = read_image(path, max_pixels=options.max_pixels)
    return to_pil(resize(image, *fitted_size(image.width, image.height, options.size)))
