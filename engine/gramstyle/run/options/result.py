"""The options of the result: its size and its smoothness."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ResultOptions:
    """The options of the result.

    Attributes
    ----------
    size
        The longer edge of the result, in pixels; the shorter one follows from the content image.
    tv
        The weight of the total variation; 0 leaves it out.

    Examples
    --------
    >>> from gramstyle import Options
    >>> Options(size=1024, tv=1.0).size
    1024
    """

    size: int = 512
    tv: float = 0.0
