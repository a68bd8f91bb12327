"""Arguments that several commands share; every default is the one in `Options`."""

import argparse
import re
from pathlib import Path
from typing import Any

from gramstyle.cli.help import Help
from gramstyle.cli.parsing import Parser
from gramstyle.cli.pipes import path_or_dash
from gramstyle.core.conventions import CONTENT_LAYER, CONVENTIONS, STYLE_LAYERS
from gramstyle.core.layers import PADDINGS
from gramstyle.core.terms import STYLE_LOSSES
from gramstyle.engines.registry import ENGINES
from gramstyle.engines.spec import DEVICES
from gramstyle.run.options import OPTIMISERS, STARTS, Options, coercion
from gramstyle.run.options.masks import mask_sources
from gramstyle.run.options.result import RESULT_CHOICES
from gramstyle.run.options.values import MACHINE
from gramstyle.run.presets import PRESETS
from gramstyle.run.recipes import Recipe

DEFAULTS = Options()


def add_output(parser: Parser, *, pipe: bool = False, required: bool = True) -> None:
    """Add the option for the image to write; with `pipe`, it may be standard output."""
    parser.add_argument(
        "-o", "--output", type=path_or_dash, required=required, metavar="OUT",
        help=Help("the image to write: .png, .jpg, .webp, .tif or .avif"
        + ("; -: a PNG to standard output" if pipe else ""),
        short="the image to write, like result.png"),
    )  # fmt: skip


def add_look(parser: Parser) -> None:
    """Add the options that stand for others: a preset, and a recipe."""
    group = parser.add_argument_group(
        "presets and recipes; an option that is given takes precedence over both"
    )
    group.add_argument("--preset", choices=tuple(PRESETS),
        help="a look by name (gramstyle presets describes them)")  # fmt: skip
    group.add_argument("--recipe", type=Path, metavar="FILE.toml",
        help=Help("options from a file, which gramstyle recipe writes for a result; it may name "
        "the images too", short="options from a file (see gramstyle recipe)"))  # fmt: skip


def add_run(
    group: argparse._ArgumentGroup, defaults: Options = DEFAULTS, *, what: str = "the result"
) -> None:
    """Add the options of every optimisation: size, iterations, tolerance and seed."""
    group.add_argument("--size", type=int, metavar="PIXELS",
        help=f"the longer edge of {what} (default {defaults.size})")  # fmt: skip
    add_iterations(group, defaults)


def add_iterations(group: argparse._ArgumentGroup, defaults: Options = DEFAULTS) -> None:
    """Add the options of every optimisation except the size."""
    group.add_argument("--iterations", type=int, metavar="N",
        help=Help(f"maximum number of iterations of L-BFGS-B (default {defaults.iterations})",
        short=f"more take longer (default {defaults.iterations})"))  # fmt: skip
    group.add_argument("--tolerance", type=float, metavar="FRACTION",
        help="relative tolerance: end early once the loss has fallen by less than this fraction of "
        f"itself in ten iterations; 0: never (default {defaults.tolerance:g})")  # fmt: skip
    add_seed(group, defaults)


def add_seed(group: argparse._ArgumentGroup, defaults: Options = DEFAULTS) -> None:
    """Add the option for the seed."""
    group.add_argument("--seed", type=int, metavar="N",
        help=Help(f"the seed of the noise that a run may start from (default {defaults.seed})",
        short=f"the seed of the noise (default {defaults.seed})"))  # fmt: skip


def add_scales(group: argparse._ArgumentGroup, *, but: str = "") -> None:
    """Add the option for the scales of a run; `but` names an exception from the default."""
    group.add_argument("--scales", type=int, metavar="N",
        help="the number of scales of the run; each is 1.4 times larger than the one before and "
        "starts from its image; --iterations is for the first one, the others take fewer "
        f"(default: all of 160 pixels or more{but}; 1: --size alone)")  # fmt: skip


def add_init(group: argparse._ArgumentGroup) -> None:
    """Add the option for the image to start from."""
    group.add_argument("--init", metavar="|".join((*STARTS, "PATH")),
        help=Help(f"the image to start from (default {DEFAULTS.start!s}; noise with --convention "
        "paper)", short=f"the image to start from (default {DEFAULTS.start!s})"))  # fmt: skip


def add_loss(parser: Parser) -> None:
    """Add the options for the terms of equation 7 and their weights."""
    loss = parser.add_argument_group(
        "the loss: alpha · content + beta · style + tv · total variation"
    )
    loss.add_argument("--convention", choices=[name for name in CONVENTIONS if name],
        help=Help("paper: the text's formulas, and a start from noise; author: the formulas of its "
        "authors' released code, its weights, max pooling, and a start from the photograph "
        "(default: the text's formulas, and a start from the photograph)",
        short="the formulas of the paper, or of its authors' code"))  # fmt: skip
    loss.add_argument("--alpha", type=float, metavar="A",
        help=Help("the weight of the content; a larger one keeps more of the photograph "
        "(default 24 / (width · height) of each scale; 0.0048 instead "
        "of 24 for a normalised network; 50 with --convention paper; α = 1 with "
        "--convention author)",
        short="the weight of the content (default depends on size)"))  # fmt: skip
    loss.add_argument("--content-strength", type=float, metavar="F",
        help=Help("a factor of the default --alpha: 2 keeps more of the photograph, 0.5 less, at "
        f"every size (default {DEFAULTS.content_strength:g})",
        short="2 keeps more of the photograph, 0.5 less"))  # fmt: skip
    loss.add_argument("--beta", type=float, metavar="B",
        help=f"the weight of the style (default {DEFAULTS.beta:g})")  # fmt: skip
    loss.add_argument("--content-layers", "--content-layer", type=names, metavar="LAYER,…",
        help="the layers where content is compared "
        f"(default {CONTENT_LAYER})")  # fmt: skip
    loss.add_argument("--content-weights", type=numbers, metavar="W,…",
        help="a weight for each content layer (default: 1 each)")  # fmt: skip
    add_style_layers(loss)
    add_style_weights(loss, but="; 1000 / filters² with --convention author")
    add_tv(loss)
    add_pooling(loss, but="; max with --convention author")
    add_padding(loss)


def add_tv(group: argparse._ArgumentGroup) -> None:
    """Add the option for the weight of the total variation."""
    group.add_argument("--tv", type=float, metavar="WEIGHT",
        help="the weight of the total variation, which smooths the image "
        f"(default {DEFAULTS.tv:g})")  # fmt: skip


def add_style_layers(group: argparse._ArgumentGroup) -> None:
    """Add the option for the layers where style is compared."""
    group.add_argument("--style-layers", type=names, metavar="LAYER,…",
        help=Help(f"the layers where style is compared (default {','.join(STYLE_LAYERS)})",
        short="the layers where style is compared, like conv1_1"))  # fmt: skip


def add_style_weights(group: argparse._ArgumentGroup, *, but: str = "") -> None:
    """Add the option for the weights w_l; `but` names an exception from the default."""
    group.add_argument("--style-weights", type=numbers, metavar="W,…",
        help=f"a weight for each style layer (default: equal, with the sum 1{but})")  # fmt: skip


def add_style(parser: Parser, *, content: bool = True) -> argparse._ArgumentGroup:
    """Add the options for several style images and their strokes; return their group.

    With `content`, the run has a content image: add the option for the colours, too.
    """
    group = parser.add_argument_group("the style")
    add_style_loss(group, content=content)
    group.add_argument("--style-blend", type=numbers, metavar="W,…",
        help=Help("a number above 0 for each style image, its share of the style: 3,1 is three "
        "quarters of the first one (default: equal shares)",
        short="the shares of several paintings, like 3,1"))  # fmt: skip
    group.add_argument("--style-scale", type=numbers, metavar="F,…",
        help=Help("the size of the strokes: the longer edge of the style image as a multiple of "
        "the result's; several, like 0.5,1, mix strokes of these sizes (default 1)",
        short="the size of the strokes; 2 doubles it"))  # fmt: skip
    group.add_argument("--style-size", type=whole_numbers, metavar="PIXELS,…",
        help="the longer edge of the style image in pixels, instead of --style-scale")  # fmt: skip
    if content:
        group.add_argument("--colours", "--colors", choices=RESULT_CHOICES["colours"],
            help=Help("style: the colours of the style image; content: those of the content "
            "image, only the luminance gets the style; match: those of the style image, shifted to "
            f"the mean and the spread of the content image's (default {DEFAULTS.colours})",
            short="content keeps the colours of the photograph"))  # fmt: skip
    return group


def add_style_loss(group: argparse._ArgumentGroup, *, content: bool = False) -> None:
    """Add the option for the statistic that the style loss compares."""
    effect = ", which keep more of the photograph's colours" if content else ""
    group.add_argument("--style-loss", choices=STYLE_LOSSES,
        help="what the style loss compares: gram, the Gram matrices of the paper; mean-std, mean "
        "and standard deviation of each filter; covariance, Gram matrices of centred responses"
        f"{effect} (default {DEFAULTS.style_loss})")  # fmt: skip


def add_regions(parser: Parser, *, protect: bool = True) -> None:
    """Add the options for regions of the image, each with its own style."""
    group = parser.add_argument_group("regions of the image")
    group.add_argument("--style-regions", type=names, metavar="MASK,…",
        help="a mask for each style image: its style applies where the mask is white, and to the "
        "extent that it is grey")  # fmt: skip
    group.add_argument("--content-labels", metavar="MAP",
        help="a label map of the photograph, where each colour marks a region; with "
        "--style-labels: regions of the same colour belong together")  # fmt: skip
    group.add_argument("--style-labels", type=names, metavar="MAP,…",
        help="a label map for each style image")  # fmt: skip
    if protect:
        group.add_argument("--protect", metavar="MASK",
            help="a mask of the part of the photograph that stays as it is")  # fmt: skip


def add_pooling(group: argparse._ArgumentGroup, *, but: str = "") -> None:
    """Add the option for the pooling; `but` names an exception from the default."""
    group.add_argument("--pooling", choices=("max", "avg"),
        help=f"max or average pooling in the network (default {DEFAULTS.pools}{but})")  # fmt: skip


def add_padding(group: argparse._ArgumentGroup) -> None:
    """Add the option for the padding."""
    group.add_argument("--padding", choices=PADDINGS,
        help="what the network reads one position outside an image: zeros; replicate, the edge "
        "again; reflect, the image mirrored; circular, the opposite edge, so that copies of the "
        f"result join without a seam (default {DEFAULTS.pads})")  # fmt: skip


def add_machine(group: argparse._ArgumentGroup) -> None:
    """Add the options for the model file, and for the processor, memory and cluster to use."""
    add_model(group)
    add_resources(group)
    group.add_argument("--tile", type=int, metavar="PIXELS",
        help="compute in tiles with edges of this many pixels (default: whole, or the largest "
        "tiles that --memory allows)")  # fmt: skip


def add_model(group: argparse._ArgumentGroup) -> None:
    """Add the option for the model file."""
    group.add_argument("--model", type=Path, metavar="FILE",
        help=Help("the network (default: GRAMSTYLE_MODEL, the checkout's models/, or the user's "
        "cache, where it is built if it is missing)",
        short="another network (see gramstyle model)"))  # fmt: skip


def add_resources(group: argparse._ArgumentGroup, *, work: str = "compute the tiles") -> None:
    """Add the options for the cores and the memory of a run; `work` is what a cluster does."""
    group.add_argument("--threads", type=int, metavar="N",
        help=Help("processor cores to use (default: all that the machine or the container has)",
        short="processor cores to use (default: all)"))  # fmt: skip
    group.add_argument("--memory", type=size_in_bytes, metavar="SIZE",
        help=Help("memory budget of the run, like 2GB: larger images are computed in exact tiles, "
        "and data that do not fit are written to temporary files (default: three quarters of "
        "what the machine or the container has)", short="the memory budget, like 2GB"))  # fmt: skip
    add_cluster(group, work=work)
    group.add_argument("--max-pixels", type=int, metavar="N",
        help="refuse images with more pixels than this, before decoding them "
        f"(default {DEFAULTS.max_pixels})")  # fmt: skip


def add_cluster(group: argparse._ArgumentGroup, *, work: str = "compute the tiles") -> None:
    """Add the options for a Dask cluster; `work` says what it does."""
    group.add_argument("--scheduler", metavar="ADDRESS",
        help=Help(f"{work} on the workers of the Dask scheduler at this address",
        short=f"{work} on the workers of a Dask scheduler"))  # fmt: skip
    group.add_argument("--workers", type=int, metavar="N",
        help=Help(f"{work} on this many Dask workers, started on this machine",
        short=f"{work} on this many workers of this machine"))  # fmt: skip


def add_engine(group: argparse._ArgumentGroup) -> None:
    """Add the options for the engine, its device and the optimiser."""
    engines = "; ".join(f"{name}, {entry.help}" for name, entry in ENGINES.items())
    group.add_argument("--engine", choices=tuple(ENGINES),
        help=f"what computes loss and gradient: {engines} (default: cupy on a GPU; else winograd "
        "where Numba is installed, else numpy)")  # fmt: skip
    add_device(group)
    group.add_argument("--tf32", action="store_const", const=True,
        help="on a GPU, round the factors of products to TF32: faster, with three digits instead "
        "of seven")  # fmt: skip
    group.add_argument("--optimiser", choices=OPTIMISERS,
        help="the implementation of L-BFGS-B: own, in bounded memory, on arrays that stay where "
        "the gradient is computed; scipy, the reference, in float64 (default: own)")  # fmt: skip


def add_device(group: argparse._ArgumentGroup) -> None:
    """Add the option for the device."""
    group.add_argument("--device", choices=DEVICES,
        help=Help("where the engine runs: on the processor, or on an NVIDIA GPU (default cpu)",
        short="cuda computes on an NVIDIA GPU"))  # fmt: skip


def add_storage(group: argparse._ArgumentGroup) -> None:
    """Add the options for the bits and the colour profile of the image to write."""
    group.add_argument("--depth", type=int, metavar="BITS",
        help="bits per channel of the image: 8, or 16 in a .png or .tif "
        f"(default {DEFAULTS.depth})")  # fmt: skip
    group.add_argument("--profile", choices=RESULT_CHOICES["profile"],
        help="the colour profile of the image: srgb, or keep for the one that is embedded in the "
        f"content image (default {DEFAULTS.profile})")  # fmt: skip


def add_files(group: argparse._ArgumentGroup) -> None:
    """Add the options for the files that a run writes in addition to its image."""
    group.add_argument("--save-every", type=int, metavar="N",
        help="also write the image of every N-th iteration, as OUT-0010.png, …")  # fmt: skip
    group.add_argument("--log", type=Path, metavar="FILE.jsonl",
        help="write settings and losses as JSON lines")  # fmt: skip
    group.add_argument("--record", type=Path, metavar="FILE",
        help=Help("write the iterates as an animation: .mp4 or .webm (needs the extra video), "
        ".gif or .webp", short="write the iterates as an animation, like run.gif"))  # fmt: skip


def add_live(group: argparse._ArgumentGroup) -> None:
    """Add the option that shows the run in a page."""
    group.add_argument("--live", action="store_true",
        help=Help("show the run in a page of the browser while it computes (needs the extra "
        "serve)", short="show the run in a page of the browser"))  # fmt: skip


def add_quiet(group: argparse._ActionsContainer) -> None:
    """Add the option that switches the progress off."""
    group.add_argument("--quiet", action="store_true", help="print nothing but errors")


def mask_files(options: Options) -> list[Path]:
    """Return the files of the masks and label maps."""
    return [Path(str(source)) for source in mask_sources(options).values()]


def options_of(arguments: argparse.Namespace, **defaults: Any) -> Options:
    """Return the options: those given, else a command's defaults, else those of `Options`."""
    return Options(**{**defaults, **_given(arguments)})


def options_with(recipe: Recipe, arguments: argparse.Namespace) -> Options:
    """Return the options: those given, else those of the recipe, else those of the preset."""
    return recipe.options(preset=arguments.preset, **_given(arguments))


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    known = Options.__dataclass_fields__
    return {k: v for k, v in vars(arguments).items() if k in known and v is not None}


def machine_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the machine's options that are given, by name; raises OptionError."""
    values = {name: getattr(arguments, name, None) for name in MACHINE}
    given: dict[str, Any] = {k: v for k, v in values.items() if v is not None}
    Options(**given)
    return given


def size_in_bytes(text: str) -> int:
    """Return the number of bytes of a size like 2GB, 1.5GiB or 800M."""
    try:
        return coercion.size_in_bytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def names(text: str) -> tuple[str, ...]:
    """Return the names of a list like conv1_1,conv2_1."""
    return coercion.names_in(text)


def width_and_height(text: str) -> tuple[int, int]:
    """Return width and height of a size like 640x480."""
    found = re.fullmatch(r"([1-9]\d{0,5})[x×]([1-9]\d{0,5})", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size like 640x480")
    return int(found[1]), int(found[2])


def numbers(text: str) -> tuple[float, ...]:
    """Return the numbers of a list like 0.2,0.2,0.6."""
    try:
        return coercion.numbers_in(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list like 0.2,0.2,0.6") from None


def whole_numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of a list like 256,512."""
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list like 256,512") from None
