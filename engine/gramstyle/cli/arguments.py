"""Arguments that several commands share; every default is the one in `Options`."""

import argparse
import re
from pathlib import Path
from typing import Any

from gramstyle.cli.parsing import Parser
from gramstyle.core.conventions import CONVENTIONS
from gramstyle.engines.registry import DEVICES, ENGINES
from gramstyle.run.options import OPTIMISERS, STARTS, Options

DEFAULTS = Options()


def add_output(parser: Parser) -> None:
    """Add the image to write."""
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT",
        help="the image to write: .png, .jpg, .webp, .tif or .avif",
    )  # fmt: skip


def add_run(
    group: argparse._ArgumentGroup, defaults: Options = DEFAULTS, *, what: str = "the result"
) -> None:
    """Add what every optimisation has: how large, how long, from which noise."""
    group.add_argument("--size", type=int, metavar="PIXELS",
        help=f"the longer edge of {what} (default {defaults.size})")  # fmt: skip
    group.add_argument("--iterations", type=int, metavar="N",
        help=f"iterations of L-BFGS-B at most (default {defaults.iterations})")  # fmt: skip
    group.add_argument("--tolerance", type=float, metavar="SHARE",
        help="end early once the loss has fallen by less than this share of itself in ten "
        f"iterations; 0 never (default {defaults.tolerance:g})")  # fmt: skip
    group.add_argument("--seed", type=int, metavar="N",
        help=f"of the noise that a run may start from (default {defaults.seed})")  # fmt: skip


def add_start(group: argparse._ArgumentGroup) -> None:
    """Add the start of a transfer, and its way up."""
    group.add_argument("--scales", type=int, metavar="N",
        help="how many levels to climb to --size, each 1.4 times larger than the last and started "
        "from its image; --iterations are the first one's, the others take fewer (default: as "
        "many as begin at 512 pixels or more; 1: no others)")  # fmt: skip
    group.add_argument("--init", metavar="|".join((*STARTS, "PATH")),
        help=f"the image to start from (default {DEFAULTS.start}; noise with --convention "
        "paper)")  # fmt: skip


def add_loss(parser: Parser) -> None:
    """Add the terms of equation 7 and their weights."""
    loss = parser.add_argument_group("the loss: alpha · content + beta · style")
    loss.add_argument("--convention", choices=[name for name in CONVENTIONS if name],
        help="paper: the text's formulas, and a start from noise; author: the formulas of its "
        "authors' released code, its weights, max pooling, and a start from the photograph "
        "(default: the text's formulas, and a start from the photograph)")  # fmt: skip
    loss.add_argument("--alpha", type=float, metavar="A",
        help="the weight of the content; more keeps more of the photograph "
        "(default 50 / (width · height), alike at every size; 0.01 instead of 50 for a "
        "normalised network; 1 with --convention author)")  # fmt: skip
    loss.add_argument("--beta", type=float, metavar="B",
        help=f"the weight of the style (default {DEFAULTS.beta:g})")  # fmt: skip
    loss.add_argument("--content-layer", metavar="LAYER",
        help=f"where content is compared (default {DEFAULTS.content_layer})")  # fmt: skip
    loss.add_argument("--style-layers", type=names, metavar="LAYER,…",
        help=f"where style is compared (default {','.join(DEFAULTS.style_layers)})")  # fmt: skip
    add_style_weights(loss, but="; 1000 / filters² with --convention author")
    add_pooling(loss, but="; max with --convention author")


def add_style_weights(group: argparse._ArgumentGroup, *, but: str = "") -> None:
    """Add the weights w_l; `but` names an exception from the default."""
    group.add_argument("--style-weights", type=numbers, metavar="W,…",
        help=f"a weight for each style layer (default: all the same, 1 in sum{but})")  # fmt: skip


def add_pooling(group: argparse._ArgumentGroup, *, but: str = "") -> None:
    """Add the network's pooling; `but` names an exception from the default."""
    group.add_argument("--pooling", choices=("max", "avg"),
        help=f"max or average pooling in the network (default {DEFAULTS.pools}{but})")  # fmt: skip


def add_machine(group: argparse._ArgumentGroup) -> None:
    """Add the network's file and what the machine may be used for."""
    group.add_argument("--model", type=Path, metavar="FILE",
        help="the network (default: GRAMSTYLE_MODEL, the checkout's models/, the user's "
        "cache, where it is built if need be)")  # fmt: skip
    group.add_argument("--threads", type=int, metavar="N",
        help="processor cores to use (default: all)")  # fmt: skip
    group.add_argument("--memory", type=size_in_bytes, metavar="SIZE",
        help="how much memory a run may take, like 2GB: larger images are computed in tiles, "
        "exactly, and what does not fit goes to files (default: three quarters of the "
        "machine's)")  # fmt: skip
    group.add_argument("--tile", type=int, metavar="PIXELS",
        help="compute in tiles with edges of this many pixels (default: whole, or the largest "
        "that --memory allows)")  # fmt: skip
    add_cluster(group)
    group.add_argument("--max-pixels", type=int, metavar="N",
        help="refuse images with more pixels than this, unread "
        f"(default {DEFAULTS.max_pixels})")  # fmt: skip


def add_cluster(group: argparse._ArgumentGroup, *, work: str = "compute the tiles") -> None:
    """Add who else may do the work."""
    group.add_argument("--scheduler", metavar="ADDRESS",
        help=f"{work} on the workers of the Dask scheduler there")  # fmt: skip
    group.add_argument("--workers", type=int, metavar="N",
        help=f"{work} on this many Dask workers, started here")  # fmt: skip


def add_engine(group: argparse._ArgumentGroup) -> None:
    """Add what computes loss and gradient."""
    group.add_argument("--engine", choices=ENGINES,
        help="what computes loss and gradient: numpy, ONNX Runtime forward and NumPy backward; "
        "winograd, convolutions with fewer multiplications both ways; hybrid, ONNX Runtime forward "
        "and those backward; onnx, both as one graph in ONNX Runtime; cupy, ONNX Runtime and CuPy "
        "on a GPU (default: cupy on a GPU; else winograd where Numba is installed, else "
        "numpy)")  # fmt: skip
    group.add_argument("--device", choices=DEVICES,
        help="where: on the processor, or on an NVIDIA GPU (default cpu)")  # fmt: skip
    group.add_argument("--tf32", action="store_const", const=True,
        help="on a GPU, let products be rounded to TF32: faster, three digits instead of "
        "seven")  # fmt: skip
    group.add_argument("--optimiser", choices=OPTIMISERS,
        help="lbfgsb, SciPy's L-BFGS-B; lbfgsb-device, the same method on arrays that stay where "
        "the gradient is computed (default: lbfgsb, and lbfgsb-device on a GPU)")  # fmt: skip


def add_files(group: argparse._ArgumentGroup) -> None:
    """Add what one run may write besides its image."""
    group.add_argument("--save-every", type=int, metavar="N",
        help="also write the image of every N-th iteration, as OUT-0010.png, …")  # fmt: skip
    group.add_argument("--log", type=Path, metavar="FILE.jsonl",
        help="write settings and losses as JSON lines")  # fmt: skip


def add_quiet(group: argparse._ArgumentGroup) -> None:
    """Add silence."""
    group.add_argument("--quiet", action="store_true", help="print nothing but errors")


def options_of(arguments: argparse.Namespace, **defaults: Any) -> Options:
    """Return the options that were given, over the defaults of a command and of `Options`."""
    known = Options.__dataclass_fields__
    given = {k: v for k, v in vars(arguments).items() if k in known and v is not None}
    return Options(**{**defaults, **given})


UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
         "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}  # fmt: skip


def size_in_bytes(text: str) -> int:
    """Return the number of bytes that a size like 2GB, 1.5GiB or 800M says."""
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)\s*([KMGT]?I?)B?", text.strip().upper())
    if found is None or found[2] not in UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size like 2GB")
    return int(float(found[1]) * UNITS[found[2]])


def names(text: str) -> tuple[str, ...]:
    """Return the names of a list like conv1_1,conv2_1."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def numbers(text: str) -> tuple[float, ...]:
    """Return the numbers of a list like 0.2,0.2,0.6."""
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list like 0.2,0.2,0.6") from None
