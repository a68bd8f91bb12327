"""`gramstyle resume DIR`."""

import argparse
from pathlib import Path

from gramstyle.cli import arguments as add
from gramstyle.cli.parsing import Commands
from gramstyle.cli.pipes import path_or_dash, refuse_dash
from gramstyle.cli.running import check_files, perform
from gramstyle.cli.speaking import Speaker
from gramstyle.errors import OptionError
from gramstyle.run.checkpoint import owned
from gramstyle.run.resume import Resumed, resume
from gramstyle.run.saved_run import read_saved_run


def add_parser(commands: Commands, summary: str) -> None:
    """Describe the command and its options."""
    parser = commands.add_parser(
        "resume",
        help=summary,
        description="Continue the run whose checkpoint is in DIR, as if it had not been stopped.",
        epilog="example: gramstyle resume saved -o result.png",
    )
    parser.set_defaults(run=run_command)
    parser.add_argument("folder", type=Path, metavar="DIR", help="the folder with the checkpoint")
    parser.add_argument("-o", "--output", type=path_or_dash, metavar="OUT",
        help="the image to write (required): .png, .jpg, .webp, .tif or .avif")  # fmt: skip
    machine = parser.add_argument_group("files and the machine, which a checkpoint does not name")
    add.add_model(machine)
    add.add_resources(machine)
    add.add_device(machine)
    add.add_files(machine)
    add.add_live(machine)
    add.add_quiet(machine)


def run_command(arguments: argparse.Namespace) -> None:
    """Run the command."""
    say = Speaker(quiet=arguments.quiet)
    machine = add.machine_of(arguments)
    saved = read_saved_run(arguments.folder)
    if arguments.output is None:
        raise OptionError(
            f"name the image to write with -o (the run was started with -o {saved.output})"
        )
    refuse_dash([arguments.output], command="resume")
    depth = saved.options(machine).depth
    check_files(arguments, [*saved.images.values()], depth=depth)
    with owned(arguments.folder):
        resumed = resume(arguments.folder, model=arguments.model, machine=machine, notify=say.tell)
        for line in _announcement(resumed):
            say.tell(line)
        checkpointer = resumed.checkpointer(arguments.output)
        perform(resumed.plan, arguments, say, checkpointer=checkpointer, resumed=resumed.state)


def _announcement(resumed: Resumed) -> list[str]:
    """Return what changes the result, and which options of the machine are missing now."""
    saved = resumed.saved
    if saved.finished:
        return [f"the run has ended after {saved.iteration} iterations; its image is written"]
    line = f"resuming after iteration {saved.iteration}"
    if resumed.warm:
        line = f"resuming from the image of iteration {saved.iteration}, without the history"
    if resumed.differs:
        effect = "" if resumed.warm else "; the result may differ in the last bits"
        line += f"{effect}, since these have changed: {', '.join(resumed.differs)}"
    lines = [line]
    if resumed.missing:
        names = " and ".join(f"--{name.replace('_', '-')}" for name in resumed.missing)
        lines.append(
            f"the run was started with {names}; to use that again, give it to gramstyle resume"
        )
    return lines
