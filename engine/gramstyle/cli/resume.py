"""`gramstyle resume DIR`."""

import argparse
from dataclasses import replace
from pathlib import Path

from gramstyle.cli import arguments as add
from gramstyle.cli.parsing import Commands
from gramstyle.cli.pipes import path_or_dash, refuse_dash
from gramstyle.cli.running import check_files, perform
from gramstyle.cli.speaking import Speaker
from gramstyle.errors import OptionError
from gramstyle.images import read_settings
from gramstyle.run.options import is_named_start
from gramstyle.run.resume import Resumed, resume


def add_parser(commands: Commands) -> None:
    """Describe the command and its options."""
    parser = commands.add_parser(
        "resume",
        help="continue a run from its checkpoint",
        description="Continue the run whose checkpoint is in DIR, as if it had not been stopped.",
        epilog="example: gramstyle resume saved",
    )
    parser.set_defaults(run=run_command)
    parser.add_argument("folder", type=Path, metavar="DIR", help="the folder with the checkpoint")
    parser.add_argument("-o", "--output", type=path_or_dash, metavar="OUT",
        help="the image to write (default: as when the run was started)")  # fmt: skip
    add.add_files(parser.add_argument_group("files"))
    add.add_quiet(parser.add_argument_group("output"))


def run_command(arguments: argparse.Namespace) -> None:
    """Run the command."""
    say = Speaker(quiet=arguments.quiet)
    resumed = resume(arguments.folder)
    plan, checkpointer = resumed.plan, resumed.checkpointer
    if arguments.output is None:
        arguments.output = checkpointer.output
        _check_is_ours(arguments.output)
    else:
        refuse_dash([arguments.output], command="resume")
    arguments.model = plan.model
    inputs = [Path(str(plan.content)), Path(str(plan.style))]
    if not is_named_start(plan.options.start):
        inputs.append(Path(str(plan.options.start)))
    check_files(arguments, inputs)
    say.tell(_announcement(resumed))
    checkpointer = replace(checkpointer, output=arguments.output)
    perform(plan, arguments, say, checkpointer=checkpointer, resumed=resumed.state)


def _check_is_ours(output: Path) -> None:
    """Refuse to overwrite the file that a checkpoint names, unless gramstyle has written it."""
    if output.is_file() and read_settings(output) is None:
        raise OptionError(f"{output} is not an image of gramstyle; name another one with -o")


def _announcement(resumed: Resumed) -> str:
    if resumed.finished:
        return f"the run has ended after {resumed.iteration} iterations; its image is written"
    if not resumed.differs:
        return f"resuming after iteration {resumed.iteration}"
    return (
        f"resuming from the image of iteration {resumed.iteration} alone, since these have "
        f"changed: {', '.join(resumed.differs)}"
    )
