"""Figures in memory, the same bytes every time. The only `import matplotlib`, on first use."""

import io
import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType, ModuleType
from typing import Any

from gramstyle.errors import GramstyleError

# What a figure may be written as, and how each format is kept from telling the time.
FORMATS: Mapping[str, Mapping[str, None]] = MappingProxyType(
    {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
)
# Without a salt of its own an SVG names its parts by chance.
SETTINGS = {"svg.hashsalt": "gramstyle", "font.size": 9, "axes.titlesize": 10, "savefig.dpi": 120}
LONGEST_LABEL = 48


def load_matplotlib() -> ModuleType:
    """Import matplotlib with what is used of it.

    Raises
    ------
    GramstyleError
        If it is not installed, or cannot be loaded.
    """
    try:
        import matplotlib
        import matplotlib.colors
        import matplotlib.figure
    except ImportError as error:
        raise GramstyleError(
            f"images of numbers need matplotlib ({error}); install it with: "
            'pip install "gramstyle[plots]"'
        ) from None
    module: ModuleType = matplotlib
    return module


def drawn(
    fill: Callable[[Any], None], *, width: float, height: float, suffix: str = ".png"
) -> bytes:
    """Return the bytes of a figure of that many inches, once `fill(figure)` has drawn it.

    The user's own settings of matplotlib are left out: a setting could ask for another program.
    """
    matplotlib = load_matplotlib()
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        # A file's name may be written in letters that the font lacks; boxes do.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = matplotlib.figure.Figure(figsize=(width, height), layout="constrained")
        fill(figure)
        data = io.BytesIO()
        figure.savefig(data, format=suffix[1:], metadata=dict(FORMATS[suffix]))
    return data.getvalue()


def label(text: str) -> str:
    """Return a text for a figure: printable, short, and no formula whatever signs it holds."""
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    if len(printable) > LONGEST_LABEL:
        half = LONGEST_LABEL // 2  # what tells names apart may stand at either end
        printable = f"{printable[:half]}…{printable[-half:]}"
    # Between two dollar signs is a formula, and a label that begins with _ is not shown.
    escaped = printable.replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped
