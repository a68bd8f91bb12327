"""Pictures of numbers, as the bytes of a file; the only package that draws, with matplotlib."""

from gramstyle.plotting.canvas import FORMATS, load_matplotlib
from gramstyle.plotting.curves import loss_curves
from gramstyle.plotting.sweep import trace_pictures

__all__ = ["FORMATS", "load_matplotlib", "loss_curves", "trace_pictures"]
