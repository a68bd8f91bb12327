"""What a layer knows of an image: figure 1 of the paper, one image at a time.

A reconstruction is a transfer with one of its two terms: white noise is moved until its responses
at one layer are the photograph's (content), or its Gram matrices the painting's (style).
"""

import os
from collections.abc import Callable
from dataclasses import replace

from gramstyle.core.conventions import STYLE_LAYERS
from gramstyle.images import Source
from gramstyle.run.options import Options
from gramstyle.run.prepare import Prepared, prepare
from gramstyle.run.transfer import Progress, Result, run


def reconstruct_content(
    image: Source,
    layer: str = "conv4_2",
    options: Options | None = None,
    *,
    model: str | os.PathLike[str] | None = None,
    callback: Callable[[Progress], bool | None] | None = None,
) -> Result:
    """Find an image whose responses at one layer are those of `image` (equations 1 and 2).

    Parameters
    ----------
    image
        The image, as `transfer` takes its photograph.
    layer
        Where responses are compared.
    options
        As for `transfer`; the start is noise unless they say otherwise, the loss L_content.
    model, callback
        As for `transfer`.

    Returns
    -------
    Result
        The image of the best iterate, and the record of the run.

    Raises
    ------
    ImageError, OptionError, ModelError, RuntimeMissingError, NonFiniteError
        As `transfer` does.
    """
    return run(prepare_content(image, layer, options, model=model), callback=callback)


def reconstruct_style(
    image: Source,
    layers: tuple[str, ...] = STYLE_LAYERS,
    options: Options | None = None,
    *,
    model: str | os.PathLike[str] | None = None,
    callback: Callable[[Progress], bool | None] | None = None,
) -> Result:
    """Find an image whose Gram matrices are those of `image` (equations 3 to 6).

    Parameters
    ----------
    image
        The image, as `transfer` takes its painting; the result has its shape.
    layers
        Where Gram matrices are compared.
    options, model, callback
        As for `reconstruct_content`; the loss is β L_style.

    Returns
    -------
    Result
        The image of the best iterate, and the record of the run.

    Raises
    ------
    ImageError, OptionError, ModelError, RuntimeMissingError, NonFiniteError
        As `transfer` does.
    """
    return run(prepare_style(image, layers, options, model=model), callback=callback)


def prepare_content(
    image: Source,
    layer: str,
    options: Options | None = None,
    *,
    model: str | os.PathLike[str] | None = None,
    notify: Callable[[str], None] | None = None,
) -> Prepared:
    """Prepare a reconstruction of content; takes and raises what `prepare` does."""
    options = content_options(layer, options)
    return prepare(image, None, options, model=model, notify=notify)


def prepare_style(
    image: Source,
    layers: tuple[str, ...],
    options: Options | None = None,
    *,
    model: str | os.PathLike[str] | None = None,
    notify: Callable[[str], None] | None = None,
) -> Prepared:
    """Prepare a reconstruction of style; takes and raises what `prepare` does."""
    options = style_options(layers, options)
    return prepare(None, image, options, model=model, notify=notify)


def content_options(layer: str, options: Options | None = None) -> Options:
    """Return the options of a reconstruction of content: α = 1, from noise."""
    given = _from_noise(options)
    return replace(given, content_layer=layer, alpha=1.0 if given.alpha is None else given.alpha)


def style_options(layers: tuple[str, ...], options: Options | None = None) -> Options:
    """Return the options of a reconstruction of style: from noise."""
    return replace(_from_noise(options), style_layers=layers)


def _from_noise(options: Options | None) -> Options:
    given = Options() if options is None else options
    return replace(given, init="noise") if given.init is None else given
