"""`gramstyle resume DIR`."""

import argparse
from pathlib import Path

from gramstyle.cli import arguments as add
from gramstyle.cli.parsing import Commands
from gramstyle.cli.pipes import refuse_dash
from gramstyle.cli.running.performing import check_files, perform
from gramstyle.cli.speaking import Speaker
from gramstyle.errors import OptionError
from gramstyle.run.checkpoint import owned
from gramstyle.run.resume import Resumed, resume
from gramstyle.run.resume.saved_run import read_saved_run

# What the first screen of the help shows.
SCREEN = {
    "the result": ["--output"],
    "the machine": ["--threads", "--memory", "--device"],
    "files and progress": ["--log", "--record", "--live", "--quiet"],
}

EXAMPLES = """\
example: gramstyle transfer photo.jpg painting.jpg -o out.png --checkpoint saved
         gramstyle resume saved -o out.png
"""


def add_parser(commands: Commands, summary: str) -> None:
    """Describe the command and its options."""
    parser = commands.add_parser(
        "resume",
        help=summary,
        usage="gramstyle resume DIR -o OUT [options]",
        description="Continue the run whose checkpoint is in DIR, as if it had not been stopped. "
        "The checkpoint names neither the machine nor files to write: choose them here.",
        epilog=EXAMPLES,
    )
    parser.set_defaults(run=run_command)
    parser.add_argument("folder", type=Path, metavar="DIR", help="the folder with the checkpoint")
    # Its absence is reported with the name that the run was started with.
    add.add_output(parser, required=False)
    parser.show_first(SCREEN)
    machine = parser.add_argument_group("the machine")
    add.add_model(machine)
    add.add_resources(machine)
    add.add_device(machine)
    files = parser.add_argument_group("files")
    add.add_files(files)
    add.add_live(files)
    add.add_quiet(files)


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
