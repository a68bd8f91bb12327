"""`gramstyle transfer CONTENT STYLE -o OUT`."""

import argparse
from pathlib import Path

from gramstyle.cli import arguments as add
from gramstyle.cli.parsing import Commands
from gramstyle.cli.progress import Speaker
from gramstyle.cli.running import check_files, perform
from gramstyle.options import STARTS
from gramstyle.prepare import prepare


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
    result = parser.add_argument_group("the picture")
    add.add_run(result)
    add.add_start(result)
    add.add_loss(parser)
    machine = parser.add_argument_group("files and the machine")
    add.add_machine(machine)
    add.add_engine(machine)
    add.add_files(machine)
    add.add_quiet(machine)


def run_command(arguments: argparse.Namespace) -> None:
    """Do what the arguments ask for."""
    options = add.options_of(arguments)
    inputs = [arguments.content, arguments.style]
    if options.start not in STARTS:
        inputs.append(Path(str(options.start)))
    check_files(arguments, inputs)
    say = Speaker(quiet=arguments.quiet)
    prepared = prepare(
        arguments.content,
        arguments.style,
        options,
        model=arguments.model,
        notify=say.tell,
    )
    perform(prepared, arguments, say)
