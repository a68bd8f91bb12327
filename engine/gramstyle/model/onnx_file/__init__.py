"""The network as an ONNX file, which is checked at every read. The only `import onnx`.

The responses F of a layer are the tensor with the layer's name ("conv4_2"), after the ReLU; the
pre-activation Z is "conv4_2.Z". The file stores weights as float32, as float16 with a Cast, or as a
codebook (uint8 indices into 256 float32 values, with Cast and Gather): 80, 40 or 20 MB for VGG-19.
ONNX Runtime folds these operators when it loads the file. The file's metadata hold preprocessing,
source, licence and hashes.
"""

from gramstyle.model.onnx_file.reading import Model, read_model
from gramstyle.model.onnx_file.writing import write_model

__all__ = ["Model", "read_model", "write_model"]
