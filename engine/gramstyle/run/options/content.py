"""The options of the content: where it is compared, its weight, its regions."""

from dataclasses import dataclass

from gramstyle.core.conventions import CONTENT_LAYER
from gramstyle.errors import OptionError
from gramstyle.images import Source
from gramstyle.run.options.layers import check_layers


@dataclass(frozen=True, kw_only=True)
class ContentOptions:
    """The options of the content.

    Attributes
    ----------
    alpha
        The weight α of equation 7. None is 1 for the convention "author", else
        24 / (width · height) of each scale, or 50 / (width · height) for the convention
        "paper". For a normalised network it is a 5000th of that.
    content_strength
        A factor of that default: 2 keeps more of the photograph, 0.5 less, at every size. Not
        together with `alpha`.
    content_layers
        The layers where content is compared; None is the network's default, conv4_2 in every VGG.
    content_weights
        One weight for each content layer; None is 1 each.
    content_layer
        Short for `content_layers` with one layer; the constructor resets it to None.
    content_labels
        A label map of the content image, in which each colour marks a region; with `style_labels`,
        regions of the same colour have the style of each other.
    protect
        A mask of the part of the content image that stays as it is: white is protected, black is
        not.

    Examples
    --------
    >>> from gramstyle import Options
    >>> Options(content_layer="conv5_2").content_layers
    ('conv5_2',)
    """

    alpha: float | None = None
    content_strength: float = 1.0
    content_layers: tuple[str, ...] | None = None
    content_weights: tuple[float, ...] | None = None
    content_layer: str | None = None
    content_labels: Source | None = None
    protect: Source | None = None


def check_content(options: ContentOptions) -> None:
    """Check the options of the content, and replace `content_layer`; raises OptionError."""
    if options.content_layer is not None:
        if options.content_layers not in (None, (options.content_layer,)):
            raise OptionError("give content_layers or content_layer, not both")
        object.__setattr__(options, "content_layers", (options.content_layer,))
        object.__setattr__(options, "content_layer", None)
    if options.alpha is not None and options.content_strength != 1:
        raise OptionError(
            "content_strength is a factor of the default alpha; give alpha or content_strength"
        )
    check_layers("content", options.content_layers, options.content_weights, (CONTENT_LAYER,))
