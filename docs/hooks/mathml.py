"""MkDocs hook: formulas become MathML while the site is built, and the site is self-contained.

Browsers draw MathML themselves, so a page needs no script for its mathematics.
"""

import html
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import latex2mathml.converter
from mkdocs.exceptions import PluginError

# What pymdownx.arithmatex (generic) leaves of `$…$` and `$$…$$`.
FORMULA = re.compile(
    r'<span class="arithmatex">\\\((?P<inline>.*?)\\\)</span>'
    r'|<div class="arithmatex">\s*\\\[(?P<block>.*?)\\\]\s*</div>',
    re.DOTALL,
)

CODE = re.compile(r"<(pre|code)\b.*?</\1>", re.DOTALL)

# How many parts an element of MathML has; the converter lets a missing one pass.
PARTS = {"mfrac": 2, "mroot": 2, "msub": 2, "msup": 2, "msubsup": 3}
PARTS |= {"munder": 2, "mover": 2, "munderover": 3}

# What a browser would fetch without being asked to, from another host.
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\ssrc=["']?(?:https?:)?//"""
    r"""|<link\b(?![^>]*rel=["']?canonical)[^>]*\shref=["']?(?:https?:)?//""",
    re.IGNORECASE,
)


def mathml(latex: str, *, display: str) -> str:
    """Return a formula as MathML.

    Raises
    ------
    ValueError
        If the converter refuses the formula, or leaves a part of it as text or out.
    """
    try:
        converted = latex2mathml.converter.convert(latex.strip(), display=display)
    except Exception as error:  # the converter has no base class for its errors
        raise ValueError(f"{type(error).__name__} {error}".strip()) from error
    if "\\" in converted:
        raise ValueError("a command that the converter does not know")
    if latex.count("{") != latex.count("}"):
        raise ValueError("a brace too many or too few")
    if r"\begin" in latex and "<mtable" not in converted:
        raise ValueError("an environment that the converter does not know")
    for element in ET.fromstring(converted).iter():  # noqa: S314 - the converter's own output
        name = element.tag.rpartition("}")[2]
        if len(element) != PARTS.get(name, len(element)):
            raise ValueError(f"a part is missing ({name})")
    # As an operator, the name of a function would stand off from its bracket.
    return converted.replace("<mo>max</mo>", "<mi>max</mi>")


def on_page_content(content: str, *, page: Any, **_: Any) -> str:
    """Turn every formula of a page into MathML; one that cannot be turned ends the build."""

    def convert(match: re.Match[str]) -> str:
        block = match["inline"] is None
        latex = html.unescape(match["block"] if block else match["inline"])
        try:
            return mathml(latex, display="block" if block else "inline")
        except ValueError as error:
            raise PluginError(f"{page.file.src_uri}: {latex.strip()}: {error}") from error

    converted = FORMULA.sub(convert, content)
    left = re.search(r"[^\n]{0,40}(?:\$|arithmatex)[^\n]{0,40}", CODE.sub("", converted))
    if left:
        raise PluginError(f"{page.file.src_uri}: a formula that was not found: {left[0]}")
    return converted


def on_post_build(*, config: Any, **_: Any) -> None:
    """End the build if a page would fetch anything from another host."""
    for path in sorted(Path(config.site_dir).rglob("*.html")):
        found = FETCHED.search(path.read_text(encoding="utf-8"))
        if found:
            raise PluginError(f"{path.name} fetches from another host: {found[0]}")
