"""manifest.json: the current state file and the caller's description of the run."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gramstyle.run.checkpoint.problems import COPY_AGAIN, OTHER_FOLDER, START_AGAIN, refuse, shown

# Version 3 can have several style images; otherwise it is version 2, which is read too.
FORMAT, VERSION, READABLE = "gramstyle checkpoint", 3, (2, 3)
NAME = "manifest.json"
STATE = re.compile(r"state-[0-9]{6,9}(-[0-9]{1,9})?\.npz")
KEYS = frozenset({"format", "version", "state", "sha256", "bytes", "run"})

MAX_BYTES, MAX_ITERATION = 1_000_000, 10**9 - 1


@dataclass(frozen=True)
class Manifest:
    """The contents of manifest.json.

    Attributes
    ----------
    state, sha256, bytes
        The name of the state file in the same folder, its hash and its size.
    run
        The caller's description of the run, including "iteration".
    """

    state: str
    sha256: str
    bytes: int
    run: Mapping[str, Any]

    @property
    def iteration(self) -> int:
        """The iteration of the checkpoint."""
        return int(self.run["iteration"])


def plain(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return a caller's description of a run in the form in which it will be read.

    Raises
    ------
    TypeError, ValueError
        If it is not JSON, has two keys that are equal as text, or lacks its iteration.
    """
    text = json.dumps(dict(run), allow_nan=False)
    result: dict[str, Any] = json.loads(text, object_pairs_hook=_unique_keys)
    if not _is_integer(result.get("iteration"), MAX_ITERATION):
        raise ValueError(f"iteration is not an integer from 0 to {MAX_ITERATION}")
    return result


def encoded(manifest: Manifest) -> bytes:
    """Return the bytes of manifest.json.

    Raises
    ------
    ValueError
        If they are too many to be read.
    """
    document: dict[str, Any] = {"format": FORMAT, "version": VERSION, **vars(manifest)}
    data = json.dumps({**document, "checksum": _checksum(document)}, indent=2).encode() + b"\n"
    if len(data) > MAX_BYTES:
        raise ValueError(f"the manifest takes {len(data):,} bytes; {MAX_BYTES:,} are allowed")
    return data


def decoded(data: bytes) -> Manifest:
    """Parse and check the bytes of manifest.json.

    Raises
    ------
    RefusedError
        If gramstyle did not write it, it has a newer version, or it is damaged.
    """
    if len(data) > MAX_BYTES:
        refuse(f"{NAME} is larger than any that gramstyle writes; {OTHER_FOLDER}")
    try:
        document = json.loads(data.decode(), object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError):  # also a number of thousands of digits, or deep nesting
        refuse(f"{NAME} is damaged, or not of gramstyle: it is not plain JSON; {COPY_AGAIN}")
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        refuse(f"{NAME} is not of gramstyle; {OTHER_FOLDER}")
    version = document.get("version")
    if isinstance(version, int) and version > VERSION:
        refuse(
            f"it was made by a newer gramstyle: it has version {shown(version)}, and this "
            f"gramstyle reads versions up to {VERSION}; resume it with the newer one"
        )
    if version == 1:
        refuse(
            "it was made by an earlier gramstyle (version 1, which names files outside its "
            f"folder); resume it with that one, or {START_AGAIN}"
        )
    checksum = document.pop("checksum", None)
    try:
        intact = checksum == _checksum(document)
    except (ValueError, RecursionError):  # NaN or an infinite number
        intact = False
    if not intact:
        refuse(f"{NAME} is damaged: its checksum is wrong; {COPY_AGAIN}")
    # The checksum is right, so only a deliberate change can fail the following checks.
    if document.keys() != KEYS or version not in READABLE:
        refuse(f"{NAME} does not have the expected entries; {START_AGAIN}")
    state, sha256, run = document["state"], document["sha256"], document["run"]
    if not isinstance(state, str) or not STATE.fullmatch(state):
        refuse(f"{NAME} names {shown(state)}, which is not a state file; {START_AGAIN}")
    if not isinstance(sha256, str) or not _is_integer(document["bytes"], 2**63 - 1):
        refuse(f"{NAME} lacks the size and the hash of its state; {START_AGAIN}")
    if not isinstance(run, dict) or not _is_integer(run.get("iteration"), MAX_ITERATION):
        refuse(f"{NAME} lacks its iteration; {START_AGAIN}")
    return Manifest(state, sha256, document["bytes"], run)


def _checksum(document: Mapping[str, Any]) -> str:
    """Return a hash of a document's values, independent of its formatting."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice")
    return result


def _is_integer(value: object, largest: int) -> bool:
    # In Python, JSON's true and false are integers too.
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= largest
