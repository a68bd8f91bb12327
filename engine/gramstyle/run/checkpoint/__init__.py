"""Checkpoints: the state of a run in a folder, complete after a kill, a full disk or a power cut.

manifest.json contains the name, size and hash of a state file, and the caller's description of
the run. The state file has NumPy's .npz layout without pickles. It is on disk before the manifest
is replaced by one that names it, and the previous state file is removed only after that. The
manifest therefore always names a complete file. Only one run at a time may save to a folder.

A checkpoint may come from anywhere, so it is treated as hostile: no path is taken from it, size
and hash are checked before its contents are parsed, and its arrays must be exactly those that
the caller expects.
"""

from gramstyle.run.checkpoint.archive import Expected
from gramstyle.run.checkpoint.loading import Checkpoint, OpenCheckpoint, load, opened, read_manifest
from gramstyle.run.checkpoint.problems import CheckpointError
from gramstyle.run.checkpoint.saving import check_folder, save

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "Expected",
    "OpenCheckpoint",
    "check_folder",
    "load",
    "opened",
    "read_manifest",
    "save",
]
