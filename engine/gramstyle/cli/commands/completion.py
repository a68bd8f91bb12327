"""`gramstyle completion bash|zsh|fish`. The only `import shtab`."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from gramstyle.cli.parsing import Commands, Parser
from gramstyle.cli.pipes import path_or_dash
from gramstyle.cli.speaking import answer
from gramstyle.run.options.values import IMAGE_OPTIONS

SHELLS = ("bash", "zsh", "fish")

WHERE = """\
bash: add this line to ~/.bashrc
  eval "$(gramstyle completion bash)"
zsh: add this line to ~/.zshrc, after compinit
  eval "$(gramstyle completion zsh)"
fish: run this once
  gramstyle completion fish > ~/.config/fish/completions/gramstyle.fish"""


def add_parser(commands: Commands, summary: str) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "completion",
        help=summary,
        description="Print a script with which the shell completes commands, options, their\n"
        "values and files. The script does not start gramstyle.",
        epilog=WHERE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run_command)
    parser.add_argument("shell", choices=SHELLS, help="the shell")


def run_command(arguments: argparse.Namespace) -> None:
    """Print the script."""
    from gramstyle.cli.program import command_parser  # which imports this module

    answer(script(command_parser(), arguments.shell))


def script(parser: Parser, shell: str) -> str:
    """Return the script that completes the arguments of a parser in a shell."""
    import shtab  # no other command needs it

    for action in _actions(parser):
        if _is_folder(action):
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif _is_path(action):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return str(shtab.complete(parser, shell=shell)).rstrip("\n")


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments of a parser and of its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)


def _is_folder(action: argparse.Action) -> bool:
    return action.type is Path and action.metavar == "DIR"


def _is_path(action: argparse.Action) -> bool:
    return action.type in (Path, path_or_dash) or action.dest in IMAGE_OPTIONS
