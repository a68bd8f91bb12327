"""`gramstyle transfer CONTENT STYLE -o OUT`."""

import argparse
from pathlib import Path

from gramstyle.cli import arguments as add
from gramstyle.cli.parsing import Commands
from gramstyle.cli.progress import Speaker
from gramstyle.cli.running import check_files, perform_levels
from gramstyle.errors import OptionError
from gramstyle.run.checkpoint import check_folder
from gramstyle.run.options import STARTS
from gramstyle.run.resume import Files, check_replaceable, checked, keeper
from gramstyle.run.transfer import chart

# After how many iterations a run is saved unless it is said.
EVERY = 10


def add_parser(commands: Commands) -> None:
    """Describe the command and its options."""
    parser = commands.add_parser(
        "transfer",
        help="render a photograph in the style of a painting",
        description="Render the photograph CONTENT in the style of the painting STYLE.",
        epilog="example: gramstyle transfer photo.jpg painting.jpg -o result.png --size 768",
    )
    parser.set_defaults(run=run_command)
    parser.add_argument("content", type=Path, metavar="CONTENT", help="the photograph")
    parser.add_argument("style", type=Path, metavar="STYLE", help="the painting")
    add.add_output(parser)
    result = parser.add_argument_group("the image")
    add.add_run(result)
    add.add_start(result)
    add.add_loss(parser)
    machine = parser.add_argument_group("files and the machine")
    add.add_machine(machine)
    add.add_engine(machine)
    add.add_files(machine)
    machine.add_argument("--checkpoint", type=Path, metavar="DIR",
        help="save the run there on its way, into an empty folder or over a run that has ended; "
        "gramstyle resume DIR goes on with it")  # fmt: skip
    machine.add_argument("--every", type=int, metavar="N",
        help=f"save it after every N-th iteration (default {EVERY})")  # fmt: skip
    add.add_quiet(machine)


def run_command(arguments: argparse.Namespace) -> None:
    """Do what the arguments ask for."""
    options = add.options_of(arguments)
    inputs = [arguments.content, arguments.style]
    if options.start not in STARTS:
        inputs.append(Path(str(options.start)))
    check_files(arguments, inputs)
    keep, every, folder = None, EVERY if arguments.every is None else arguments.every, None
    if arguments.checkpoint is not None:
        options, folder = checked(options), arguments.checkpoint
    elif arguments.every is not None:
        raise OptionError("--every is for --checkpoint DIR; add that, or leave --every out")
    if every < 1:
        raise OptionError(f"--every must be at least 1, not {every}")
    say = Speaker(quiet=arguments.quiet)
    course = chart(
        arguments.content,
        arguments.style,
        options,
        model=arguments.model,
        notify=say.tell,
    )
    if folder is not None:
        check_replaceable(folder, check_folder(folder))
        keep = keeper(folder, course, Files(arguments.output, every))
    perform_levels(course, arguments, say, keep=keep, every=every, folder=folder)
