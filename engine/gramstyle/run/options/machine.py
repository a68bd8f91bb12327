"""The options of the machine. They never come from a file, which may be somebody else's."""

from dataclasses import dataclass

from gramstyle.engines.spec import DEVICES, DeviceName
from gramstyle.errors import OptionError
from gramstyle.images import MAX_PIXELS

MACHINE_CHOICES = {"device": DEVICES}


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """The options that choose the machine and limit its use.

    They come from the command line or from the caller, never from a file: a jobs file or a
    checkpoint may come from somebody else.

    Attributes
    ----------
    device
        Where the engine runs: "cpu", or "cuda" on an NVIDIA GPU.
    threads
        How many processor cores to use; None uses all that the machine or the container has.
    memory
        The memory budget of the run, in bytes or as text like ``"2GB"``; None is three quarters of
        what the machine or the container has.
    scheduler
        The address of a Dask scheduler whose workers compute the tiles. With "tls://" it is used
        with the certificates of Dask's configuration (docs/scaling.md).
    workers
        The number of Dask workers to start on this machine, instead of a scheduler's address.
    max_pixels
        Images with more pixels are refused before they are decoded.

    Examples
    --------
    >>> from gramstyle import Options
    >>> Options(memory="2GB", threads=2).memory
    2000000000
    """

    device: DeviceName = "cpu"
    threads: int | None = None
    memory: int | None = None
    scheduler: str | None = None
    workers: int | None = None
    max_pixels: int = MAX_PIXELS

    @property
    def on_cluster(self) -> bool:
        """Whether a cluster computes the tiles."""
        return self.scheduler is not None or self.workers is not None


def check_machine(options: MachineOptions) -> None:
    """Check the options of the machine; raises OptionError."""
    if options.scheduler is not None and options.workers is not None:
        raise OptionError("a scheduler has its own workers; give scheduler or workers, not both")
