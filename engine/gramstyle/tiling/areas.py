"""The positions that a tile owns at each layer, and the window of pixels that they depend on."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from gramstyle.core.evaluation import Size, sizes_of
from gramstyle.core.kernels import Area
from gramstyle.core.network import Convolution, Network, Pool
from gramstyle.core.term import PIXELS
from gramstyle.core.wrapping import check_wraps, is_circular
from gramstyle.errors import OptionError


@dataclass(frozen=True)
class Tile:
    """A part of an image.

    Attributes
    ----------
    index
        Its place in the order of the tiles, row by row.
    core
        The rows and columns of pixels that belong to it and to no other tile.
    window
        The core, and the pixels around it that the responses at its positions depend on. With
        circular padding, rows below 0 and from the height on are those of the opposite edge
        (`windows.cut`), and so are columns.
    owned
        The rows and columns that belong to it: by layer, within the responses to the window, and
        for `PIXELS`, within the window.
    places
        The same rows and columns by layer, within the responses to the whole image.
    """

    index: int
    core: Area
    window: Area
    owned: dict[str, Area]
    places: dict[str, Area]


@dataclass(frozen=True)
class Tiling:
    """The tiles of an image for one network.

    In a network of 3×3 convolutions and 2×2 poolings, each position depends on a square of pixels.
    Each convolution extends this square on every side by its layer's stride. A window extends that
    far beyond its core. Therefore the responses at the core's positions, and their derivatives by
    the pixels, are those of the whole image: padding affects them only at the image's edges. With
    circular padding, windows continue at the opposite edge.

    Cores and windows begin on multiples of the deepest layer's stride, so that their 2×2 poolings
    are those of the whole image.

    Attributes
    ----------
    network
        The network, up to the deepest layer that a loss term uses.
    height, width
        The size of the image, in pixels.
    edge
        The maximum edge of a core, in pixels.

    Raises
    ------
    ImageError
        If the image is too small for the network; with circular padding, if it does not wrap.
    OptionError
        If the edge is shorter than the deepest layer's stride.
    """

    network: Network
    height: int
    width: int
    edge: int

    def __post_init__(self) -> None:
        """Check the size of the image and the edge; raises ImageError or OptionError."""
        self.network.shapes(self.height, self.width)
        if is_circular(self.network):
            check_wraps(self.network, self.height, self.width)
        if self.edge < self.stride:
            raise OptionError(
                f"tiles of {self.edge} pixels are too small for layer "
                f"{self.network.names[-1]}, whose stride is {self.stride} pixels; "
                f"choose at least {self.stride}"
            )

    @property
    def stride(self) -> int:
        """The stride of the deepest layer: how many pixels apart its positions are."""
        return stride_of(self.network)

    @property
    def halo(self) -> int:
        """How many pixels a window extends beyond its core."""
        return halo_of(self.network)

    def __len__(self) -> int:
        """Return the number of tiles."""
        return (len(self._edges(self.height)) - 1) * (len(self._edges(self.width)) - 1)

    def __iter__(self) -> Iterator[Tile]:
        """Iterate over the tiles row by row."""
        index = 0
        for rows in self._cores(self.height):
            for columns in self._cores(self.width):
                yield self._tile(index, (rows, columns))
                index += 1

    def __getitem__(self, index: int) -> Tile:
        """Return a tile by its index."""
        down, across = divmod(index, len(self._edges(self.width)) - 1)
        return self._tile(index, (self._cores(self.height)[down], self._cores(self.width)[across]))

    def sizes(self) -> dict[str, Size]:
        """Return N and M of the whole image, by layer and for the pixels."""
        return sizes_of(self.network, self.height, self.width)

    def largest_window(self) -> tuple[int, int]:
        """Return the maximum height and the maximum width of the windows, in pixels."""
        height, width = (
            max(_length(self._window(core, length)) for core in self._cores(length))
            for length in (self.height, self.width)
        )
        return height, width

    def window_pixels(self) -> int:
        """Return the total number of pixels of all windows."""
        down, across = (
            sum(_length(self._window(core, length)) for core in self._cores(length))
            for length in (self.height, self.width)
        )
        return down * across

    def _tile(self, index: int, core: Area) -> Tile:
        window = (self._window(core[0], self.height), self._window(core[1], self.width))
        owned: dict[str, Area] = {PIXELS: (_moved(core[0], window[0]), _moved(core[1], window[1]))}
        places: dict[str, Area] = {}
        strides = strides_of(self.network)
        for name, (_, h, v) in self.network.shapes(self.height, self.width).items():
            stride = strides[name]
            owned[name] = (
                _owned(core[0], window[0], stride, self.height, h),
                _owned(core[1], window[1], stride, self.width, v),
            )
            rows, columns = owned[name]
            places[name] = (
                _shifted(rows, window[0].start // stride),
                _shifted(columns, window[1].start // stride),
            )
        return Tile(index, core, window, owned, places)

    def _edges(self, length: int) -> list[int]:
        """Return where cores begin along an edge of the image, and where the last one ends."""
        count = -(-length // self.edge)
        inner = [i * length // count // self.stride * self.stride for i in range(1, count)]
        return [*sorted({0, *inner}), length]

    def _cores(self, length: int) -> list[slice]:
        edges = self._edges(length)
        return [slice(a, b) for a, b in pairwise(edges)]

    def _window(self, core: slice, length: int) -> slice:
        start = core.start - self.halo
        stop = -(-core.stop // self.stride) * self.stride + self.halo
        if not is_circular(self.network):
            return slice(max(start, 0), min(stop, length))
        # A window of the whole edge needs no halo: the engine's padding wraps.
        return slice(start, stop) if stop - start < length else slice(0, length)


def _moved(core: slice, window: slice) -> slice:
    """Return a core's rows or columns, counted from the start of its window."""
    return slice(core.start - window.start, core.stop - window.start)


def _shifted(span: slice, by: int) -> slice:
    return slice(span.start + by, span.stop + by)


def _length(span: slice) -> int:
    return int(span.stop) - int(span.start)


def strides_of(network: Network) -> dict[str, int]:
    """Return how many pixels apart the positions of each layer are."""
    strides: dict[str, int] = {}
    stride = 1
    for layer in network.layers:
        stride *= 2 if isinstance(layer, Pool) else 1
        strides[layer.name] = stride
    return strides


def stride_of(network: Network) -> int:
    """Return how many pixels apart the positions of the deepest layer are."""
    return max(strides_of(network).values())


def halo_of(network: Network) -> int:
    """Return how many pixels a window extends beyond its core: the reach, in whole strides."""
    stride = stride_of(network)
    return -(-reach(network) // stride) * stride


def reach(network: Network) -> int:
    """Return how many pixels beyond its own square a position of the deepest layer depends on."""
    total, stride = 0, 1
    for layer in network.layers:
        if isinstance(layer, Convolution):
            total += stride
        else:
            stride *= 2
    return total


def _owned(core: slice, window: slice, stride: int, length: int, positions: int) -> slice:
    """Return which positions of a window belong to its core, along one edge.

    The last core takes the positions that are left. A core shorter than a stride may have none.
    """
    first = window.start // stride
    last = positions if core.stop == length else core.stop // stride
    return slice(core.start // stride - first, last - first)
