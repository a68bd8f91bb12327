"""The network as an ONNX file: written once, checked at every reading. The only `import onnx`.

A response F is the tensor with its layer's name ("conv4_2"), after the ReLU; the pre-activation
Z in front of it is "conv4_2.Z". Weights stand in the file as float32, as float16 behind a Cast,
or as a codebook (uint8 indices into 256 float32 values, behind Cast and Gather), which keeps
VGG-19 at 80, 40 or 20 MB; ONNX Runtime folds both away when it loads the file. What the file
says of itself (preprocessing, source, licence, hashes) stands in its metadata.
"""

from gramstyle.model.onnx_file.reading import Model, read_model
from gramstyle.model.onnx_file.writing import write_model

__all__ = ["Model", "read_model", "write_model"]
