"""What `gramstyle conformance run` tests: an adapter, or a program in any language."""

import argparse
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gramstyle.cli.help import Help
from gramstyle.cli.parsing import Parser
from gramstyle.conformance.adapters import DEVICES, dtypes_of, load, version_of
from gramstyle.conformance.comparing import Adapter
from gramstyle.conformance.programs import TIMEOUT, running_program
from gramstyle.errors import OptionError


@dataclass(frozen=True)
class Subject:
    """An implementation to test.

    Attributes
    ----------
    adapter
        The function that computes a case.
    name
        The name of the adapter, or the command that starts the program.
    described
        The name with versions and device, for the report.
    dtypes
        The float types in which it computes, the default first.
    """

    adapter: Adapter
    name: str
    described: str
    dtypes: tuple[str, ...]

    def dtype(self, asked: str | None) -> str:
        """Return the float type to compute in."""
        if asked is not None and asked not in self.dtypes:
            raise OptionError(
                f"{self.name} computes in {', '.join(self.dtypes)}; leave --dtype out"
            )
        return asked or self.dtypes[0]


def add_subject(parser: Parser) -> argparse._ArgumentGroup:
    """Add the options that name the implementation; return their group."""
    group = parser.add_argument_group("the implementation")
    subject = group.add_mutually_exclusive_group(required=True)
    subject.add_argument("--against", metavar="ADAPTER",
        help=Help("the implementation to test: an adapter; see below",
        short="an adapter that --help-all lists, like torch; or "
        "module:function of your own"))  # fmt: skip
    subject.add_argument("--command", metavar='"PROGRAM ARGS"',
        help=Help("the implementation to test: a program that answers the cases; see below",
        short="a program in any language that answers the cases"))  # fmt: skip
    group.add_argument("--timeout", type=float, metavar="SECONDS",
        help=f"with --command: the longest time for a case (default {TIMEOUT:g})")  # fmt: skip
    group.add_argument("--device", choices=DEVICES, default=DEVICES[0],
        help=Help("with --against: device of the computation (default %(default)s)",
        short="with --against: cuda computes on an NVIDIA GPU"))  # fmt: skip
    return group


def files_of_subject(arguments: argparse.Namespace) -> Iterator[Path]:
    """Yield the files of the implementation that its arguments name, if there are such files."""
    if arguments.command is None:
        module, colon, _ = arguments.against.partition(":")
        if colon and module:
            parts = Path(*module.split("."))
            yield from (parts.with_name(f"{parts.name}.py"), parts / "__init__.py")
        return
    with suppress(ValueError):  # a quotation that is not closed is an error later
        yield from map(Path, shlex.split(arguments.command))


@contextmanager
def open_subject(arguments: argparse.Namespace) -> Iterator[Subject]:
    """Load the adapter, or start the program and end it after the block."""
    if arguments.command is None:
        if arguments.timeout is not None:
            raise OptionError("--timeout is for a program; name one by --command")
        name = arguments.against
        adapter = load(name, device=arguments.device)
        described = f"{name} {version_of(name)}".strip() + f" on {arguments.device}"
        yield Subject(adapter, name, described, dtypes_of(name))
        return
    if arguments.device != DEVICES[0]:
        raise OptionError("a program chooses its device itself; leave --device out")
    seconds = TIMEOUT if arguments.timeout is None else arguments.timeout
    with running_program(arguments.command, timeout=seconds) as program:
        hello = program.hello
        described = f"{hello.name} {hello.version} ({arguments.command})"
        yield Subject(program, arguments.command, described, hello.dtypes)
