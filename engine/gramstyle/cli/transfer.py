"""`gramstyle transfer CONTENT STYLE [STYLE …] -o OUT`."""

import argparse
from pathlib import Path

from gramstyle.cli import arguments as add
from gramstyle.cli.parsing import Commands
from gramstyle.cli.pipes import input_images, path_or_dash, refuse_dash
from gramstyle.cli.running import check_files, perform
from gramstyle.cli.speaking import Speaker
from gramstyle.errors import OptionError
from gramstyle.run.checkpoint import check_folder, owned
from gramstyle.run.checkpointer import Checkpointer, check_can_be_saved, check_replaceable
from gramstyle.run.options import STARTS
from gramstyle.run.plan import plan_run

# After how many iterations a checkpoint is saved by default.
EVERY = 10


def add_parser(commands: Commands) -> None:
    """Describe the command and its options."""
    parser = commands.add_parser(
        "transfer",
        help="render a photograph in the style of a painting",
        description="Render the photograph CONTENT in the style of the painting STYLE, or of "
        "several.",
        epilog="example: gramstyle transfer photo.jpg painting.jpg -o result.png --size 768",
    )
    parser.set_defaults(run=run_command)
    parser.add_argument("content", type=path_or_dash, metavar="CONTENT",
        help="the photograph; -: from standard input")  # fmt: skip
    parser.add_argument("style", type=path_or_dash, nargs="+", metavar="STYLE",
        help="the painting, or several; -: from standard input")  # fmt: skip
    add.add_output(parser, pipe=True)
    result = parser.add_argument_group("the image")
    add.add_run(result)
    add.add_scales(result)
    add.add_init(result)
    add.add_style(parser)
    add.add_regions(parser)
    add.add_loss(parser)
    machine = parser.add_argument_group("files and the machine")
    add.add_machine(machine)
    add.add_engine(machine)
    add.add_files(machine)
    machine.add_argument("--checkpoint", type=Path, metavar="DIR",
        help="save checkpoints of the run in this folder, which must be empty or hold a run that "
        "has ended; gramstyle resume DIR continues the run")  # fmt: skip
    machine.add_argument("--every", type=int, metavar="N",
        help=f"save a checkpoint after every N-th iteration (default {EVERY})")  # fmt: skip
    add.add_quiet(machine)


def run_command(arguments: argparse.Namespace) -> None:
    """Run the command."""
    options = add.options_of(arguments)
    inputs = [arguments.content, *arguments.style]
    if options.start not in STARTS:
        inputs.append(Path(str(options.start)))
    inputs += add.mask_files(options)
    check_files(arguments, inputs)
    every, folder = EVERY if arguments.every is None else arguments.every, arguments.checkpoint
    if folder is not None:
        refuse_dash([*inputs, arguments.output], command="--checkpoint")
        options = check_can_be_saved(options)
    elif arguments.every is not None:
        raise OptionError("--every is for --checkpoint DIR; add that, or leave --every out")
    if every < 1:
        raise OptionError(f"--every must be at least 1, not {every}")
    say = Speaker(quiet=arguments.quiet)
    images = (arguments.content, *arguments.style)
    content, *styles = input_images(*images, max_pixels=options.max_pixels)
    plan = plan_run(content, styles, options, model=arguments.model, notify=say.tell)
    if folder is None:
        perform(plan, arguments, say)
        return
    check_folder(folder)
    with owned(folder):
        check_replaceable(folder, check_folder(folder))
        checkpointer = Checkpointer.beginning(folder, plan, arguments.output, every)
        perform(plan, arguments, say, checkpointer=checkpointer)
