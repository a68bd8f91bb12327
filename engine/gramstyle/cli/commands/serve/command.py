"""`gramstyle serve`."""

import argparse
from pathlib import Path

from gramstyle.cli import arguments as add
from gramstyle.cli.commands.serve.defaults import (
    DEFAULTS,
    HOST,
    LIMITS,
    PORT,
    SHORTEST_TOKEN,
    TOKEN_VARIABLE,
)
from gramstyle.cli.help import Help
from gramstyle.cli.parsing import Commands

SCREEN = {
    "where": ["--host", "--port", "--data", "--token-file"],
    "the work": ["--workers", "--scheduler", "--device", "--max-size"],
}


def add_parser(commands: Commands, summary: str) -> None:
    """Describe the command and its options."""
    parser = commands.add_parser(
        "serve",
        help=summary,
        usage="gramstyle serve [options]",
        description="Serve a web page and an HTTP interface for transfers (docs/serve.md). Jobs "
        "and results survive a restart.",
        epilog="example: gramstyle serve --port 8000 --workers 2",
    )
    parser.set_defaults(run=run_command)
    where = parser.add_argument_group("where")
    where.add_argument("--host", default=HOST, metavar="ADDRESS",
        help=f"the address; any but {HOST} needs a token (default {HOST})")  # fmt: skip
    where.add_argument("--port", type=int, default=PORT, metavar="N",
        help=f"the port; 0 is any free one (default {PORT})")  # fmt: skip
    where.add_argument("--data", type=Path, metavar="DIR",
        help=Help("the folder with jobs, uploads and results (default: in the user's data folder)",
        short="the folder with jobs, uploads and results"))  # fmt: skip
    where.add_argument("--token", metavar="TOKEN",
        help="the token itself, which other users of this machine can see in the list of "
        "processes")  # fmt: skip
    where.add_argument("--token-file", type=Path, metavar="FILE",
        help=Help("a file with the token that clients must send, of at least "
        f"{SHORTEST_TOKEN} characters (default: the variable {TOKEN_VARIABLE})",
        short="a file with the token that clients must send"))  # fmt: skip
    where.add_argument("--open", action="store_true", help="open the page in a browser")
    work = parser.add_argument_group("the work")
    work.add_argument("--workers", type=int, metavar="N",
        help=Help("jobs to run at once, each in its own process (default 1, or the workers of the "
        "scheduler)", short="jobs to run at once, each in its own process (default 1)")
    )  # fmt: skip
    work.add_argument("--scheduler", metavar="ADDRESS",
        help=Help("run the jobs on the workers of the Dask scheduler at this address",
        short="run the jobs on the workers of a Dask scheduler"))  # fmt: skip
    add.add_model(work)
    work.add_argument("--threads", type=int, metavar="N",
        help="processor cores for each job (default: all, divided by --workers)")  # fmt: skip
    work.add_argument("--memory", type=add.size_in_bytes, metavar="SIZE",
        help="memory budget of each job, like 2GB (default: three quarters of what there is, "
        "divided by --workers)")  # fmt: skip
    add.add_device(work)
    limits = parser.add_argument_group("limits")
    for name, (field, metavar, text) in LIMITS.items():
        kind = add.size_in_bytes if metavar == "SIZE" else int
        limits.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar,
            dest=f"limit_{field}",
            help=f"{text} (default {getattr(DEFAULTS, field)})")  # fmt: skip
    add.add_quiet(parser)
    parser.show_first(SCREEN)


def run_command(arguments: argparse.Namespace) -> None:
    """Serve until the program is stopped."""
    from gramstyle.cli.commands.serve.serving import serve  # needs packages that --help does not

    serve(arguments)
