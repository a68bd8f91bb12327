"""The forward pass in CuPy, which needs neither ONNX Runtime nor cuDNN."""

from gramstyle.core.arrays import Array, namespace
from gramstyle.core.network import Convolution, Network, Responses
from gramstyle.engines.cuda.products import Buffers, channels_first, convolve, positions_first
from gramstyle.engines.cuda.steps import steps, windows
from gramstyle.errors import ModelError


class ForwardPass:
    """A network on a GPU: called with an input v (3, H, V), it returns the responses.

    The pass owns the returned arrays and overwrites them in the next call. They have the shape
    (N, H, V); in memory, the channels of a position lie next to each other.

    Parameters
    ----------
    network
        The network, with its weights on the GPU. The pass computes in their float type.
    buffers
        The arrays of the engine.
    """

    def __init__(self, network: Network, buffers: Buffers | None = None) -> None:
        self._network = network
        self._buffers = Buffers() if buffers is None else buffers
        self._taps = {
            layer.name: (taps_of(layer.W), namespace(layer.b).ascontiguousarray(layer.b))
            for layer in network.layers
            if isinstance(layer, Convolution)
        }

    def __call__(self, v: Array) -> Responses:
        """Return the responses (N, h, v) of every layer to the input v (3, H, V).

        Raises
        ------
        ImageError
            If the image is too small for the network.
        ModelError
            If the GPU's memory is too small.
        """
        try:
            return self._run(v)
        except MemoryError as error:  # CuPy's own exception is one
            raise ModelError(
                f"the GPU's memory is too small for an image of {v.shape[2]}×{v.shape[1]} pixels "
                f"({error}); choose a smaller --size, or tiles with --tile"
            ) from None

    def _run(self, v: Array) -> Responses:
        _, H, V = v.shape
        shapes = self._network.shapes(H, V)
        weights, _ = next(iter(self._taps.values()))
        xp = namespace(weights)
        X = self._buffers("input", (H, V, 3), weights)
        X[...] = positions_first(xp.asarray(v))
        responses: dict[str, Array] = {}
        for layer in self._network.layers:
            N, h, w = shapes[layer.name]
            F = self._buffers(f"responses of {layer.name}", (h, w, N), weights)
            if isinstance(layer, Convolution):
                taps, b = self._taps[layer.name]
                convolve(X, taps, F, self._buffers, layer.padding)
                steps(xp).relu(b, F)
            else:
                pool = steps(xp).largest if layer.kind == "max" else steps(xp).mean
                pool(*windows(X), F)
            responses[layer.name] = channels_first(F)
            X = F
        return responses


def taps_of(W: Array) -> Array:
    """Return kernels W (N, C, 3, 3) as the matrix (9 C, N) of `products.convolve`."""
    N, C = W.shape[:2]
    matrix: Array = namespace(W).ascontiguousarray(W.transpose(2, 3, 1, 0).reshape(9 * C, N))
    return matrix
