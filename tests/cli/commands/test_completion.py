"""`gramstyle completion`: the scripts, in the shells that are installed here."""

import argparse
import os
import re
import select
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gramstyle.cli import main
from gramstyle.cli.commands.completion import SHELLS
from gramstyle.cli.program import command_parser
from gramstyle.run.presets import PRESETS

# What is typed before Tab, and what the shell then offers.
TYPED: dict[str, set[str]] = {
    "gramstyle tr": {"transfer", "trace"},
    "gramstyle transfer --pres": {"--preset"},
    "gramstyle transfer --preset ": set(PRESETS),
    "gramstyle transfer --preset pain": {"painterly"},
    "gramstyle transfer my_ph": {"my_photo.jpg"},
    "gramstyle transfer a.jpg my_ph": {"my_photo.jpg"},
    "gramstyle transfer a.jpg b.jpg -o my_ph": {"my_photo.jpg"},
    "gramstyle transfer a.jpg b.jpg --tf32 --size 3 --device cu": {"cuda"},
    "gramstyle transfer a.jpg b.jpg --init my_ph": {"my_photo.jpg"},
    "gramstyle transfer a.jpg b.jpg --checkpoint my_": {"my_folder"},
    "gramstyle reconstruct st": {"style"},
}
# zsh inserts one completion, which is then the last word of the command.
SINGLE = {typed: offered for typed, offered in TYPED.items() if len(offered) == 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion")
    (path / "my_photo.jpg").touch()
    (path / "my_folder").mkdir()
    return path


def script_for(shell: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, Path]:
    """The program of a shell, and the script in a file."""
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    assert main(["completion", shell]) == 0
    path = folder / f"script.{shell}"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    return program, path


def offers(offered: list[str]) -> set[str]:
    return {word.rstrip("/") for word in offered}


def test_bash_offers_what_fits(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bash, script = script_for("bash", folder, capsys)
    function = (
        f"source {script.name}; offers() {{ COMP_WORDS=($1); [[ $1 == *' ' ]] && COMP_WORDS+=(''); "
        "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _shtab_gramstyle; echo ${COMPREPLY[*]}; }; "
    )
    calls = "; ".join(f'offers "{typed}"' for typed in TYPED)
    run = subprocess.run(
        [bash, "--norc", "-c", function + calls],
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stderr == ""
    for (typed, expected), line in zip(TYPED.items(), run.stdout.splitlines(), strict=True):
        assert offers(line.split()) == expected, typed


def test_fish_offers_what_fits(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fish, script = script_for("fish", folder, capsys)
    calls = "; ".join(f"complete -C '{typed}'; echo ==" for typed in TYPED)
    run = subprocess.run(
        [fish, "--no-config", "-c", f"source {script.name}; {calls}"],
        cwd=folder, capture_output=True, text=True, check=True,
        env={**os.environ, "HOME": str(folder)},
    )  # fmt: skip
    assert run.stderr == ""
    answers = run.stdout.split("==\n")[:-1]
    for (typed, expected), lines in zip(TYPED.items(), answers, strict=True):
        assert offers([line.split("\t")[0] for line in lines.splitlines()]) == expected, typed


def test_zsh_completes_what_is_typed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zsh, script = script_for("zsh", folder, capsys)
    ours, its = pytest.importorskip("pty").openpty()
    shell = subprocess.Popen(
        [zsh, "-f", "-i"], stdin=its, stdout=its, stderr=its, cwd=folder,
        env={**os.environ, "TERM": "dumb"}, start_new_session=True,
    )  # fmt: skip
    os.close(its)

    def answer_to(line: str, *, end: str) -> str:
        os.write(ours, line.encode() + b"\n")
        said = b""
        while end.encode() not in said:
            assert select.select([ours], [], [], 60)[0], (
                f"zsh does not answer to {line!r}: {said!r}"
            )
            said += os.read(ours, 4096)
        return said.decode()

    try:
        # The prompt is written in two parts, which the echo of the line does not contain as one.
        setup = 'autoload -Uz compinit; compinit -u -D; unsetopt auto_menu; PS1="REA""DY> "; '
        function = 'gramstyle() { print -r -- "<<$@[-1]>>" }; '
        answer_to(f'{setup}{function}eval "$(< {script.name})"', end="READY> ")
        for typed, (expected,) in SINGLE.items():
            said = answer_to(f"{typed}\t", end=">>")
            assert said.partition("<<")[2].partition(">>")[0].rstrip("/") == expected, typed
            answer_to(":", end="READY> ")
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)


def options_of(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Yield each command with each of its options."""
    for action in parser._actions:
        for name in action.option_strings:
            yield parser.prog, name
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from options_of(command)


def test_bash_knows_every_option_of_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    out = capsys.readouterr().out
    found = re.findall(r"^_shtab_(\w+)_option_strings=\((.*)\)$", out, re.MULTILINE)
    offered = {command: options.replace("'", "").split() for command, options in found}
    for command, option in options_of(command_parser()):
        assert option in offered[command.replace(" ", "_").replace("-", "_")], (command, option)


def test_another_shell_is_refused_with_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["completion", "bsh"])
    assert "Did you mean bash?" in capsys.readouterr().err


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_begins_and_ends_as_one_file(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    out = capsys.readouterr().out
    assert "--content-strength" in out
    assert out.endswith("\n")
    assert "\x1b" not in out
