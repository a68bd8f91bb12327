"""The help of a command: a first screen of the options that most runs use, and all of them."""

import argparse
import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Self

# The names of the options on the first screen, by the title of their section.
Screen = Mapping[str, Sequence[str]]


class Help(str):
    """The help of an argument, or an epilog, with a shorter one for the first screen."""

    __slots__ = ("short",)

    short: str

    def __new__(cls, text: str, *, short: str) -> Self:
        """Return the text, with the shorter one as its attribute."""
        help_ = super().__new__(cls, text)
        help_.short = short
        return help_


def first_screen(parser: argparse.ArgumentParser, screen: Screen) -> str:
    """Return the help with the positional arguments and the options of a screen."""
    by_name = {name: action for action in parser._actions for name in action.option_strings}
    sections = {"images and files": list(parser._get_positional_actions())}
    for title, names in screen.items():
        sections[title] = [_shortened(by_name[name]) for name in names]
    epilog = parser.epilog.short if isinstance(parser.epilog, Help) else parser.epilog
    return _text(parser, sections, epilog) + f"{parser.prog} --help-all lists all options\n"


def all_options(parser: argparse.ArgumentParser, notes: str, *, of_run: bool) -> str:
    """Return the help with all options and the notes.

    With `of_run`, the options of `Options` are in the sections of its groups; else every option is
    in the argument group of the command.
    """
    if of_run:
        return _text(parser, _sections_of_run(parser), notes, parser.epilog)
    groups = {str(group.title): group._group_actions for group in parser._action_groups}
    return _text(parser, groups, notes, parser.epilog)


def _sections_of_run(parser: argparse.ArgumentParser) -> dict[str, list[argparse.Action]]:
    from gramstyle.run.options import GROUPS  # imports much, which the other helps do not need

    titles = {group: f"the {group.__name__.removesuffix('Options').lower()}" for group in GROUPS}
    section_of = {each.name: title for group, title in titles.items() for each in fields(group)}
    own: dict[str, list[argparse.Action]] = {}
    grouped: dict[str, list[argparse.Action]] = {title: [] for title in titles.values()}
    for group in parser._action_groups:
        for action in group._group_actions:
            section = section_of.get(action.dest)
            if section is not None and action.option_strings:
                grouped[section].append(action)
            else:
                own.setdefault(str(group.title), []).append(action)
    # An argument group with the title of a section adds to that section.
    sections = {title: own[title] for title in own if title not in grouped}
    last = sections.pop("files", [])
    sections |= {title: actions + own.get(title, []) for title, actions in grouped.items()}
    return {**sections, "files": last}


def list_of_commands(parser: argparse.ArgumentParser, sections: Mapping[str, Iterable[str]]) -> str:
    """Return the help of the program, with its commands in sections."""
    (action,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    by_name = {each.dest: each for each in action._get_subactions()}
    commands = {title: [by_name[name] for name in names] for title, names in sections.items()}
    # The usage names --help.
    options = [each for each in parser._actions if "--version" in each.option_strings]
    return _text(parser, {**commands, "options": options}, parser.epilog)


def _shortened(action: argparse.Action) -> argparse.Action:
    if not isinstance(action.help, Help):
        return action
    shortened = copy.copy(action)
    shortened.help = action.help.short
    return shortened


def _text(
    parser: argparse.ArgumentParser,
    sections: Mapping[str, list[argparse.Action]],
    *ends: str | None,
) -> str:
    """Return a help with these sections; those without actions are left out.

    The texts at its end, notes and an epilog, keep their lines, since examples are for copying.
    """
    formatter = parser._get_formatter()
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups)
    formatter.add_text(parser.description)
    for title, actions in sections.items():
        formatter.start_section(title)
        formatter.add_arguments(actions)
        formatter.end_section()
    texts = [text.rstrip() for text in ends if text]
    return "\n\n".join([formatter.format_help().rstrip(), *texts]) + "\n"
