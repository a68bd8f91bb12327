"""Reconstruct an image from its content or its style, as in figure 1 of the paper.

A reconstruction is a transfer with one of its two losses: from white noise, it finds an image whose
responses at one layer are those of the content image, or whose Gram matrices are those of the style
image.
"""

from collections.abc import Callable
from dataclasses import replace

from gramstyle.images import Source
from gramstyle.run.open_model import ModelSource
from gramstyle.run.options import Options, options_or_default
from gramstyle.run.plan import plan_run
from gramstyle.run.transfer import Progress, Result, execute


def reconstruct_content(
    image: Source,
    layer: str | None = None,
    options: Options | None = None,
    *,
    model: ModelSource | None = None,
    callback: Callable[[Progress], bool | None] | None = None,
) -> Result:
    """Find an image whose responses at one layer are those of `image` (equations 1 and 2).

    Parameters
    ----------
    image
        The image, of any type that `transfer` accepts.
    layer
        The layer where responses are compared; None is the network's default, conv4_2 in every
        VGG.
    options
        As for `transfer`, but by default α is 1 and the start is noise. The loss is α L_content.
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

    Examples
    --------
    >>> from gramstyle import Options, reconstruct_content
    >>> options = Options(size=32, iterations=2)
    >>> image, record = reconstruct_content("photo.jpg", layer="conv3_1", options=options)
    >>> sorted(record.losses[-1].terms)
    ['content']
    """
    plan = plan_run(image, None, content_options(layer, options), model=model)
    return execute(plan, callback=callback)


def reconstruct_style(
    image: Source,
    layers: tuple[str, ...] | None = None,
    options: Options | None = None,
    *,
    model: ModelSource | None = None,
    callback: Callable[[Progress], bool | None] | None = None,
) -> Result:
    """Find an image whose Gram matrices are those of `image` (equations 3 to 6).

    Parameters
    ----------
    image
        The image, of any type that `transfer` accepts; the result has its aspect ratio.
    layers
        The layers where Gram matrices are compared; None is the network's default, the first
        convolution of each block in every VGG.
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

    Examples
    --------
    >>> from gramstyle import Options, reconstruct_style
    >>> options = Options(size=32, iterations=2)
    >>> layers = ("conv1_1", "conv2_1")
    >>> image, record = reconstruct_style("painting.jpg", layers, options)
    >>> list(record.losses[-1].layers["style"])
    ['conv1_1', 'conv2_1']
    """
    plan = plan_run(None, image, style_options(layers, options), model=model)
    return execute(plan, callback=callback)


def content_options(layer: str | None, options: Options | None = None) -> Options:
    """Return the options of a content reconstruction: by default α = 1 and a start from noise."""
    given = replace(from_noise(options), scales=1)
    alpha = given.content_strength if given.alpha is None else given.alpha
    return replace(
        given,
        content_layers=None if layer is None else (layer,),
        content_weights=None,
        alpha=alpha,
        content_strength=1.0,
    )


def style_options(layers: tuple[str, ...] | None, options: Options | None = None) -> Options:
    """Return the options of a style reconstruction: by default a start from noise."""
    return replace(from_noise(options), scales=1, style_layers=layers)


def from_noise(options: Options | None) -> Options:
    """Return the options with a start from noise, unless they name another start."""
    given = options_or_default(options)
    return replace(given, init="noise") if given.init is None else given
