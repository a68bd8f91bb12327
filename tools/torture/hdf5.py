"""Read HDF5 in a fork of this process: as separate as gramstyle's program, and much faster.

gramstyle starts a program for each file in HDF5, which takes a tenth of a second or more. Most
mutants are therefore read by the same code in a fork with the same limits.
"""

import json
import os
import resource
from itertools import count
from pathlib import Path

from gramstyle.errors import ModelError
from gramstyle.model.sources import keras

from .guard import Guard

# One file in this many is read by the program itself.
BY_PROGRAM = 500
# Seconds of the processor in a fork; the program has 30.
MAX_SECONDS = 5


def read_in_forks(guard: Guard) -> None:
    """Replace `gramstyle.model.sources.keras.run_program` in this process."""
    import h5py

    program, calls = keras.run_program, count(1)

    def run(path: Path) -> bytes:
        with guard.opened():
            return _forked(h5py, path) if next(calls) % BY_PROGRAM else program(path)

    keras.run_program = run


def _forked(h5py: object, path: Path) -> bytes:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(h5py, path, writer)
    os.close(writer)
    with open(reader, "rb") as stream:  # noqa: PTH123 - not a path
        output = stream.read()
    _, status = os.waitpid(child, 0)
    if status:
        raise ModelError(f"the HDF5 library fails on it (status {status}); get a fresh copy")
    return output


def _answer(h5py: object, path: Path, writer: int) -> None:
    """Write the table of contents of a file into a pipe; never return."""
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        data = json.dumps(keras.read_table(h5py, str(path))).encode()
        while data:
            data = data[os.write(writer, data) :]
        os._exit(0)
    finally:
        os._exit(1)
