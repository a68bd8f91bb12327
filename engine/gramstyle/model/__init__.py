"""The network's model file: download, convert and locate it, and read it without trusting it."""

from gramstyle.model.export import export_model
from gramstyle.model.known import network_name
from gramstyle.model.locate import load_model, locate_model
from gramstyle.model.onnx_file import Model, read_model
from gramstyle.model.pretrained import is_normalised

__all__ = [
    "Model",
    "export_model",
    "is_normalised",
    "load_model",
    "locate_model",
    "network_name",
    "read_model",
]
