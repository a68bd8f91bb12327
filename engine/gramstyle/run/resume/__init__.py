"""Resume a run: the contents of its checkpoint, the check of them, and of the environment."""

from gramstyle.run.resume.resuming import Resumed, resume

__all__ = ["Resumed", "resume"]
