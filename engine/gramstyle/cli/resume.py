"""`gramstyle resume DIR`."""

import argparse
from pathlib import Path

from gramstyle.cli import arguments as add
from gramstyle.cli.parsing import Commands
from gramstyle.cli.progress import Speaker
from gramstyle.cli.running import check_files, perform_levels
from gramstyle.errors import OptionError
from gramstyle.images import read_settings
from gramstyle.run.options import STARTS
from gramstyle.run.resume import Files, Resumed, keeper, resume


def add_parser(commands: Commands) -> None:
    """Describe the command and its options."""
    parser = commands.add_parser(
        "resume",
        help="go on with a run that was saved by --checkpoint",
        description="Go on with the run whose checkpoint is in DIR, as if it had not been stopped.",
        epilog="example: gramstyle resume saved",
    )
    parser.set_defaults(run=run_command)
    parser.add_argument("folder", type=Path, metavar="DIR", help="where --checkpoint has saved it")
    parser.add_argument("-o", "--output", type=Path, metavar="OUT",
        help="the image to write (default: the one that the run was to write)")  # fmt: skip
    add.add_files(parser.add_argument_group("files"))
    add.add_quiet(parser.add_argument_group("output"))


def run_command(arguments: argparse.Namespace) -> None:
    """Do what the arguments ask for."""
    say = Speaker(quiet=arguments.quiet)
    resumed = resume(arguments.folder)
    course, folder = resumed.course, arguments.folder
    if arguments.output is None:
        arguments.output = resumed.files.output
        _check_is_ours(arguments.output)
    arguments.model = course.model
    inputs = [Path(str(course.content)), Path(str(course.style))]
    if course.options.start not in STARTS:
        inputs.append(Path(str(course.options.start)))
    check_files(arguments, inputs)
    say.tell(_said(resumed))
    keep = keeper(folder, course, Files(arguments.output, resumed.files.every))
    perform_levels(
        course, arguments, say,
        keep=keep, every=resumed.files.every, since=resumed.since, folder=folder,
    )  # fmt: skip


def _check_is_ours(output: Path) -> None:
    """Refuse to write over what a checkpoint names, unless it is an image of this program."""
    if output.is_file() and read_settings(output) is None:
        raise OptionError(f"{output} is none of this program's images; name another with -o")


def _said(resumed: Resumed) -> str:
    if resumed.finished:
        return f"the run has ended after {resumed.iteration} iterations; its image is written"
    if not resumed.differs:
        return f"going on after iteration {resumed.iteration}"
    return (
        f"going on from the image of iteration {resumed.iteration} alone, since it is not as it "
        f"was: {', '.join(resumed.differs)}"
    )
