"""Small programs that speak the protocol, and what they do instead at their first case."""

import json
import sys
from pathlib import Path

from conformance_cases import CASES

# A program of Python's standard library. It answers with the truth, which is in files beside it,
# unless the case is the first one: then it does what a test inserts.
PROGRAM = """\
import json, os, shutil, signal, struct, subprocess, sys, time
from pathlib import Path

HERE = Path(__file__).parent


def say(**message):
    print(json.dumps(message), flush=True)


def store(name, values):
    (folder / name).write_bytes(struct.pack(f"<{{len(values)}}f", *values))


def answer(**changes):
    shutil.copy(HERE / f"{{asked['name']}}.f32", folder / "gradient.f32")
    loss = json.loads((HERE / "losses.json").read_text())[asked["name"]]
    say(**{{"message": "answer", "case": asked["case"], "loss": loss,
           "gradient": "gradient.f32", **changes}})


for line in sys.stdin:
    asked = json.loads(line)
    if asked["message"] == "greeting":
        say(message="hello", protocol=1, name="tiny", version="2.1", dtypes=["float32"],
            files={files!r})
        continue
    folder = Path(asked["folder"])
    if asked["case"] > 1:
        answer()
        continue
    {behaviour}
"""

PAIR = ("convolution", "relu")


def write_program(folder: Path, behaviour: str = "answer()", files: str = "raw") -> str:
    """Write a program that behaves so at its first case; return the command that starts it."""
    losses = {}
    for name in PAIR:
        truth = CASES[name].truth
        losses[name] = float(truth.loss)
        (folder / f"{name}.f32").write_bytes(truth.gradient.astype("<f4").tobytes())
    (folder / "losses.json").write_text(json.dumps(losses))
    behaviour = "\n    ".join(behaviour.splitlines())
    path = folder / "program.py"
    path.write_text(PROGRAM.format(behaviour=behaviour, files=files), "utf-8")
    return f"'{sys.executable}' '{path}'"
