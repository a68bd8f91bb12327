"""The paper's figures: pictures made cell by cell, each kept, and laid out on one sheet."""

from gramstyle.figures.cells import Cell, Made
from gramstyle.figures.drawing import draw
from gramstyle.figures.layouts import Figure, reconstructions, styles, tradeoff

__all__ = ["Cell", "Figure", "Made", "draw", "reconstructions", "styles", "tradeoff"]
