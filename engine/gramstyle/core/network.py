"""The network: a list of named layers, its forward pass, its backward pass, and its jvp."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gramstyle.core import layers
from gramstyle.core.arrays import Array, namespace
from gramstyle.core.kernels import Kernels, PlainKernels, Pooling
from gramstyle.core.layers import Padding
from gramstyle.errors import ImageError, OptionError, suggestion

# The responses of one image by layer name, each (N, H, V), after the ReLU.
Responses = Mapping[str, Array]

# add_seed(name, dF): dF plus the derivative of the loss terms at this layer.
AddSeed = Callable[[str, Array | None], Array]


@dataclass(frozen=True)
class Convolution:
    """A 3×3 convolution and its ReLU: W (N, C, 3, 3), b (N,), its input padded by one position.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.network import Convolution
    >>> layer = Convolution("conv1_1", W=np.zeros((64, 3, 3, 3)), b=np.zeros(64))
    >>> layer.name
    'conv1_1'
    """

    name: str
    W: Array
    b: Array
    padding: Padding = "zeros"


@dataclass(frozen=True)
class Pool:
    """A 2×2 pooling with stride 2.

    Examples
    --------
    >>> from gramstyle.core.network import Pool
    >>> Pool("pool1", "max")
    Pool(name='pool1', kind='max')
    """

    name: str
    kind: Pooling


Layer = Convolution | Pool


@dataclass(frozen=True, eq=False)
class WeightGradients:
    """The derivatives of a loss by the weights of a network, which `Network.backward` fills in.

    Attributes
    ----------
    v
        The input of the network, which the first layer reads, (3, H, V).
    dW, db
        By the name of the convolution, the derivative by W (N, C, 3, 3) and by b (N,).

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.network import Convolution, Network, WeightGradients
    >>> network = Network((Convolution("conv1_1", np.ones((4, 3, 3, 3)), np.ones(4)),))
    >>> weights = WeightGradients(v=np.ones((3, 5, 6)))
    >>> F = network.forward(weights.v)
    >>> dv = network.backward(F, lambda name, dF: F[name], weights=weights)
    >>> weights.dW["conv1_1"].shape, weights.db["conv1_1"].shape
    ((4, 3, 3, 3), (4,))
    """

    v: Array
    dW: dict[str, Array] = field(default_factory=dict)
    db: dict[str, Array] = field(default_factory=dict)

    def add(self, layer: Convolution, dF: Array, F: Array, X: Array) -> None:
        """Add the derivatives of one convolution with the input X and the responses F."""
        dZ = layers.relu_backward(dF, F)
        dW, db = layers.conv2d_weights_backward(dZ, X, layer.padding)
        self.dW[layer.name], self.db[layer.name] = dW, db


@dataclass(frozen=True)
class Network:
    """A plain chain of 3×3 convolutions (each with its ReLU) and 2×2 poolings.

    Parameters
    ----------
    layers
        From the image upwards. Weights may have any float type; both passes compute in it.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.network import Convolution, Network, Pool
    >>> rng = np.random.default_rng(0)
    >>> conv1_1 = Convolution("conv1_1", rng.normal(size=(4, 3, 3, 3)), np.zeros(4))
    >>> conv2_1 = Convolution("conv2_1", rng.normal(size=(8, 4, 3, 3)), np.zeros(8))
    >>> network = Network((conv1_1, Pool("pool1", "avg"), conv2_1))
    >>> network.shapes(height=10, width=6)
    {'conv1_1': (4, 10, 6), 'pool1': (4, 5, 3), 'conv2_1': (8, 5, 3)}
    >>> F = network.forward(rng.normal(size=(3, 10, 6)))
    >>> [F_l.shape for F_l in F.values()]
    [(4, 10, 6), (4, 5, 3), (8, 5, 3)]
    >>> dv = network.backward(F, lambda name, dF: F[name] if name == "conv2_1" else dF)
    >>> dv.shape  # the derivative of ½ Σ F² at conv2_1 by the input
    (3, 10, 6)
    """

    layers: tuple[Layer, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The layers' names from the image upwards."""
        return tuple(layer.name for layer in self.layers)

    def until(self, names: Iterable[str]) -> "Network":
        """Return the network up to the deepest of `names`, without layers if there is none.

        Raises
        ------
        OptionError
            If a name is not a layer of this network.
        """
        wanted = tuple(names)
        for name in wanted:
            if name not in self.names:
                near, all_names = suggestion(name, self.names), ", ".join(self.names)
                known = f"{near} The" if near else "; the"
                raise OptionError(f"unknown layer {name!r}{known} network's layers are {all_names}")
        deepest = max((self.names.index(name) for name in wanted), default=-1)
        return Network(self.layers[: deepest + 1])

    def pooled_by(self, kind: Pooling) -> "Network":
        """Return the same network with every pooling of this kind."""
        return Network(
            tuple(
                replace(layer, kind=kind) if isinstance(layer, Pool) else layer
                for layer in self.layers
            )
        )

    def padded_by(self, padding: Padding) -> "Network":
        """Return the same network with every convolution's input padded in this way."""
        return Network(
            tuple(
                replace(layer, padding=padding) if isinstance(layer, Convolution) else layer
                for layer in self.layers
            )
        )

    def astype(self, dtype: Any) -> "Network":
        """Return the same network with its weights in another float type."""
        return Network(
            tuple(
                replace(layer, W=layer.W.astype(dtype), b=layer.b.astype(dtype))
                if isinstance(layer, Convolution)
                else layer
                for layer in self.layers
            )
        )

    def shapes(self, height: int, width: int) -> dict[str, tuple[int, int, int]]:
        """Return the shape (N, H, V) of every layer's responses to an image of this size.

        Raises
        ------
        ImageError
            If the image is so small that a pooling has no window, or the padding "reflect" no
            second position to repeat.
        """
        result: dict[str, tuple[int, int, int]] = {}
        channels, h, v = 3, height, width
        for layer in self.layers:
            if isinstance(layer, Convolution):
                channels = layer.W.shape[0]
            else:
                h, v = h // 2, v // 2
            if min(h, v) < _fewest(layer):
                raise ImageError(
                    f"an image of {width}×{height} pixels is too small for layer "
                    f"{self.layers[-1].name}: both edges must be at least {self._smallest()} "
                    "pixels; give a larger image or a larger --size"
                )
            result[layer.name] = (channels, h, v)
        return result

    def _smallest(self) -> int:
        """Return the length, in pixels, of the shortest edge that `shapes` accepts."""
        fewest = 1
        for layer in reversed(self.layers):
            fewest = max(_fewest(layer), fewest * (2 if isinstance(layer, Pool) else 1))
        return fewest

    def operations(self, height: int, width: int) -> dict[str, int]:
        """Return how many floating-point operations each layer takes in one direction.

        Multiplications, additions and divisions count, as `layers` does them. The forward pass and
        the backward pass take equally many:

        - A convolution takes 2 · 9 · N · C · M, half of them multiplications. Each of its N · M
          sums starts at its bias and adds 9 · C products; backward each of the C · M sums starts
          at 0 and adds 9 · N. Products with the padding count too.
        - An average pooling takes 4 for each window: three additions and a division, backward
          a division for each of the four positions.
        - A ReLU and a max pooling only compare: 0.

        Raises
        ------
        ImageError
            If the image is so small that a pooling has no window.
        """
        result: dict[str, int] = {}
        for layer, (N, H, V) in zip(self.layers, self.shapes(height, width).values(), strict=True):
            if isinstance(layer, Convolution):
                result[layer.name] = 2 * 9 * N * int(layer.W.shape[1]) * H * V
            else:
                result[layer.name] = 4 * N * H * V if layer.kind == "avg" else 0
        return result

    def forward(self, v: Array) -> dict[str, Array]:
        """Return the responses of every layer to the input v (3, H, V), in v's float type."""
        responses: dict[str, Array] = {}
        F = v
        for layer in self.layers:
            if isinstance(layer, Convolution):
                F = layers.relu_forward(layers.conv2d_forward(F, layer.W, layer.b, layer.padding))
            elif layer.kind == "max":
                F = layers.max_pool_forward(F)
            else:
                F = layers.avg_pool_forward(F)
            responses[layer.name] = F
        return responses

    def jvp(self, responses: Responses, tv: Array) -> dict[str, Array]:
        """Return the tangent of every layer's responses, from that of the input: forward mode.

        Parameters
        ----------
        responses
            Of every layer, from `forward`.
        tv
            The tangent of the network's input, (3, H, V).
        """
        tangents: dict[str, Array] = {}
        tF = tv
        name_below: str | None = None
        for layer in self.layers:
            if isinstance(layer, Convolution):
                tZ = layers.conv2d_jvp(tF, layer.W, layer.padding)
                tF = layers.relu_jvp(tZ, responses[layer.name])
            elif layer.kind == "max":
                assert name_below is not None  # noqa: S101 - a network starts with a convolution
                tF = layers.max_pool_jvp(tF, responses[name_below])
            else:
                tF = layers.avg_pool_jvp(tF)
            tangents[layer.name] = tF
            name_below = layer.name
        return tangents

    def choices(self, responses: Responses) -> dict[str, Array]:
        """Return the choices of the network for one image, by layer.

        As long as no choice changes, the responses are an affine function of the input. A change is
        a kink, and a difference across a kink is not a derivative.

        Parameters
        ----------
        responses
            Of every layer, from `forward`.

        Returns
        -------
        dict
            For a convolution, which of its ReLUs are open: F > 0, bool, (N, H, V). For a max
            pooling, which of each window's four is the largest: 0 to 3 in reading order, the
            first of several, (C, H // 2, V // 2). An average pooling chooses nothing.
        """
        result: dict[str, Array] = {}
        for name_below, layer in zip((None, *self.names[:-1]), self.layers, strict=True):
            if isinstance(layer, Convolution):
                result[layer.name] = responses[layer.name] > 0
            elif layer.kind == "max":
                assert name_below is not None  # noqa: S101 - a network starts with a convolution
                X = responses[name_below]
                xp = namespace(X)
                members = xp.stack([X[window] for window in layers.windows(X)])
                result[layer.name] = xp.argmax(members, axis=0)
        return result

    def backward(
        self,
        responses: Responses,
        add_seed: AddSeed,
        *,
        kernels: Kernels | None = None,
        weights: WeightGradients | None = None,
    ) -> Array:
        """Carry the derivatives by the responses down to the network's input: the backward pass.

        It goes through the layers of `forward` in reverse. At each layer it adds the derivative of
        the loss terms there, then carries the sum through the layer.

        Parameters
        ----------
        responses
            From `forward`, or from another forward pass of the same network.
        add_seed
            ``add_seed(name, dF)`` returns dF plus the derivative of the loss terms at layer
            `name`. dF is None at the deepest layer, which must have a term. It may work in place.
        kernels
            How to compute the steps; plainly by default. Some kernels write over responses that
            the pass has released: then `responses` cannot be used again.
        weights
            Where to store the derivatives by the weights and biases; by default the pass does not
            compute them.

        Returns
        -------
        dv
            The derivative of the loss by the network's input, shape (3, H, V).
        """
        step = PlainKernels() if kernels is None else kernels
        below = (None, *self.names[:-1])
        dF: Array | None = None
        try:
            for layer, name_below in zip(reversed(self.layers), reversed(below), strict=True):
                F = responses[layer.name]
                dF = add_seed(layer.name, dF)
                if isinstance(layer, Convolution):
                    if weights is not None:
                        X = weights.v if name_below is None else responses[name_below]
                        weights.add(layer, dF, F, X)
                    dF = step.convolution_backward(dF, F, layer.W, layer.padding)
                else:
                    assert name_below is not None  # noqa: S101 - a network starts with a convolution
                    dF = step.pool_backward(dF, responses[name_below], layer.kind)
                step.release(F)
        finally:
            step.backward_ends()
        assert dF is not None  # noqa: S101 - a network has at least one layer
        return dF


def _fewest(layer: Layer) -> int:
    """Return how many positions a layer's responses must have along each edge."""
    return 2 if isinstance(layer, Convolution) and layer.padding == "reflect" else 1
