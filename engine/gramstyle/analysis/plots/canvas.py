"""Reproducible figures in memory. Only this module imports matplotlib, on first use."""

import io
import logging
import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType, ModuleType
from typing import Any

from gramstyle.errors import GramstyleError
from gramstyle.system.installing import remedy

# The file formats of a figure, each with the metadata that omits version and date.
FORMATS: Mapping[str, Mapping[str, None]] = MappingProxyType(
    {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
)
# Without a fixed salt, the identifiers in an SVG are random.
SETTINGS = {"svg.hashsalt": "gramstyle", "font.size": 9, "axes.titlesize": 10, "savefig.dpi": 120}
LONGEST_LABEL = 48


def load_matplotlib() -> ModuleType:
    """Import matplotlib and the submodules that gramstyle uses.

    Raises
    ------
    GramstyleError
        If it is not installed or cannot be imported, or has no folder for its cache.
    """
    # It would print what it logs about its cache, unless a program has configured logging.
    logging.getLogger("matplotlib").addHandler(logging.NullHandler())
    try:
        import matplotlib
        import matplotlib.colors
        import matplotlib.figure
    except ImportError as error:
        raise GramstyleError(f"plots need matplotlib ({error}); {remedy('plots', error)}") from None
    except OSError as error:  # neither its own folder nor a temporary one can be written
        raise GramstyleError(f"matplotlib cannot be loaded: {error}") from None
    module: ModuleType = matplotlib
    return module


def drawn(
    fill: Callable[[Any], None], *, width: float, height: float, suffix: str = ".png"
) -> bytes:
    """Return the bytes of a figure that `fill(figure)` draws; width and height are in inches.

    The user's matplotlib settings are ignored, since a setting could start another program.
    """
    matplotlib = load_matplotlib()
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        # A file name may contain characters that the font lacks; they are drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = matplotlib.figure.Figure(figsize=(width, height), layout="constrained")
        fill(figure)
        data = io.BytesIO()
        figure.savefig(data, format=suffix[1:], metadata=dict(FORMATS[suffix]))
    return data.getvalue()


def label(text: str) -> str:
    """Return a text as a label: printable, short, and never interpreted as a formula."""
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    if len(printable) > LONGEST_LABEL:
        half = LONGEST_LABEL // 2  # names may differ at either end
        printable = f"{printable[:half]}…{printable[-half:]}"
    # Matplotlib treats text between dollar signs as a formula and hides a label starting with _.
    escaped = printable.replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped
