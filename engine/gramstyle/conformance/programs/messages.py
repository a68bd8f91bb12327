"""The messages of the protocol, one JSON object a line; `protocol.schema.json` describes them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from gramstyle.conformance.cases import Case
from gramstyle.conformance.files.schema import check, read_json, shown
from gramstyle.conformance.programs.arrays import write_array
from gramstyle.core.arrays import Array
from gramstyle.core.network import Convolution
from gramstyle.errors import ModelError
from gramstyle.system.programs import ProgramError

PROTOCOL = 1
SCHEMA_FILE = Path(__file__).with_name("protocol.schema.json")


@dataclass(frozen=True)
class Hello:
    """What a program says about itself: its name, its float types, how it reads arrays."""

    name: str
    version: str
    dtypes: tuple[str, ...]
    files: str


def line_of(message: Mapping[str, Any]) -> bytes:
    """Return a message as one line, without its end."""
    return json.dumps(message, allow_nan=False).encode()


def greeting() -> dict[str, Any]:
    """Return the first message to a program."""
    return {"message": "greeting", "protocol": PROTOCOL, "gramstyle": version("gramstyle")}


def read_hello(line: bytes) -> Hello:
    """Return what a program answered to the greeting.

    Raises
    ------
    ProgramError
        If it answered something else, or speaks another protocol.
    """
    said = _read(line, "hello")
    if said["protocol"] != PROTOCOL:
        raise ProgramError(
            f"speaks the protocol {said['protocol']}; this gramstyle speaks {PROTOCOL}"
        )
    return Hello(said["name"], said["version"], tuple(said["dtypes"]), said["files"])


def case_message(case: Case, image: Array, number: int, folder: Path, files: str) -> dict[str, Any]:
    """Write the arrays of a case into a folder; return the message that hands it to a program.

    Images, weights and biases have the float type of `image`; the targets of the loss terms have
    the same type, but float32 where that is float16, in which a Gram matrix overflows.
    """
    narrow, wide = image.dtype, np.result_type(image.dtype, np.float32)

    def stored(name: str, array: Array, dtype: Any = wide) -> dict[str, Any]:
        return write_array(folder, name, array.astype(dtype), files)

    layers: list[dict[str, Any]] = []
    for layer in case.layers:
        name = layer.name
        if isinstance(layer, Convolution):
            arrays = {
                "W": stored(f"{name}.W", layer.W, narrow),
                "b": stored(f"{name}.b", layer.b, narrow),
            }
            kind = {"kind": "convolution", "padding": layer.padding}
            layers.append({"name": name, **kind, **arrays})
        else:
            layers.append({"name": name, "kind": layer.kind})
    content = None
    if case.content is not None:
        name, factor = case.content.layer, case.content.factor
        content = {"layer": name, "factor": factor, "P": stored(f"{name}.P", case.content.P)}
    return {
        "message": "case",
        "case": number,
        "name": case.name,
        "dtype": narrow.name,
        "folder": str(folder),
        "image": stored("x", image, narrow),
        "preprocessing": {
            "channels": case.preprocessing.channels,
            "mean": [float(each) for each in case.preprocessing.mean],
            "scale": [float(each) for each in case.preprocessing.scale],
        },
        "layers": layers,
        "content": content,
        "style": [
            {"layer": name, "factor": term.factor, "A": stored(f"{name}.A", term.A)}
            for name, term in case.style.items()
        ],
        "regions": [
            {
                "layer": name,
                "factor": region.factor,
                "T": stored(f"{name}.T{r}", region.T),
                "A": stored(f"{name}.A{r}", region.A),
            }
            for name, regions in case.regions.items()
            for r, region in enumerate(regions)
        ],
        "statistics": [
            {
                "layer": name,
                "statistic": term.statistic,
                "factor": term.factor,
                "A": stored(f"{name}.A", term.A),
            }
            for name, term in case.statistics.items()
        ],
        "tv": case.tv,
    }


def read_answer(line: bytes, number: int) -> Mapping[str, Any]:
    """Return the answer to a case; it names the files of its arrays.

    Raises
    ------
    ProgramError
        If the line is not an answer, is the answer to another case, or says that the program
        cannot compute the case.
    """
    said = _read(line, "answer", "error")
    if said["case"] != number:
        raise ProgramError(f"answered case {said['case']} where case {number} was asked")
    if said["message"] == "error":
        raise DeclinedError(f"says: {said['text']}")
    return said


class DeclinedError(ProgramError):
    """The program says why it cannot compute a case, and is ready for the next one."""


def _read(line: bytes, *kinds: str) -> Mapping[str, Any]:
    """Return a message of one of these kinds."""
    try:
        said = read_json(line)
        found = said.get("message") if isinstance(said, dict) else None
        kind = found if found in kinds else kinds[0]
        check(said, {"$ref": f"#/$defs/{kind}", "$defs": _schema()["$defs"]})
    except ModelError as error:
        text = shown(line.decode(errors="replace").strip())
        remedy = "" if line.lstrip().startswith(b"{") else "; write other text to stderr"
        raise ProgramError(f"wrote {text} on stdout: {error}{remedy}") from None
    message: Mapping[str, Any] = said
    return message


@cache
def _schema() -> Any:
    return json.loads(SCHEMA_FILE.read_bytes())
