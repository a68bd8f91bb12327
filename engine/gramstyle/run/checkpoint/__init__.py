"""The state of a run in a folder, whole at every moment: a kill, a full disk, a power cut.

manifest.json names a state file, its size and its hash, and holds what the caller says of the
run. The state file, a .npz of NumPy's layout without pickles, is on the disk before the manifest
is replaced by one that names it, and what the old one named goes after that. So the manifest
names a whole file whenever a process ends. One run at a time may save into a folder.

A checkpoint may come from anywhere, so it is taken for hostile: no path is taken from it, size
and hash are held against the file before anything in it is looked at, and the arrays are those
that the caller expects or none.
"""

from gramstyle.run.checkpoint.archive import Expected
from gramstyle.run.checkpoint.loading import Checkpoint, Opened, load, opened, read_manifest
from gramstyle.run.checkpoint.problems import CheckpointError
from gramstyle.run.checkpoint.saving import check_folder, save

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "Expected",
    "Opened",
    "check_folder",
    "load",
    "opened",
    "read_manifest",
    "save",
]
