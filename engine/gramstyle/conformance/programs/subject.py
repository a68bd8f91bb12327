"""A program as an adapter: it gets cases on its standard input and answers on its output."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gramstyle.conformance.cases import Case
from gramstyle.conformance.comparing import NoAnswerError
from gramstyle.conformance.programs.arrays import read_array
from gramstyle.conformance.programs.messages import (
    DeclinedError,
    Hello,
    case_message,
    greeting,
    line_of,
    read_answer,
    read_hello,
)
from gramstyle.core.arrays import Array
from gramstyle.errors import OptionError
from gramstyle.system.programs import LineProgram, ProgramError
from gramstyle.system.temporary import temporary_directory

# The default of --timeout, in seconds.
TIMEOUT = 60.0
LONGEST = 24 * 60 * 60


@contextmanager
def running_program(command: str, *, timeout: float = TIMEOUT) -> Iterator["ProgramSubject"]:
    """Start a program, and end it after the block; nothing in its temporary folder remains.

    Parameters
    ----------
    command
        The program and its arguments, quoted as for a shell. No shell is involved.
    timeout
        How many seconds the program may take for its first message, and for each case.

    Raises
    ------
    OptionError
        If the program cannot be started, or does not speak the protocol.
    """
    if not 0 < timeout <= LONGEST:
        raise OptionError(f"--timeout must be 0 to {LONGEST} seconds, more than 0, not {timeout:g}")
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise OptionError(f"the command {command!r} cannot be read: {error}") from None
    if not words:
        raise OptionError("--command names no program")
    with temporary_directory() as folder:
        subject = ProgramSubject(words, folder, timeout)
        try:
            subject.start()
            yield subject
        finally:
            subject.end()


class ProgramSubject:
    """An adapter that hands each case to a program.

    Attributes
    ----------
    hello
        What the program said about itself.
    seconds
        The time of the last evaluation that the program itself measured; None if it gave none.
    """

    hello: Hello

    def __init__(self, words: list[str], folder: Path, timeout: float) -> None:
        self.seconds: float | None = None
        self._words, self._folder, self._timeout = words, folder, timeout
        self._program: LineProgram | None = None
        self._number = 0

    def start(self) -> None:
        """Start the program and read what it says about itself.

        Raises
        ------
        OptionError
            If it cannot be started, or does not answer as the protocol says.
        """
        self._make_folder()
        own = self._folder / "temporary"
        own.mkdir(exist_ok=True)
        places = dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(own))
        self._program = LineProgram(self._words, variables=places)
        try:
            self.hello = read_hello(self._exchange(greeting()))
        except ProgramError as error:
            self.kill()
            raise OptionError(f"the program {self._words[0]!r} {error}") from None

    def end(self) -> None:
        """Let the program end, if it runs."""
        program, self._program = self._program, None
        if program is not None:
            program.end()

    def kill(self) -> None:
        """Kill the program, if it runs."""
        program, self._program = self._program, None
        if program is not None:
            program.kill()

    def __call__(self, image: Array, case: Case) -> tuple[float, Array, Mapping[str, Array]]:
        """Return the program's answer; start the program again if it does not run.

        Raises
        ------
        NoAnswerError
            If the program does not answer the case as the protocol says.
        """
        if self._program is None:
            try:
                self.start()
            except OptionError as error:
                raise NoAnswerError(f"started again, {error}") from None
        self._number += 1
        self._make_folder()
        with TemporaryDirectory(
            dir=self._folder, prefix="case-", ignore_cleanup_errors=True
        ) as folder:
            try:
                return self._answer(image, case, Path(folder))
            except DeclinedError as error:
                raise NoAnswerError(f"the program {error}") from None
            except ProgramError as error:
                self.kill()
                raise NoAnswerError(f"the program {error}") from None
            # What the program says next may belong to this case.
            except BaseException:
                self.kill()
                raise

    def _answer(
        self, image: Array, case: Case, folder: Path
    ) -> tuple[float, Array, Mapping[str, Array]]:
        message = case_message(case, image, self._number, folder, self.hello.files)
        said = read_answer(self._exchange(message), self._number)
        self.seconds = said.get("seconds")
        shapes = case.network.shapes(*case.x.shape[1:])
        gradient = read_array(folder, said["gradient"], image.shape, "gradient")
        dF = {}
        for layer, file in said.get("dF", {}).items():
            if layer not in shapes:
                raise NoAnswerError(f"answered dF of {layer!r}; expected {', '.join(shapes)}")
            dF[layer] = read_array(folder, file, shapes[layer], f"dF of {layer}")
        loss = float("nan") if said["loss"] is None else float(said["loss"])
        return loss, gradient, dF

    def _make_folder(self) -> None:
        """Make the folder of all files again if the program has removed it."""
        self._folder.mkdir(mode=0o700, exist_ok=True)

    def _exchange(self, message: Mapping[str, Any]) -> bytes:
        assert self._program is not None  # noqa: S101 - the callers have started it
        return self._program.exchange(line_of(message), seconds=self._timeout)
