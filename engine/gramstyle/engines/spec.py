"""The description of an evaluation, from which every kind of objective is built."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gramstyle.core.kernels import Pooling
from gramstyle.core.layers import Padding
from gramstyle.core.network import Network
from gramstyle.core.terms import Term, layers_of
from gramstyle.model import Model
from gramstyle.system.machine import available_threads

DeviceName = Literal["cpu", "cuda"]
DEVICES: tuple[DeviceName, ...] = ("cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class ObjectiveSpec:
    """Everything that an evaluation depends on, except the images: small, immutable, picklable.

    Attributes
    ----------
    model
        The SHA-256 of the model file.
    pooling
        The kind of every pooling in the network.
    padding
        How the input of every convolution is padded.
    terms
        The terms of the loss, without targets.
    weights
        The weights of equation 7, by the losses' names.
    height, width
        The size of the generated image, in pixels.
    engine
        The engine's name in the registry.
    device, tf32
        Where the engine runs, and whether products may be rounded to TF32 there.
    threads
        How many threads the engine uses; None uses all that the process may use.
    edge
        The edge of the tiles, in pixels; None computes the image whole.
    spill_memory
        How many bytes of the results of pass 1 stay in memory for pass 2; the rest is in a file.
    """

    model: str
    pooling: Pooling
    terms: tuple[Term, ...]
    weights: Mapping[str, float]
    height: int
    width: int
    engine: str
    device: DeviceName = "cpu"
    tf32: bool = False
    threads: int | None = None
    edge: int | None = None
    spill_memory: int = 0
    padding: Padding = "zeros"

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that the terms use."""
        return layers_of(self.terms)

    @property
    def thread_count(self) -> int:
        """How many threads the engine uses in this process."""
        return self.threads or available_threads()

    def network(self, model: Model) -> Network:
        """Return the network up to the deepest layer in use, with this pooling and padding."""
        network = model.network.until(self.layers)
        return network.pooled_by(self.pooling).padded_by(self.padding)
