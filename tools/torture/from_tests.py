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
from weight_files import BLOCKS, LAYERS, chain  # type: ignore[import-not-found]
from weight_files import FORMATS as WEIGHTS_FORMATS

ROOT = Path(__file__).resolve().parents[2]

__all__ = [
    "BLOCKS",
    "IMAGE_FORMATS",
    "LAYERS",
    "ROOT",
    "WEIGHTS_FORMATS",
    "chain",
    "dictionary",
    "image_file",
    "name_of",
    "stream",
    "text",
    "tuple_of",
]
