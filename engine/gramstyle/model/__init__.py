"""The model file: where it comes from, what it holds, how it is read without trusting it."""

from gramstyle.model.locate import export_model, locate_model
from gramstyle.model.onnx_file import Model, read_model

__all__ = ["Model", "export_model", "locate_model", "read_model"]
