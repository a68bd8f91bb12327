"""What can go wrong through no fault of the code: one sentence each, with the remedy in it."""

import difflib
from collections.abc import Iterable


class GramstyleError(Exception):
    """A problem that the user can mend; its text is one line with the remedy."""


class ImageError(GramstyleError):
    """An image that cannot be read, used or written."""


class ModelError(GramstyleError):
    """A network file that is missing, damaged or not what the engine can run."""


class OptionError(GramstyleError):
    """An option whose value makes no sense."""


class RuntimeMissingError(GramstyleError):
    """What computes is not installed: ONNX Runtime (or it is twice), Numba, CuPy."""


class NonFiniteError(GramstyleError):
    """A loss or a response that is NaN or infinite."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean …?" with the known name nearest to a misspelt one, or no text."""
    by_case = {each.casefold(): each for each in known}
    near = difflib.get_close_matches(name.casefold(), sorted(by_case), n=1)
    return f"; did you mean {by_case[near[0]]}?" if near else ""
