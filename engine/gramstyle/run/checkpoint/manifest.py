"""manifest.json: which state file is the good one, and what the caller says of the run."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gramstyle.run.checkpoint.problems import AGAIN, COPY, ELSEWHERE, refuse, shown

FORMAT, VERSION = "gramstyle checkpoint", 1
NAME = "manifest.json"
STATE = re.compile(r"state-[0-9]{6,9}(-[0-9]{1,9})?\.npz")
KEYS = frozenset({"format", "version", "state", "sha256", "bytes", "run"})

MAX_BYTES, MAX_ITERATION = 1_000_000, 10**9 - 1


@dataclass(frozen=True)
class Manifest:
    """What manifest.json says.

    Attributes
    ----------
    state, sha256, bytes
        The name of the state file in the same folder, its hash and its size.
    run
        What the caller says, "iteration" among it.
    """

    state: str
    sha256: str
    bytes: int
    run: Mapping[str, Any]

    @property
    def iteration(self) -> int:
        """At which iteration it was saved."""
        return int(self.run["iteration"])


def plain(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a caller says of a run as it will be read back.

    Raises
    ------
    TypeError, ValueError
        If it is not JSON, has a key twice once keys are text, or lacks its iteration.
    """
    text = json.dumps(dict(run), allow_nan=False)
    result: dict[str, Any] = json.loads(text, object_pairs_hook=_once_each)
    if not _is_whole(result.get("iteration"), MAX_ITERATION):
        raise ValueError(f"iteration is no whole number from 0 to {MAX_ITERATION}")
    return result


def encoded(manifest: Manifest) -> bytes:
    """Return the bytes of manifest.json.

    Raises
    ------
    ValueError
        If they are too many to be read back.
    """
    document: dict[str, Any] = {"format": FORMAT, "version": VERSION, **vars(manifest)}
    data = json.dumps({**document, "checksum": _checksum(document)}, indent=2).encode() + b"\n"
    if len(data) > MAX_BYTES:
        raise ValueError(f"the manifest takes {len(data):,} bytes; {MAX_BYTES:,} are allowed")
    return data


def decoded(data: bytes) -> Manifest:
    """Return what manifest.json says, once it says it as it was written.

    Raises
    ------
    RefusedError
        If it is not ours, of a newer version, or not as it was written.
    """
    if len(data) > MAX_BYTES:
        refuse(f"{NAME} is larger than any of ours; {ELSEWHERE}")
    try:
        document = json.loads(data.decode(), object_pairs_hook=_once_each)
    except (ValueError, RecursionError):  # or a number of thousands of digits, or of brackets
        refuse(f"{NAME} is damaged, or none of ours: it is not plain JSON; {COPY}")
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        refuse(f"{NAME} is none of ours; {ELSEWHERE}")
    version = document.get("version")
    if isinstance(version, int) and version > VERSION:
        refuse(
            f"it was made by a newer gramstyle: it is of version {shown(version)}, and this one "
            f"reads version {VERSION}; resume it with that one"
        )
    checksum = document.pop("checksum", None)
    try:
        whole = checksum == _checksum(document)
    except (ValueError, RecursionError):  # NaN or an infinite number
        whole = False
    if not whole:
        refuse(f"{NAME} is damaged: it is not as it was written; {COPY}")
    # What follows only somebody can get wrong who makes a checksum too.
    if document.keys() != KEYS or version != VERSION:
        refuse(f"{NAME} does not hold what it should; {AGAIN}")
    state, sha256, run = document["state"], document["sha256"], document["run"]
    if not isinstance(state, str) or not STATE.fullmatch(state):
        refuse(f"{NAME} names {shown(state)}, which is no state of ours; {AGAIN}")
    if not isinstance(sha256, str) or not _is_whole(document["bytes"], 2**63 - 1):
        refuse(f"{NAME} does not tell the size and the hash of its state; {AGAIN}")
    if not isinstance(run, dict) or not _is_whole(run.get("iteration"), MAX_ITERATION):
        refuse(f"{NAME} does not tell its iteration; {AGAIN}")
    return Manifest(state, sha256, document["bytes"], run)


def _checksum(document: Mapping[str, Any]) -> str:
    """Return a hash over what a document says, however it is spelt."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key is there twice")
    return result


def _is_whole(value: object, largest: int) -> bool:
    # JSON's true and false are numbers to Python.
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= largest
