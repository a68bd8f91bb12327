"""The manifest of a set of files: a JSON document, and the names and shapes that follow from it."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from gramstyle.conformance.cases import Answer, Case
from gramstyle.conformance.comparing import TOLERANCES, representable
from gramstyle.conformance.derivatives import Derivatives
from gramstyle.core.arrays import Array
from gramstyle.core.conventions import AUTHOR, PAPER, Convention
from gramstyle.core.network import Convolution, Network
from gramstyle.core.terms import CovarianceTerm, MeanStdTerm, StyleTerm
from gramstyle.errors import ModelError

# An object of the JSON document; the schema says which keys it has.
Entry = Mapping[str, Any]

FORMAT = "gramstyle-conformance/3"
# The version of the numbers, increased whenever a case is added, removed or changed.
VERSION = 7

MANIFEST, SCHEMA = "manifest.json", "manifest.schema.json"

CONVENTIONS: Mapping[str, Convention] = {"paper": PAPER, "author": AUTHOR}

FORMULAS = {
    "input": "v = scale * (x - mean) by channel, in the network's order of channels; x is RGB, "
    "0..255",
    "convolution": "Z = 3x3 cross-correlation of the layer below with W, padded by 1, plus b; "
    "F = max(0, Z)",
    "padding": "zeros where a layer names none; replicate: the nearest position; reflect: the "
    "positions inside the edge, mirrored, without the edge itself; circular: the opposite edge",
    "max, avg": "2x2 pooling with stride 2; an odd last row or column is left out; of equal "
    "largest values the first in reading order takes the whole gradient",
    "content": "L_content = factor / 2 * sum((F - P)^2)",
    "style": "E_l = factor / (4 N^2 M^2) * sum((G - A * M / M_artwork)^2), G = F F^T summed over "
    "the M positions of x, A over the M_artwork positions of the style image",
    "statistic mean-std": "E_l = factor / N * sum((S - A)^2), S = mu and sigma of each filter over "
    "the positions, sigma = sqrt(mean((F - mu)^2) + 1e-5)",
    "statistic covariance": "E_l = factor / (4 N^2) * sum((S - A)^2), S = (F - mu) (F - mu)^T / M",
    "regions": "E_l = sum over the regions of share * m / M * factor / (4 N^2 m^2) * sum((G - A * "
    "m / m_artwork)^2), G = (T F) (T F)^T with T at each position, m = sum(T^2); A and m_artwork "
    "likewise with the guidance of the style image",
    "tv": "L_tv = sum of the squared differences of horizontal and of vertical neighbours in x, "
    "divided by the number of pixels",
    "loss": "loss = alpha * L_content + beta * sum(w_l * E_l) + tv * L_tv",
    "gradient": "d loss / d x; the derivative of the ReLU at 0 is 0",
    "dF": "d loss / d F of a layer: the sum of the gradients from deeper layers and from the "
    "layer's own terms. Compare it only where F > 0: elsewhere the ReLU stops it, and "
    "implementations differ in whether they record it before or after the ReLU",
    "jvp": "the derivative of the loss along tx, that is sum(gradient * tx)",
    "hvp": "the derivative of the gradient along tx: the Hessian of the loss times tx. ReLU and "
    "max pooling have no second derivative",
    "dW, db": "d loss / d W and d loss / d b of a convolution; P and A are constants",
}

ARRAYS = {
    "x": "the image, (3, H, V)",
    "p": "the content image, from which P is computed, (3, H, V)",
    "a": "the style image, from which A is computed, (3, H, V) with its own size",
    "LAYER.W": "weights, (N, C, 3, 3)",
    "LAYER.b": "biases, (N,)",
    "LAYER.P": "the responses of the content layer to p, (N, H, V)",
    "LAYER.A": "the Gram matrix of a style layer for a, (N, N); with another statistic, S: (2, N) "
    "with the rows mu and sigma, or the covariance (N, N)",
    "LAYER.M": "the number of positions over which A is summed, ()",
    "LAYER.T": "the guidance of the R regions of a layer in x, (R, H, V)",
    "LAYER.T_artwork": "their guidance in the style image, (R, h, v)",
    "LAYER.A_regions": "their guided Gram matrices for a, (R, N, N)",
    "LAYER.F": "the responses to x, after the ReLU, (N, H, V)",
    "loss": "the true loss, ()",
    "gradient": "the true gradient, (3, H, V)",
    "LAYER.dF": "the true dF, (N, H, V)",
    "tx": "a direction in the pixels, (3, H, V)",
    "jvp": "the true derivative of the loss along tx, ()",
    "hvp": "the true derivative of the gradient along tx, (3, H, V)",
    "LAYER.dW": "the true derivative of the loss by W, (N, C, 3, 3)",
    "LAYER.db": "the true derivative of the loss by b, (N,)",
}

MEASURE = "|found - truth| / |truth| of the whole array, Euclidean norms"

FLOAT16 = (
    "In float16 images, weights, responses and derivatives are float16; sum Gram matrices, squares "
    "and the loss in float32 or wider. The quantities that a case lists under beyond_float16 have "
    "truths larger than 65504 and are not compared in float16"
)


def manifest(entries: Iterable[Entry]) -> bytes:
    """Return the manifest with the entries of the cases."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        "formulas": FORMULAS,
        "arrays": ARRAYS,
        "tolerances": {"measure": MEASURE, **TOLERANCES},
        "float16": FLOAT16,
        "cases": list(entries),
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def describe(case: Case, truth: Answer) -> dict[str, Any]:
    """Return the entry of a case, without its files.

    Raises
    ------
    ModelError
        If the convention of the case has no name.
    """
    objective, network = case.objective, case.network
    names = [name for name, known in CONVENTIONS.items() if known == case.convention]
    if not names:
        raise ModelError(f"expected a convention with a name in the case {case.name}, found none")
    shapes = network.shapes(*case.x.shape[1:])
    content = None
    if case.content_term is not None:
        layer = case.content_term.layer
        N, H, V = shapes[layer]
        content = {"layer": layer, "factor": float(case.convention.content_factor(N, H * V))}
    style = [
        {
            "layer": name,
            "w": float(term.weight),
            "statistic": case.statistics[name].statistic if name in case.statistics else "gram",
            "factor": float(_factor(term)),
            "N": shapes[name][0],
            "M": shapes[name][1] * shapes[name][2],
            "M_artwork": _artwork_positions(case, name),
        }
        for name, term in case.style_terms.items()
    ]
    regions = [
        {
            "layer": name,
            "w": float(guided.weight),
            "factor": float(case.convention.style_factor),
            "N": shapes[name][0],
            "M": shapes[name][1] * shapes[name][2],
            "shares": list(guided.shares),
            "m": list(guided.m),
            "m_artwork": list(guided.M),
        }
        for name, guided in case.guided_terms.items()
    ]
    return {
        "name": case.name,
        "pins": case.pins,
        "image": list(case.x.shape[1:]),
        "artwork": None if case.a is None else list(case.a.shape[1:]),
        "preprocessing": {
            "channels": objective.preprocessing.channels,
            "mean": [float(value) for value in objective.preprocessing.mean],
            "scale": [float(value) for value in objective.preprocessing.scale],
        },
        "layers": [
            _described(layer)
            if isinstance(layer, Convolution)
            else {"name": layer.name, "kind": layer.kind}
            for layer in network.layers
        ],
        "convention": names[0],
        "alpha": float(case.alpha),
        "beta": float(case.beta),
        "tv": float(case.gamma),
        "content": content,
        "style": style,
        "regions": regions,
        "beyond_float16": _beyond_float16(truth, case.derivatives),
    }


def _described(layer: Convolution) -> dict[str, Any]:
    """Return the entry of a convolution."""
    entry = {"name": layer.name, "kind": "convolution", "filters": len(layer.b)}
    return entry if layer.padding == "zeros" else {**entry, "padding": layer.padding}


def _factor(term: StyleTerm | MeanStdTerm | CovarianceTerm) -> float:
    """Return the factor of E_l: the convention's, or that of another style loss."""
    return term.convention.style_factor if isinstance(term, StyleTerm) else term.factor


def _artwork_positions(case: Case, layer: str) -> int:
    """Return the number of positions of the style image at a layer."""
    assert case.a is not None  # noqa: S101 - a case with a style has a style image
    _, H, V = case.network.shapes(*case.a.shape[1:])[layer]
    return H * V


def _beyond_float16(truth: Answer, more: Derivatives) -> list[str]:
    """Name the compared quantities that float16 cannot represent."""
    quantities = {"loss": np.asarray(truth.loss), "gradient": truth.gradient}
    quantities |= {f"dF of {layer}": dF for layer, dF in truth.dF.items()}
    quantities |= more.quantities()
    return [name for name, values in quantities.items() if not representable(values, "float16")]


def arrays_of(case: Case, truth: Answer, responses: Mapping[str, Array]) -> dict[str, Array]:
    """Return all arrays of a case by the names of `ARRAYS`, in the order of `shapes_of`."""
    images = {"x": case.x, "p": case.p, "a": case.a}
    arrays = {name: array for name, array in images.items() if array is not None}
    for layer in case.network.layers:
        if isinstance(layer, Convolution):
            arrays |= {f"{layer.name}.W": layer.W, f"{layer.name}.b": layer.b}
    if case.content is not None:
        arrays[f"{case.content.layer}.P"] = case.content.P
    for name, term in case.style_terms.items():
        assert term.A is not None  # noqa: S101 - the terms of a case have their targets
        M = _artwork_positions(case, name)
        arrays |= {f"{name}.A": term.A, f"{name}.M": np.asarray(M)}
    for name, guided in case.guided_terms.items():
        assert guided.A is not None  # noqa: S101 - as above
        arrays |= {
            f"{name}.T": np.array([*guided.T]),
            f"{name}.T_artwork": np.asarray(case.guidance[name]),
            f"{name}.A_regions": guided.A,
        }
    arrays |= {f"{name}.F": responses[name] for name in case.network.names}
    arrays |= {"loss": np.asarray(truth.loss), "gradient": truth.gradient}
    arrays |= {f"{name}.dF": truth.dF[name] for name in case.network.names}
    more = case.derivatives
    assert more.hvp is not None  # noqa: S101 - the truth has every derivative
    arrays |= {"tx": case.direction, "jvp": np.asarray(more.jvp), "hvp": more.hvp}
    for name in more.dW:
        arrays |= {f"{name}.dW": more.dW[name], f"{name}.db": more.db[name]}
    return arrays


def shapes_of(entry: Entry, network: Network) -> dict[str, tuple[int, ...]]:
    """Return the shape of each array of a case by its name.

    Parameters
    ----------
    entry
        As `describe` returns it.
    network
        The network of the case; only the shapes of its weights are used.

    Raises
    ------
    ImageError
        If the image is too small for the network.
    """
    height, width = entry["image"]
    responses = network.shapes(height, width)
    shapes: dict[str, tuple[int, ...]] = {"x": (3, height, width)}
    if entry["content"] is not None:
        shapes["p"] = (3, height, width)
    if entry["artwork"] is not None:
        shapes["a"] = (3, *entry["artwork"])
    for layer in network.layers:
        if isinstance(layer, Convolution):
            shapes |= {f"{layer.name}.W": layer.W.shape, f"{layer.name}.b": layer.b.shape}
    if entry["content"] is not None:
        shapes[f"{entry['content']['layer']}.P"] = responses[entry["content"]["layer"]]
    for term in entry["style"]:
        N = responses[term["layer"]][0]
        shape = (2, N) if term["statistic"] == "mean-std" else (N, N)
        shapes |= {f"{term['layer']}.A": shape, f"{term['layer']}.M": ()}
    for term in entry["regions"]:
        name, count = term["layer"], len(term["shares"])
        N, H, V = responses[name]
        artwork = network.shapes(*entry["artwork"])[name][1:]
        shapes |= {
            f"{name}.T": (count, H, V),
            f"{name}.T_artwork": (count, *artwork),
            f"{name}.A_regions": (count, N, N),
        }
    shapes |= {f"{name}.F": shape for name, shape in responses.items()}
    shapes |= {"loss": (), "gradient": (3, height, width)}
    shapes |= {f"{name}.dF": shape for name, shape in responses.items()}
    shapes |= {"tx": (3, height, width), "jvp": (), "hvp": (3, height, width)}
    for layer in reversed(network.layers):  # in the order of the backward pass
        if isinstance(layer, Convolution):
            shapes |= {f"{layer.name}.dW": layer.W.shape, f"{layer.name}.db": layer.b.shape}
    return shapes


def file_names(name: str, layers: int) -> list[str]:
    """Return the paths of a case's files below the folder of the set.

    No path is ever taken from a file.

    Parameters
    ----------
    name
        The name of the case, already checked.
    layers
        The number of layers of the network: each is an output after the loss.
    """
    data = f"{name}/test_data_set_0"
    outputs = [f"{data}/output_{number}.pb" for number in range(layers + 1)]
    return [f"{name}.npz", f"{name}/model.onnx", f"{data}/input_0.pb", *outputs]
