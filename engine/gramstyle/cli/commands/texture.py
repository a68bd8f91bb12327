"""`gramstyle texture STYLE [STYLE …] -o OUT --size WxH`."""

import argparse

from gramstyle.cli import arguments as add
from gramstyle.cli.help import Help
from gramstyle.cli.parsing import Commands
from gramstyle.cli.pipes import input_images, path_or_dash
from gramstyle.cli.running.performing import check_files, perform
from gramstyle.cli.speaking import Speaker
from gramstyle.run.texture import plan_texture

# The width and the height of a texture in pixels by default.
SIZE = (512, 512)

# What the first screen of the help shows.
SCREEN = {
    "the look": ["--style-scale", "--style-blend"],
    "the result": ["--output", "--size", "--tileable", "--iterations", "--seed"],
    "the run": ["--memory", "--device", "--record"],
}

EXAMPLES = """\
examples: gramstyle texture painting.jpg -o texture.png --tileable
          gramstyle texture painting.jpg -o wide.png --size 1024x512
"""


def add_parser(commands: Commands, summary: str) -> None:
    """Describe the command and its options."""
    parser = commands.add_parser(
        "texture",
        help=summary,
        usage="gramstyle texture STYLE [STYLE …] -o OUT [options]",
        description="Start from white noise, and make an image of any size with the style of "
        "STYLE, or of several. With --tileable, copies of it join without a seam.",
        epilog=EXAMPLES,
    )
    parser.set_defaults(run=run_command)
    parser.add_argument("style", type=path_or_dash, nargs="+", metavar="STYLE",
        help="the painting, or several; -: from standard input")  # fmt: skip
    add.add_output(parser, pipe=True)
    parser.show_first(SCREEN)
    result = parser.add_argument_group("the result")
    result.add_argument("--size", dest="exact", type=_size, default=SIZE,
        metavar="WxH", help="its width and height; one number: a square "
        f"(default {'x'.join(map(str, SIZE))})")  # fmt: skip
    result.add_argument("--tileable", action="store_true",
        help=Help("join opposite edges, so that the texture can be repeated; both edges must be "
        "multiples of 16 pixels with the default layers",
        short="join opposite edges; needs multiples of 16 pixels"))  # fmt: skip
    add.add_iterations(result)
    add.add_scales(result)
    style = add.add_style(parser, content=False)
    add.add_style_layers(style)
    add.add_style_weights(style)
    loss = parser.add_argument_group("the loss")
    add.add_pooling(loss)
    add.add_tv(loss)
    machine = parser.add_argument_group("the machine")
    add.add_machine(machine)
    add.add_engine(machine)
    files = parser.add_argument_group("files")
    add.add_files(files)
    add.add_quiet(files)


def run_command(arguments: argparse.Namespace) -> None:
    """Run the command."""
    options = add.options_of(arguments)
    check_files(arguments, arguments.style)
    say = Speaker(quiet=arguments.quiet)
    styles = input_images(*arguments.style, max_pixels=options.max_pixels)
    plan = plan_texture(
        styles,
        arguments.exact,
        options,
        tileable=arguments.tileable,
        model=arguments.model,
        notify=say.tell,
    )
    perform(plan, arguments, say)


def _size(text: str) -> tuple[int, int]:
    """Return width and height of a size like 640x480, or of a square like 512."""
    return add.width_and_height(f"{text}x{text}" if text.isdecimal() else text)
