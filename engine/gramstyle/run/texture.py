"""Make a texture: an image of any size that has the style of an image, and no content.

A texture is a reconstruction of a style at another size (Gatys, Ecker, Bethge, 2015, "Texture
Synthesis Using Convolutional Neural Networks", arXiv 1505.07376), through several scales from a
small one on, where the largest structures form. With circular padding its opposite edges meet.
"""

from collections.abc import Callable
from dataclasses import replace

from gramstyle.core.conventions import STYLE_LAYERS
from gramstyle.core.layer_names import poolings_until
from gramstyle.core.layers import Padding
from gramstyle.errors import OptionError
from gramstyle.run.inputs import Canvas, Styles
from gramstyle.run.open_model import ModelSource
from gramstyle.run.options import Options, options_or_default
from gramstyle.run.plan import RunPlan, plan_run
from gramstyle.run.reconstruct import from_noise
from gramstyle.run.transfer import Progress, Result, execute


def texture(
    style: Styles,
    size: tuple[int, int],
    options: Options | None = None,
    *,
    tileable: bool = False,
    model: ModelSource | None = None,
    callback: Callable[[Progress], bool | None] | None = None,
) -> Result:
    """Make a texture with the style of one image, or of several.

    Parameters
    ----------
    style
        The image or images, as for `transfer`.
    size
        The width and the height of the texture in pixels.
    options
        As for `transfer`, but the start is noise by default.
        `size` is the longer edge of the texture: the style image is enlarged or reduced to it,
        unless `style_scale` or `style_size` says otherwise. The loss is β L_style.
    tileable
        Whether opposite edges meet, so that copies of the texture join without a seam. The padding
        is then circular.
    model, callback
        As for `transfer`.

    Returns
    -------
    Result
        The image of the best iterate, and the record of the run.

    Raises
    ------
    ImageError, OptionError, ModelError, RuntimeMissingError, NonFiniteError
        As `transfer` does; if a tileable texture has a size whose poolings do not meet.

    Examples
    --------
    >>> from gramstyle import Options, texture
    >>> options = Options(iterations=2)
    >>> image, record = texture("painting.jpg", (48, 32), options, tileable=True)
    >>> image.size, record.settings.options["padding"]
    ((48, 32), 'circular')
    """
    return execute(
        plan_texture(style, size, options, tileable=tileable, model=model), callback=callback
    )


def plan_texture(
    style: Styles,
    size: tuple[int, int],
    options: Options | None = None,
    *,
    tileable: bool = False,
    model: ModelSource | None = None,
    notify: Callable[[str], None] | None = None,
) -> RunPlan:
    """Read and check everything that a texture needs, as `plan_run` does for a transfer."""
    canvas, given = Canvas(*size), options_or_default(options)
    if min(canvas) < 1:
        raise OptionError(f"a texture has at least 1×1 pixels, not {canvas.width}×{canvas.height}")
    # A texture does not use the content layers, which must not limit its size.
    content = None if given.style_layers is None else given.style_layers[:1]
    given = replace(given, content_layers=content, content_weights=None)
    padding = given.padding
    if tileable:
        padding = _circular(given, canvas)
    given = from_noise(replace(given, size=max(canvas), padding=padding))
    return plan_run(None, style, given, model=model, notify=notify, canvas=canvas)


def _circular(options: Options, canvas: Canvas) -> Padding:
    """Return the padding of a tileable texture; refuse one that has a seam."""
    if options.padding not in (None, "circular"):
        raise OptionError(
            f"a tileable texture has circular padding, not {options.padding}; leave one of the two "
            "out"
        )
    multiple = 1 << max(map(poolings_until, options.style_layers or STYLE_LAYERS))
    if canvas.width % multiple or canvas.height % multiple:
        width, height = (-(-each // multiple) * multiple for each in canvas)
        raise OptionError(
            f"a tileable texture of {canvas.width}×{canvas.height} pixels has a seam: the poolings "
            f"need multiples of {multiple}; the next larger size is {width}x{height}"
        )
    return "circular"
