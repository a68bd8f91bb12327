"""The options of the result: its size, its smoothness, its colours and how they are stored."""

from dataclasses import dataclass
from typing import Literal, get_args

from gramstyle.errors import OptionError

ColoursName = Literal["style", "content", "match"]
ProfileName = Literal["srgb", "keep"]

RESULT_CHOICES: dict[str, tuple[str, ...]] = {
    "colours": get_args(ColoursName),
    "profile": get_args(ProfileName),
}
DEPTHS = (8, 16)


@dataclass(frozen=True, kw_only=True)
class ResultOptions:
    """The options of the result.

    Attributes
    ----------
    size
        The longer edge of the result, in pixels; the shorter one follows from the content image.
    tv
        The weight of the total variation; 0 leaves it out.
    colours
        Whose colours the result has. "style": the style image's. "content": the content image's;
        only luminance is transferred, and the chroma stays as it is. "match": the style image's,
        after its colours have got the mean and the covariance of the content image's.
    depth
        The bits per channel of the file: 8, or 16 in a PNG or TIFF.
    profile
        The colour profile of the file: "srgb", or "keep" for the one that is embedded in the
        content image, to which the result is then converted.

    Examples
    --------
    >>> from gramstyle import Options
    >>> Options(size=1024, tv=1.0).size
    1024
    """

    size: int = 512
    tv: float = 0.0
    colours: ColoursName = "style"
    depth: int = 8
    profile: ProfileName = "srgb"


def check_result(options: ResultOptions) -> None:
    """Check the options of the result; raises OptionError."""
    if options.depth not in DEPTHS:
        raise OptionError(f"depth must be 8 or 16 bits per channel, not {options.depth}")
