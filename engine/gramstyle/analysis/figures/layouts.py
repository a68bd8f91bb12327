"""Figures 1, 2 and 3 of the paper: their cells, and the layout of their sheets."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import PIL.Image

from gramstyle.analysis.figures.sheet import Row, compose, with_inset
from gramstyle.batch import Job
from gramstyle.core.conventions import STYLE_LAYERS
from gramstyle.errors import OptionError
from gramstyle.images import read_original, to_pil
from gramstyle.run.inputs import used_size
from gramstyle.run.options import Options
from gramstyle.run.reconstruct import content_options, style_options

# The columns of figure 3, α/β, as the paper prints them, for the plain weights.
RATIOS = (1e-5, 1e-4, 1e-3, 1e-2)
# The same columns for a normalised network, whose filters have a mean activation of 1.
RATIOS_NORMALISED = (1e-8, 1e-7, 1e-6, 1e-5)

# The letters of the style images in figure 2, where A is the content image.
_LETTERS = "BCDEFGHIJKLMNOPQRSTUVWXYZ"

Images = Mapping[str, PIL.Image.Image]


@dataclass(frozen=True)
class Figure:
    """The cells of a figure, and a layout: ``compose(images by cell name)`` returns the sheet.

    Examples
    --------
    >>> from pathlib import Path
    >>> from gramstyle import Options
    >>> from gramstyle.analysis.figures import styles
    >>> figure = styles(Path("photo.jpg"), [Path("painting.jpg")], Options(size=64))
    >>> [cell.label for cell in figure.cells]
    ['style-B']
    """

    cells: tuple[Job, ...]
    compose: Callable[[Images], PIL.Image.Image]


def cell(name: str, content: Path | None, style: Path | None, options: Options) -> Job:
    """Return the job of a cell; `draw` puts its output into the folder of the cells.

    Examples
    --------
    >>> from pathlib import Path
    >>> from gramstyle import Options
    >>> from gramstyle.analysis.figures import cell
    >>> cell("A", Path("photo.jpg"), Path("painting.jpg"), Options(size=64)).name
    'A'
    """
    return Job(
        label=name,
        name=name,
        content=content,
        style=style,
        output=Path(f"{name}.png"),
        options=replace(options, scales=1),
        owner="figure",
    )


def growing(layers: Sequence[str] = STYLE_LAYERS) -> list[tuple[str, ...]]:
    """Return the growing sets of style layers: the first, the first two, … all of them."""
    return [tuple(layers[:n]) for n in range(1, len(layers) + 1)]


def reconstructions(
    content: Path, style: Path, options: Options, layers: Sequence[str] = STYLE_LAYERS
) -> Figure:
    """Return figure 1: style from growing sets of layers, content from single layers.

    Parameters
    ----------
    content, style
        The content image and the style image.
    options
        The options of every cell, except its layers and its start, which is noise.
    layers
        The layers from which content is reconstructed; the growing sets of them are those of the
        style.

    Examples
    --------
    >>> from pathlib import Path
    >>> from gramstyle import Options
    >>> from gramstyle.analysis.figures import reconstructions
    >>> figure = reconstructions(Path("photo.jpg"), Path("painting.jpg"), Options(size=64))
    >>> [cell.label for cell in figure.cells][:3]
    ['style-conv1_1', 'style-conv2_1', 'style-conv3_1']
    """
    by_style = [
        cell(f"style-{names[-1]}", None, style, style_options(names, options))
        for names in growing(layers)
    ]
    by_content = [
        cell(f"content-{layer}", content, None, content_options(layer, options)) for layer in layers
    ]

    def sheet(images: Images) -> PIL.Image.Image:
        return compose(
            [
                Row(
                    "style",
                    [_fitted(style, options), *(images[cell.name] for cell in by_style)],
                    ["painting", *map(_set_label, growing(layers))],
                ),
                Row(
                    "content",
                    [_fitted(content, options), *(images[cell.name] for cell in by_content)],
                    ["photograph", *layers],
                ),
            ]
        )

    return Figure((*by_style, *by_content), sheet)


def tradeoff(
    content: Path,
    style: Path,
    ratios: Sequence[float],
    options: Options,
    layers: Sequence[str] = STYLE_LAYERS,
) -> Figure:
    """Return figure 3: rows of growing sets of style layers, columns of α/β.

    Parameters
    ----------
    content, style
        The content image and the style image.
    ratios
        α/β of each column.
    options
        The options of every cell, except α and the style layers.
    layers
        The style layers, of which each row adds one.

    Raises
    ------
    OptionError
        If there is no ratio, if one is not above 0, or if one occurs twice.

    Examples
    --------
    >>> from pathlib import Path
    >>> from gramstyle import Options
    >>> from gramstyle.analysis.figures import tradeoff
    >>> photo, painting = Path("photo.jpg"), Path("painting.jpg")
    >>> figure = tradeoff(photo, painting, ratios=[1e-4, 1e-2], options=Options(size=64))
    >>> len(figure.cells)  # five rows of two columns
    10
    """
    if not ratios or len(set(ratios)) != len(ratios):
        raise OptionError("--ratios must name at least one number, and none twice")
    if not all(math.isfinite(ratio) and ratio > 0 for ratio in ratios):
        raise OptionError("each of --ratios must be a number above 0")
    rows = [
        [
            cell(
                f"{names[-1]}-{float(ratio)!r}",
                content,
                style,
                replace(options, style_layers=names, alpha=ratio * options.beta),
            )
            for ratio in ratios
        ]
        for names in growing(layers)
    ]

    def sheet(images: Images) -> PIL.Image.Image:
        headings = [number(ratio) for ratio in ratios]
        return compose(
            [
                Row(
                    _set_label(names),
                    [images[cell.name] for cell in row],
                    headings if row is rows[0] else [""] * len(row),
                )
                for names, row in zip(growing(layers), rows, strict=True)
            ],
            title="alpha / beta",
        )

    return Figure(tuple(cell for row in rows for cell in row), sheet)


def styles(content: Path, style_images: Sequence[Path], options: Options) -> Figure:
    """Return figure 2: a content image in several styles, each style image in a corner.

    Parameters
    ----------
    content, style_images
        The content image, and 1 to 25 style images.
    options
        The options of every cell.

    Raises
    ------
    OptionError
        If there are too many style images, or none.

    Examples
    --------
    >>> from pathlib import Path
    >>> from gramstyle import Options
    >>> from gramstyle.analysis.figures import styles
    >>> photo, paintings = Path("photo.jpg"), [Path("painting.jpg"), Path("sketch.png")]
    >>> [cell.label for cell in styles(photo, paintings, Options(size=64)).cells]
    ['style-B', 'style-C']
    """
    if not 1 <= len(style_images) <= len(_LETTERS):
        raise OptionError(f"give 1 to {len(_LETTERS)} style images, not {len(style_images)}")
    cells = [
        cell(f"style-{letter}", content, style, options)
        for letter, style in zip(_LETTERS, style_images, strict=False)
    ]

    def sheet(images: Images) -> PIL.Image.Image:
        shown = [_fitted(content, options)]
        for cell, style in zip(cells, style_images, strict=True):
            shown.append(with_inset(images[cell.name], _fitted(style, options)))
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
    """Return a ratio as a label: 10^n for a power of ten, else a short number."""
    exponent = round(math.log10(ratio))
    return f"10^{exponent}" if math.isclose(ratio, 10.0**exponent, rel_tol=1e-9) else f"{ratio:.3g}"


def _set_label(layers: Sequence[str]) -> str:
    """Return the label of a growing set: the layer that the set before does not have."""
    return layers[0] if len(layers) == 1 else f"+ {layers[-1]}"


def _fitted(path: Path, options: Options) -> PIL.Image.Image:
    """Return an image at the size that a run with these options gives it."""
    image = read_original(path, max_pixels=options.max_pixels)
    return to_pil(image.resized(*used_size(image, options.size, options)))
