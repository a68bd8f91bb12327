"""Which positions a tile owns at each layer, and the window of pixels that decides them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from gramstyle.core.kernels import Area
from gramstyle.core.network import Convolution, Network, Pool
from gramstyle.errors import OptionError


@dataclass(frozen=True)
class Tile:
    """A part of an image.

    Attributes
    ----------
    index
        Its place in the order of the tiles, row by row.
    core
        The pixels that belong to it and to no other tile.
    window
        The core and all around it that responses at its positions depend on.
    owned
        By layer, the rows and columns within the window's responses that belong to it.
    """

    index: int
    core: Area
    window: Area
    owned: dict[str, Area]


@dataclass(frozen=True)
class Tiling:
    """An image's tiles for one network.

    A network of 3×3 convolutions and 2×2 poolings sees from each position of its deepest layer a
    square of pixels: each convolution reaches one position further, which is as many pixels as the
    poolings below it have made of one. Within a window that is that much larger than its core the
    responses at the core's positions are those of the whole image, as are their derivatives by
    the pixels; zeros stand around a window only where it ends with the image.

    Cores and windows begin on multiples of the deepest layer's stride, so that the poolings' 2×2
    windows are the whole image's.

    Attributes
    ----------
    network
        Up to the deepest layer that a loss term looks at.
    height, width
        Of the image, in pixels.
    edge
        How long the edges of a core are at most, in pixels.

    Raises
    ------
    ImageError
        If the image is too small for the network.
    OptionError
        If the edge is shorter than the deepest layer's stride.
    """

    network: Network
    height: int
    width: int
    edge: int

    def __post_init__(self) -> None:
        """Check that there is a position for every tile."""
        self.network.shapes(self.height, self.width)
        if self.edge < self.stride:
            raise OptionError(
                f"tiles of {self.edge} pixels are too small for layer "
                f"{self.network.names[-1]}, which makes one position of {self.stride}; "
                f"choose at least {self.stride}"
            )

    @property
    def stride(self) -> int:
        """How many pixels along an edge the deepest layer makes one position of."""
        return max(self._strides().values())

    @property
    def halo(self) -> int:
        """How far a window reaches beyond its core: the network's reach, on whole strides."""
        return -(-reach(self.network) // self.stride) * self.stride

    def __len__(self) -> int:
        """How many tiles there are."""
        return (len(self._edges(self.height)) - 1) * (len(self._edges(self.width)) - 1)

    def __iter__(self) -> Iterator[Tile]:
        """Go through the tiles row by row."""
        index = 0
        for rows in self._cores(self.height):
            for columns in self._cores(self.width):
                yield self._tile(index, (rows, columns))
                index += 1

    def __getitem__(self, index: int) -> Tile:
        """Return a tile by its index."""
        down, across = divmod(index, len(self._edges(self.width)) - 1)
        return self._tile(index, (self._cores(self.height)[down], self._cores(self.width)[across]))

    def positions(self) -> dict[str, int]:
        """Return M of the whole image by layer."""
        shapes = self.network.shapes(self.height, self.width)
        return {name: h * v for name, (_, h, v) in shapes.items()}

    def largest_window(self) -> tuple[int, int]:
        """Return the height and the width that no window exceeds."""
        height, width = (
            max(_length(self._window(core, length)) for core in self._cores(length))
            for length in (self.height, self.width)
        )
        return height, width

    def window_pixels(self) -> int:
        """Return how many pixels all windows have together."""
        down, across = (
            sum(_length(self._window(core, length)) for core in self._cores(length))
            for length in (self.height, self.width)
        )
        return down * across

    def _tile(self, index: int, core: Area) -> Tile:
        window = (self._window(core[0], self.height), self._window(core[1], self.width))
        owned: dict[str, Area] = {}
        for name, (_, h, v) in self.network.shapes(self.height, self.width).items():
            stride = self._strides()[name]
            owned[name] = (
                _owned(core[0], window[0], stride, self.height, h),
                _owned(core[1], window[1], stride, self.width, v),
            )
        return Tile(index, core, window, owned)

    def _edges(self, length: int) -> list[int]:
        """Return where cores begin along an edge of the image, and where the last one ends."""
        count = -(-length // self.edge)
        inner = [i * length // count // self.stride * self.stride for i in range(1, count)]
        return [*sorted({0, *inner}), length]

    def _cores(self, length: int) -> list[slice]:
        edges = self._edges(length)
        return [slice(a, b) for a, b in pairwise(edges)]

    def _window(self, core: slice, length: int) -> slice:
        stop = -(-core.stop // self.stride) * self.stride + self.halo
        return slice(max(core.start - self.halo, 0), min(stop, length))

    def _strides(self) -> dict[str, int]:
        strides: dict[str, int] = {}
        stride = 1
        for layer in self.network.layers:
            stride *= 2 if isinstance(layer, Pool) else 1
            strides[layer.name] = stride
        return strides


def _length(span: slice) -> int:
    return int(span.stop) - int(span.start)


def reach(network: Network) -> int:
    """Return how far, in pixels, a position of the deepest layer sees beyond its own square."""
    total, stride = 0, 1
    for layer in network.layers:
        if isinstance(layer, Convolution):
            total += stride
        else:
            stride *= 2
    return total


def _owned(core: slice, window: slice, stride: int, length: int, positions: int) -> slice:
    """Return along one edge which positions of a window belong to its core.

    The last core takes what is left, which may be less than a stride, and then no position.
    """
    first = window.start // stride
    last = positions if core.stop == length else core.stop // stride
    return slice(core.start // stride - first, last - first)
