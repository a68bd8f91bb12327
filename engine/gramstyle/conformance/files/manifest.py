"""What a set of files says of itself: one JSON document, and what follows from it."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from gramstyle.conformance.cases import Answer, Case
from gramstyle.conformance.comparing import TOLERANCES, held
from gramstyle.core.arrays import Array
from gramstyle.core.conventions import AUTHOR, PAPER, Convention
from gramstyle.core.network import Convolution, Network
from gramstyle.errors import ModelError

# What a part of the JSON document is in Python; the schema says which parts there are.
Entry = Mapping[str, Any]

FORMAT = "gramstyle-conformance/1"
# Of the numbers: another one whenever a case comes, goes or changes.
VERSION = 1

MANIFEST, SCHEMA = "manifest.json", "manifest.schema.json"

CONVENTIONS: Mapping[str, Convention] = {"paper": PAPER, "author": AUTHOR}

FORMULAS = {
    "input": "v = scale * (x - mean) by channel, in the network's order of channels; x is RGB, "
    "0..255",
    "convolution": "Z = 3x3 cross-correlation of the layer below with W, zero padding of 1, plus "
    "b; F = max(0, Z)",
    "max, avg": "2x2 pooling with stride 2; an odd last row or column is left out; of equal "
    "largest values the first in reading order takes the whole gradient",
    "content": "L_content = factor / 2 * sum((F - P)^2)",
    "style": "E_l = factor / (4 N^2 M^2) * sum((G - A * M / M_artwork)^2), G = F F^T summed over "
    "the M positions of x, A over the M_artwork positions of the artwork",
    "loss": "loss = alpha * L_content + beta * sum(w_l * E_l)",
    "gradient": "d loss / d x; the derivative of the ReLU at 0 is 0",
    "dF": "d loss / d F of a layer: what the layers above and the layer's own terms ask for, "
    "added up. Compare it only where F > 0: elsewhere the ReLU stops it, and some count it before "
    "and some behind",
}

ARRAYS = {
    "x": "the image, (3, H, V)",
    "p": "the photograph that P is of, (3, H, V)",
    "a": "the artwork that A is of, (3, H, V) with its own size",
    "LAYER.W": "weights, (N, C, 3, 3)",
    "LAYER.b": "biases, (N,)",
    "LAYER.P": "the photograph's responses at the content layer, (N, H, V)",
    "LAYER.A": "the artwork's Gram matrix at a style layer, (N, N)",
    "LAYER.M": "the number of positions that A was summed over, ()",
    "LAYER.F": "the responses at x, behind the ReLU, (N, H, V)",
    "loss": "the truth, ()",
    "gradient": "the truth, (3, H, V)",
    "LAYER.dF": "the truth, (N, H, V)",
}

MEASURE = "|found - truth| / |truth| of the whole array, Euclidean norms"

FLOAT16 = (
    "In float16 images, weights, responses and derivatives are float16; Gram matrices and sums "
    "of squares are to be summed in float32 or wider, and so is the loss. What a case lists under "
    "beyond_float16 has truths larger than 65504 and is not asked for in float16"
)


def manifest(entries: Iterable[Entry]) -> bytes:
    """Return the document around the cases' entries."""
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
    """Return all of a case's entry but its files.

    Raises
    ------
    ModelError
        If the case's convention is none of those that have a name.
    """
    objective, network = case.objective, case.network
    names = [name for name, known in CONVENTIONS.items() if known == objective.convention]
    if not names:
        raise ModelError(f"expected a convention with a name in the case {case.name}, found none")
    shapes = network.shapes(*case.x.shape[1:])
    content = None
    if objective.content is not None:
        N, H, V = shapes[objective.content.layer]
        factor = objective.convention.content_factor(N, H * V)
        content = {"layer": objective.content.layer, "factor": float(factor)}
    style = [
        {
            "layer": name,
            "w": float(objective.weights.w[name]),
            "factor": float(objective.convention.style_factor),
            "N": shapes[name][0],
            "M": shapes[name][1] * shapes[name][2],
            "M_artwork": target.M,
        }
        for name, target in objective.style.items()
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
            {"name": layer.name, "kind": "convolution", "filters": len(layer.b)}
            if isinstance(layer, Convolution)
            else {"name": layer.name, "kind": layer.kind}
            for layer in network.layers
        ],
        "convention": names[0],
        "alpha": float(objective.weights.alpha),
        "beta": float(objective.weights.beta),
        "content": content,
        "style": style,
        "beyond_float16": _beyond_float16(truth),
    }


def _beyond_float16(truth: Answer) -> list[str]:
    """Name what `comparing` compares and float16 cannot hold."""
    quantities = {"loss": np.asarray(truth.loss), "gradient": truth.gradient}
    quantities |= {f"dF of {layer}": dF for layer, dF in truth.dF.items()}
    return [name for name, values in quantities.items() if not held(values, "float16")]


def arrays_of(case: Case, truth: Answer, responses: Mapping[str, Array]) -> dict[str, Array]:
    """Return everything of a case by the names of `ARRAYS`, in the order of `shapes_of`."""
    images = {"x": case.x, "p": case.p, "a": case.a}
    arrays = {name: array for name, array in images.items() if array is not None}
    for layer in case.network.layers:
        if isinstance(layer, Convolution):
            arrays |= {f"{layer.name}.W": layer.W, f"{layer.name}.b": layer.b}
    if case.objective.content is not None:
        arrays[f"{case.objective.content.layer}.P"] = case.objective.content.P
    for name, target in case.objective.style.items():
        arrays |= {f"{name}.A": target.A, f"{name}.M": np.asarray(target.M)}
    arrays |= {f"{name}.F": responses[name] for name in case.network.names}
    arrays |= {"loss": np.asarray(truth.loss), "gradient": truth.gradient}
    return arrays | {f"{name}.dF": truth.dF[name] for name in case.network.names}


def shapes_of(entry: Entry, network: Network) -> dict[str, tuple[int, ...]]:
    """Return the shape of each array that a case's entry promises.

    Parameters
    ----------
    entry
        As `describe` gives it.
    network
        With its layers; of its weights only the shapes are looked at.

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
        shapes |= {f"{term['layer']}.A": (N, N), f"{term['layer']}.M": ()}
    shapes |= {f"{name}.F": shape for name, shape in responses.items()}
    shapes |= {"loss": (), "gradient": (3, height, width)}
    return shapes | {f"{name}.dF": shape for name, shape in responses.items()}


def file_names(name: str, layers: int) -> list[str]:
    """Return a case's files, as paths below the set's folder: all that ever leads to a file.

    Parameters
    ----------
    name
        The case's, checked.
    layers
        How many layers the network has: each has an output behind the loss.
    """
    data = f"{name}/test_data_set_0"
    outputs = [f"{data}/output_{number}.pb" for number in range(layers + 1)]
    return [f"{name}.npz", f"{name}/model.onnx", f"{data}/input_0.pb", *outputs]
