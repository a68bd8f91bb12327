"""`gramstyle reconstruct content|style IMAGE -o OUT`."""

import argparse

from gramstyle.cli import arguments as add
from gramstyle.cli.help import Help
from gramstyle.cli.parsing import Commands, Parser
from gramstyle.cli.pipes import input_images, path_or_dash
from gramstyle.cli.running.performing import check_files, perform
from gramstyle.cli.speaking import Speaker
from gramstyle.core.conventions import CONTENT_LAYER, STYLE_LAYERS
from gramstyle.run.plan import plan_run
from gramstyle.run.reconstruct import content_options, style_options

# What the first screen of the help shows, apart from the layers.
SCREEN = {
    "the result": ["--output", "--size", "--iterations", "--seed"],
    "the run": ["--memory", "--device", "--log"],
}


def add_parser(commands: Commands, summary: str) -> None:
    """Describe the command and its options."""
    parser = commands.add_parser(
        "reconstruct",
        help=summary,
        description="Start from white noise, and find an image that has the responses of IMAGE at "
        "a layer (content), or its Gram matrices at some layers (style).",
    )
    kinds = parser.add_subparsers(
        title="what to reconstruct", required=True, metavar="content|style"
    )

    content = kinds.add_parser(
        "content",
        usage="gramstyle reconstruct content IMAGE -o OUT [options]",
        help="the responses at a layer: forms at their places",
        description="Start from white noise, and find an image with the responses of IMAGE at one "
        "layer (equations 1 and 2).",
        epilog="example: gramstyle reconstruct content photo.jpg --layer conv5_2 -o out.png",
    )
    _add_common(content)
    content.add_argument("--layer", metavar="LAYER",
        help=f"where responses are compared (default {CONTENT_LAYER})")  # fmt: skip
    content.show_first({"the content": ["--layer"], **SCREEN})
    content.set_defaults(run=run_content)

    style = kinds.add_parser(
        "style",
        usage="gramstyle reconstruct style IMAGE -o OUT [options]",
        help="the Gram matrices: which filters respond together, at any place",
        description="Start from white noise, and find an image with the Gram matrices of IMAGE at "
        "some layers (equations 3 to 6).",
        epilog="example: gramstyle reconstruct style painting.jpg --layers conv1_1 -o out.png",
    )
    loss = _add_common(style)
    style.add_argument("--layers", type=add.names, metavar="LAYER,…",
        help=Help(f"where Gram matrices are compared (default {','.join(STYLE_LAYERS)})",
        short="like conv1_1,conv2_1 (default: five)"))  # fmt: skip
    add.add_style_loss(loss)
    add.add_style_weights(loss)
    style.show_first({"the style": ["--layers"], **SCREEN})
    style.set_defaults(run=run_style)


def _add_common(parser: Parser) -> argparse._ArgumentGroup:
    """Add the image and what every run has; return the group of the loss."""
    parser.add_argument("image", type=path_or_dash, metavar="IMAGE",
        help="the image to reconstruct; -: from standard input")  # fmt: skip
    add.add_output(parser, pipe=True)
    result = parser.add_argument_group("the image")
    add.add_run(result)
    add.add_storage(result)
    loss = parser.add_argument_group("the loss")
    add.add_pooling(loss)
    add.add_padding(loss)
    machine = parser.add_argument_group("the machine")
    add.add_machine(machine)
    add.add_engine(machine)
    files = parser.add_argument_group("files")
    add.add_files(files)
    add.add_quiet(files)
    return loss


def run_content(arguments: argparse.Namespace) -> None:
    """Reconstruct content."""
    options = add.options_of(arguments)
    check_files(arguments, [arguments.image], depth=options.depth)
    say = Speaker(quiet=arguments.quiet)
    options = content_options(arguments.layer, options)
    (image,) = input_images(arguments.image, max_pixels=options.max_pixels)
    plan = plan_run(image, None, options, model=arguments.model, notify=say.tell)
    perform(plan, arguments, say)


def run_style(arguments: argparse.Namespace) -> None:
    """Reconstruct style."""
    options = add.options_of(arguments, style_layers=arguments.layers)
    check_files(arguments, [arguments.image], depth=options.depth)
    say = Speaker(quiet=arguments.quiet)
    options = style_options(arguments.layers, options)
    (image,) = input_images(arguments.image, max_pixels=options.max_pixels)
    plan = plan_run(None, image, options, model=arguments.model, notify=say.tell)
    perform(plan, arguments, say)
