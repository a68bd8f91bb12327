"""What the campaigns use of the checkout's tests: the writers of small files."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))

from images.samples import FORMATS as IMAGE_FORMATS  # type: ignore[import-not-found]
from images.samples import sample as image_file
from pickle_writer import (  # type: ignore[import-not-found]
    dictionary,
    name_of,
    stream,
    text,
    tuple_of,
)
from tar_writer import write_torch_tar  # type: ignore[import-not-found]
from weight_files import (  # type: ignore[import-not-found]
    BLOCKS,
    LAYERS,
    Chain,
    chain,
    gatys_names,
    torchvision_names,
    write_caffe,
    write_keras,
    write_keras3,
    write_keras_archive,
    write_onnx,
    write_safe_index,
    write_safetensors,
    write_torch_stream,
    write_torch_zip,
)
from weight_files import FORMATS as WEIGHTS_FORMATS

ROOT = Path(__file__).resolve().parents[2]

__all__ = [
    "BLOCKS",
    "IMAGE_FORMATS",
    "LAYERS",
    "ROOT",
    "WEIGHTS_FORMATS",
    "Chain",
    "chain",
    "dictionary",
    "gatys_names",
    "image_file",
    "name_of",
    "stream",
    "text",
    "torchvision_names",
    "tuple_of",
    "write_caffe",
    "write_keras",
    "write_keras3",
    "write_keras_archive",
    "write_onnx",
    "write_safe_index",
    "write_safetensors",
    "write_torch_stream",
    "write_torch_tar",
    "write_torch_zip",
]
