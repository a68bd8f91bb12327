"""The errors that a user can correct. Each message is one line that says what to do."""

import difflib
from collections.abc import Iterable


class GramstyleError(Exception):
    """A problem that the user can correct; its message is one line that says what to do."""


class ImageError(GramstyleError):
    """An image that cannot be read, used or written."""


class ModelError(GramstyleError):
    """A network file that is missing or damaged, or that the engine cannot run."""


class OptionError(GramstyleError):
    """An option with an invalid value."""


class RuntimeMissingError(GramstyleError):
    """A package such as ONNX Runtime, Numba or CuPy is missing, or is installed twice."""


class NonFiniteError(GramstyleError):
    """A loss or a response that is NaN or infinite."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean …?" with the known name nearest to a misspelt one, or no text."""
    by_case = {each.casefold(): each for each in known}
    near = difflib.get_close_matches(name.casefold(), sorted(by_case), n=1)
    return f"; did you mean {by_case[near[0]]}?" if near else ""
