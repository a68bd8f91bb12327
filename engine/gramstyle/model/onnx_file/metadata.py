"""The preprocessing in the metadata of a model file."""

import json
from collections.abc import Mapping

import numpy as np

from gramstyle.core.preprocessing import Preprocessing
from gramstyle.errors import ModelError


def read_preprocessing(metadata: Mapping[str, str]) -> Preprocessing:
    """Return the preprocessing; raise ModelError if the metadata lack it."""
    channels = metadata.get("preprocessing.channels")
    if channels not in ("RGB", "BGR"):
        raise ModelError("its metadata lack preprocessing.channels (RGB or BGR)")
    return Preprocessing(
        channels="RGB" if channels == "RGB" else "BGR",
        mean=_triple(metadata, "preprocessing.mean"),
        scale=_triple(metadata, "preprocessing.scale"),
    )


def _triple(metadata: Mapping[str, str], key: str) -> tuple[float, float, float]:
    try:
        a, b, c = (float(number) for number in json.loads(metadata[key]))
    except (KeyError, ValueError, TypeError):
        raise ModelError(f"its metadata lack {key} (three numbers)") from None
    with np.errstate(over="ignore", under="ignore"):
        numbers = np.array([a, b, c]).astype(np.float32)  # as the network uses them
    if not np.isfinite(numbers).all() or (key.endswith("scale") and not numbers.all()):
        raise ModelError(f"its metadata contain an impossible {key}")
    return a, b, c
