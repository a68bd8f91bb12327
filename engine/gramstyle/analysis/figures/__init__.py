"""The paper's figures: batches of images, and a sheet that shows them all."""

from gramstyle.analysis.figures.drawing import draw
from gramstyle.analysis.figures.layouts import Figure, cell, reconstructions, styles, tradeoff

__all__ = ["Figure", "cell", "draw", "reconstructions", "styles", "tradeoff"]
