"""Plots of losses and of backward passes, as the bytes of an image file; drawn with matplotlib."""

from gramstyle.analysis.plots.canvas import FORMATS, load_matplotlib
from gramstyle.analysis.plots.curves import loss_curves
from gramstyle.analysis.plots.trace import trace_images

__all__ = ["FORMATS", "load_matplotlib", "loss_curves", "trace_images"]
