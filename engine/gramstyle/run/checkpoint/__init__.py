"""Checkpoints: the state of a run in a folder, complete after a kill, a full disk or a power cut.

manifest.json contains the name, size and hash of a state file, and the caller's description of
the run. The state file has NumPy's .npz layout without pickles. It is on disk before the manifest
is replaced by one that names it, and the previous state file is removed only after that. The
manifest therefore always names a complete file. A run owns its folder from beginning to end, so
that no other run saves to it. The folder also holds copies of the images that the run reads.

A checkpoint is untrusted input. Nothing outside its folder is read, size and hash are checked
before the contents are parsed, every entry is checked, and the arrays must be exactly those that
the caller expects.
"""

from gramstyle.run.checkpoint.archive import Expected
from gramstyle.run.checkpoint.entries import Entries
from gramstyle.run.checkpoint.inputs import copy_inputs, input_in, remove_inputs
from gramstyle.run.checkpoint.loading import Checkpoint, OpenCheckpoint, load, opened, read_manifest
from gramstyle.run.checkpoint.problems import START_AGAIN, CheckpointError, naming_folder, refuse
from gramstyle.run.checkpoint.saving import check_folder, is_file_of, owned, save

__all__ = [
    "START_AGAIN",
    "Checkpoint",
    "CheckpointError",
    "Entries",
    "Expected",
    "OpenCheckpoint",
    "check_folder",
    "copy_inputs",
    "input_in",
    "is_file_of",
    "load",
    "naming_folder",
    "opened",
    "owned",
    "read_manifest",
    "refuse",
    "remove_inputs",
    "save",
]
