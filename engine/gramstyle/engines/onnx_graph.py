"""Equation 7 as one ONNX graph that ONNX Runtime runs, with the interface of `Objective`."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.core.evaluation import Evaluation
from gramstyle.core.objective import Objective
from gramstyle.core.term import GuidedTerm
from gramstyle.core.terms import ContentTerm, without_targets
from gramstyle.engines.onnx_session import CPU, open_session
from gramstyle.errors import ModelError, NonFiniteError, OptionError
from gramstyle.model.onnx_file.graph import IMAGE
from gramstyle.model.onnx_file.objective import (
    GRADIENT,
    LOSS,
    objective_model,
    targets_model,
)
from gramstyle.model.onnx_file.objective_parts import Size, Weights
from gramstyle.model.onnx_file.terms import value_names
from gramstyle.model.precision import Precision

Targets = Literal["stored", "inputs"]


class GraphObjective:
    """An objective as one graph, for images of one size.

    Parameters
    ----------
    objective
        The objective; its forward and kernels are not used.
    height, width
        The size of the image, in pixels.
    threads
        How many threads run the graph.
    providers
        ONNX Runtime's execution providers, the preferred one first.

    Raises
    ------
    RuntimeMissingError
        If ONNX Runtime is not installed, or is installed twice.
    ModelError
        If ONNX Runtime does not accept the graph.
    ImageError, OptionError
        If the size is too small for the network, or is not the content image's.
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
            If the loss is NaN or infinite; names the first layer whose responses are.
        ModelError
            If ONNX Runtime fails, for example for lack of memory.
        """
        np.copyto(self._x, x, casting="same_kind")
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise ModelError(
                f"ONNX Runtime could not run the objective ({error}); if memory is short, choose "
                "a smaller --size"
            ) from None
        losses = {name: float(array) for name, array in self._losses.items()}
        if not np.isfinite(losses[LOSS]):
            self._objective.loss_and_gradient(x)  # names the layer
            raise NonFiniteError(
                "the loss is not finite in float32; choose smaller --alpha, --beta or "
                "--style-weights"
            )
        names = dict.fromkeys(term.name for term in self._objective.terms)
        return Evaluation(
            loss=losses[LOSS],
            terms={name: losses[name] for name in names},
            layers={name: self._by_layer(name, losses) for name in names},
            gradient=self._gradient.copy(),
        )

    def _by_layer(self, name: str, losses: Mapping[str, float]) -> dict[str, float]:
        """Return the values of the terms of one loss, by layer."""
        terms = [term for term in self._objective.terms if term.name == name]
        pairs = zip(terms, value_names(terms), strict=True)
        return {term.layer: losses[value] for term, value in pairs}

    def _bind(self, name: str, array: Array, shape: tuple[int, ...]) -> None:
        self._binding.bind_output(name, "cpu", 0, np.float32, shape, _at(array))


def objective_graph(
    objective: Objective,
    size: Size | None,
    *,
    targets: Targets = "stored",
    precision: Precision = "float32",
    metadata: Mapping[str, str] | None = None,
    weights_as: Weights = "defaults",
) -> bytes:
    """Return an ONNX file that computes an objective's loss and gradient from an image.

    Parameters
    ----------
    objective
        The objective; its forward and kernels are not used.
    size
        Height and width of the image in pixels; None for any size.
    targets
        "stored": the file contains P and A. "inputs": P and A are inputs of the graph, which
        `targets_graph` computes; the objective's terms then need no targets.
    precision
        The precision in which the network's weights are stored.
    metadata
        The metadata of the file.
    weights_as
        "defaults": the weights are inputs with defaults. "inputs": those of equation 7 are inputs
        without defaults, and those of the layers are constants. "constants": no weight is an input.

    Returns
    -------
    bytes
        The file that `objective_model` describes.

    Raises
    ------
    OptionError
        If P is stored and the image has another size, or may have any size.
    ImageError, ModelError
        If the size is too small for the network, or a weight does not fit the precision.
    """
    network = objective.network.until(objective.layers)
    if targets == "stored":
        for term in objective.terms:
            P = term.P if isinstance(term, ContentTerm) else None
            if P is not None and (size is None or network.shapes(*size)[term.layer] != P.shape):
                raise OptionError(
                    "the content image's responses have one size; give the content image's --size, "
                    "or --targets inputs"
                )
    for term in objective.terms:
        if isinstance(term, GuidedTerm):
            _check_guidance(term, None if size is None else network.shapes(*size), targets)
    terms = objective.terms if targets == "stored" else without_targets(objective.terms)
    return objective_model(
        network,
        objective.preprocessing,
        size,
        terms,
        objective.weights,
        precision=precision,
        metadata=metadata,
        weights_as=weights_as,
    )


def targets_graph(
    objective: Objective,
    *,
    precision: Precision = "float32",
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Return an ONNX file that computes the targets that an `objective_graph` has as inputs.

    Parameters
    ----------
    objective
        The objective; only its network, its preprocessing and its terms' layers are used.
    precision, metadata
        As for `objective_graph`.

    Returns
    -------
    bytes
        The file that `targets_model` describes.
    """
    return targets_model(
        objective.network.until(objective.layers),
        objective.preprocessing,
        objective.terms,
        precision=precision,
        metadata=metadata,
    )


def _check_guidance(
    term: GuidedTerm, shapes: Mapping[str, tuple[int, int, int]] | None, targets: Targets
) -> None:
    """Refuse a graph that cannot contain the guidance of a term."""
    if targets != "stored":
        raise OptionError("the regions of a style are stored in a graph; take --targets stored")
    if shapes is None or any(T is None or T.shape != shapes[term.layer][1:] for T in term.T):
        raise OptionError("the masks of regions have one size; give the content image's --size")


def _at(array: Array) -> int:
    return int(array.ctypes.data)
