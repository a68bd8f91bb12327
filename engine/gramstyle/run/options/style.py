"""The options of the style: where it is compared, shares of several images, sizes, regions."""

from dataclasses import dataclass
from typing import TypeVar

from gramstyle.core.conventions import STYLE_LAYERS
from gramstyle.core.terms import STYLE_LOSSES
from gramstyle.errors import OptionError
from gramstyle.images import Source
from gramstyle.run.options.coercion import shown
from gramstyle.run.options.layers import check_layers

T = TypeVar("T")

STYLE_CHOICES = {"style_loss": STYLE_LOSSES}

# How many style images a run has at most, and at how many scales it samples each of them.
MOST_STYLES, MOST_STYLE_SCALES = 64, 16
# The largest values of the options of the style, whose least values are above 0.
STYLE_BOUNDS = {"style_blend": 1e100, "style_scale": 100.0, "style_size": 1_000_000}


@dataclass(frozen=True, kw_only=True)
class StyleOptions:
    """The options of the style.

    Attributes
    ----------
    beta
        The weight β of equation 7.
    style_loss
        The statistic of the responses that is compared: "gram", the paper's Gram matrices;
        "mean-std", the mean and the standard deviation of each filter; "covariance", Gram matrices
        of centred responses, which leave the result more of the content image's colours.
    style_layers
        The layers where style is compared; None is the network's default, conv1_1, conv2_1,
        conv3_1, conv4_1 and conv5_1 in every VGG.
    style_weights
        One w_l for each style layer; None is the convention's: 1 / (number of layers), or
        1000 / N² for "author".
    style_blend
        A number above 0 for each style image: the shares of the images, whose sum may be any.
        None gives equal shares.
    style_scale
        The size of the strokes: the longer edge of the style image as a multiple of the result's.
        Several samples each style image at all of them, in equal shares. None is 1, unless
        `style_size` is given.
    style_size
        The longer edge of the style image in pixels, or several, instead of `style_scale`.
    style_regions
        A mask for each style image: where in the result its style applies, from black (nowhere) to
        white. `style_blend` then weights the regions.
    style_labels
        A label map for each style image; see `content_labels`.

    Examples
    --------
    >>> from gramstyle import Options
    >>> Options(style_blend=(3, 1)).style_shares(2)
    (0.75, 0.25)
    """

    beta: float = 1.0
    style_loss: str = "gram"
    style_layers: tuple[str, ...] | None = None
    style_weights: tuple[float, ...] | None = None
    style_blend: tuple[float, ...] | None = None
    style_scale: float | tuple[float, ...] | None = None
    style_size: int | tuple[int, ...] | None = None
    style_regions: tuple[Source, ...] | None = None
    style_labels: tuple[Source, ...] | None = None

    def style_shares(self, count: int) -> tuple[float, ...]:
        """Return the shares of so many style images, which add up to 1; raises OptionError."""
        blend = (1.0,) * count if self.style_blend is None else self.style_blend
        if len(blend) != count:
            images = "style image" if count == 1 else "style images"
            raise OptionError(
                f"style_blend has {len(blend)} numbers for {count} {images}; give one each"
            )
        return tuple(each / sum(blend) for each in blend)


def several(values: T | tuple[T, ...]) -> tuple[T, ...]:
    """Return one value as a list of one, and several as they are."""
    return values if isinstance(values, tuple) else (values,)


def check_style(options: StyleOptions) -> None:
    """Check the options of the style that need no images; raises OptionError."""
    check_layers("style", options.style_layers, options.style_weights, STYLE_LAYERS)
    for name, most in STYLE_BOUNDS.items():
        values = getattr(options, name)
        if values is None:
            continue
        items = MOST_STYLES if name == "style_blend" else MOST_STYLE_SCALES
        if not 1 <= len(values) <= items:
            raise OptionError(f"{name} must have from 1 to {items} numbers, not {len(values)}")
        for value in values:
            if not 0 < value <= most:
                raise OptionError(
                    f"each number of {name} must be above 0 and at most {most:g}, "
                    f"not {shown(value)}"
                )
        if name != "style_blend" and len(set(values)) != len(values):
            raise OptionError(f"{name} must not have the same number twice")
    if options.style_scale is not None and options.style_size is not None:
        raise OptionError("give style_scale or style_size, not both")
    blend = options.style_blend
    if blend is not None and min(blend) < 1e-9 * sum(blend):
        raise OptionError("each number of style_blend must be at least a billionth of their sum")
