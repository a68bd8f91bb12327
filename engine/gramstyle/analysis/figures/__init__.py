"""The paper's figures: images made cell by cell, each kept, and laid out on one sheet."""

from gramstyle.analysis.figures.cells import Cell, Made
from gramstyle.analysis.figures.drawing import draw
from gramstyle.analysis.figures.layouts import Figure, reconstructions, styles, tradeoff

__all__ = ["Cell", "Figure", "Made", "draw", "reconstructions", "styles", "tradeoff"]
