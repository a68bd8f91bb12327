"""Equation 7 as one ONNX graph that ONNX Runtime runs: the same call as `Objective`."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.core.objective import Evaluation, Objective
from gramstyle.engines.onnx_session import CPU, open_session
from gramstyle.errors import ModelError, NonFiniteError, OptionError
from gramstyle.model.onnx_file.gradient import (
    CONTENT,
    GRADIENT,
    LOSS,
    STYLE,
    Content,
    Size,
    Style,
    objective_model,
    targets_model,
)
from gramstyle.model.onnx_file.graph import IMAGE
from gramstyle.model.precision import Precision

Targets = Literal["stored", "inputs"]


class GraphObjective:
    """An objective as one graph, for images of one size.

    Parameters
    ----------
    objective
        What to compute; its forward and kernels are not used.
    height, width
        Of the image.
    threads
        How many threads run the graph.
    providers
        What computes it, as ONNX Runtime names them, the preferred one first.

    Raises
    ------
    RuntimeMissingError
        If ONNX Runtime is not installed, or twice.
    ModelError
        If ONNX Runtime does not accept the graph.
    ImageError, OptionError
        If the size is too small for the network, or is not that of the photograph.
    """

    def __init__(
        self,
        objective: Objective,
        height: int,
        width: int,
        *,
        threads: int,
        providers: Sequence[Any] = (CPU,),
    ) -> None:
        self._objective = objective
        self._session = open_session(
            objective_graph(objective, (height, width)), threads=threads, providers=providers
        )
        scalars = [each.name for each in self._session.get_outputs() if each.name != GRADIENT]
        self._losses = {name: np.empty((), np.float32) for name in scalars}
        self._x = np.empty((3, height, width), np.float32)
        self._gradient = np.empty_like(self._x)
        # Bound once: every run reads and writes the same arrays.
        self._binding = self._session.io_binding()
        self._binding.bind_input(IMAGE, "cpu", 0, np.float32, (1, *self._x.shape), _at(self._x))
        self._bind(GRADIENT, self._gradient, (1, *self._x.shape))
        for name, array in self._losses.items():
            self._bind(name, array, ())

    def loss_and_gradient(self, x: Array) -> Evaluation:
        """Evaluate equation 7 and its derivative at the pixels x (3, H, W), RGB, 0..255.

        Raises
        ------
        NonFiniteError
            If a loss is NaN or infinite, naming the first layer whose responses are.
        ModelError
            If ONNX Runtime fails, for want of memory for instance.
        """
        np.copyto(self._x, x, casting="same_kind")
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # the runtime's exceptions share no base of its own
            raise ModelError(
                f"ONNX Runtime could not run the objective ({error}); if memory is short, choose "
                "a smaller --size"
            ) from None
        losses = {name: float(array) for name, array in self._losses.items()}
        if not np.isfinite(losses[LOSS]):
            self._objective.loss_and_gradient(x)  # says where
            raise NonFiniteError(
                "the loss is not finite in float32; choose smaller --alpha, --beta or "
                "--style-weights"
            )
        return Evaluation(
            loss=losses[LOSS],
            content=losses.get(CONTENT, 0.0),
            style={name: losses[f"{name}.E"] for name in self._objective.style},
            style_loss=losses.get(STYLE, 0.0),
            gradient=self._gradient.copy(),
        )

    def _bind(self, name: str, array: Array, shape: tuple[int, ...]) -> None:
        self._binding.bind_output(name, "cpu", 0, np.float32, shape, _at(array))


def objective_graph(
    objective: Objective,
    size: Size | None,
    *,
    targets: Targets = "stored",
    precision: Precision = "float32",
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Return an objective as a model file: an image in, the loss and its gradient out.

    Parameters
    ----------
    objective
        Its network, terms, weights and convention; forward and kernels do not matter.
    size
        Height and width of the image, or None for any.
    targets
        "stored": P and A are in the file. "inputs": whoever runs it gives them, as
        `targets_graph` computes them; of the objective's only the layers matter.
    precision
        What to store of each weight.
    metadata
        What the file says of itself.

    Returns
    -------
    bytes
        As `objective_model` describes it.

    Raises
    ------
    OptionError
        If a stored P has another size than the image, or the image any.
    ImageError, ModelError
        If the size is too small for the network, or a weight does not fit the precision.
    """
    network = objective.network.until(objective.layers)
    stored = targets == "stored"
    content = None
    if objective.content is not None:
        layer, P = objective.content.layer, objective.content.P
        if stored and (size is None or network.shapes(*size)[layer] != P.shape):
            raise OptionError(
                "the photograph's responses have one size; give the photograph's --size, or "
                "--targets inputs"
            )
        content = _content_term(objective, layer, P if stored else None)
    style = [
        Style(
            layer=name,
            w=objective.weights.w[name],
            factor=objective.convention.style_factor,
            A=target.A / target.M if stored else None,
        )
        for name, target in objective.style.items()
    ]
    return objective_model(
        network,
        objective.preprocessing,
        size,
        content,
        style,
        alpha=objective.weights.alpha,
        beta=objective.weights.beta,
        precision=precision,
        metadata=metadata,
    )


def targets_graph(
    objective: Objective,
    *,
    precision: Precision = "float32",
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Return the model file that computes what `objective_graph` asks for with "inputs".

    Takes and raises what `objective_graph` does; only the objective's network and layers matter.

    Returns
    -------
    bytes
        As `targets_model` describes it.
    """
    return targets_model(
        objective.network.until(objective.layers),
        objective.preprocessing,
        content=None if objective.content is None else objective.content.layer,
        style=tuple(objective.style),
        precision=precision,
        metadata=metadata,
    )


def _content_term(objective: Objective, layer: str, P: Array | None) -> Content:
    """Return the content's term: a convention's factor is a number, or one over M."""
    factor = objective.convention.content_factor
    # Filters do not depend on the size; any that is large enough for every pooling tells.
    N, _, _ = objective.network.shapes(2**16, 2**16)[layer]
    mean = factor(N, 1) != factor(N, 2)
    return Content(layer=layer, factor=factor(N, 1), mean=mean, P=P)


def _at(array: Array) -> int:
    return int(array.ctypes.data)
