"""The cases as ONNX graphs: to the loss alone, and with the gradient as ONNX's backend tests."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gramstyle.conformance.cases import Case
from gramstyle.conformance.files.folder import check_replaceable, replace_folder, resolved
from gramstyle.core.arrays import Array
from gramstyle.core.network import Convolution
from gramstyle.core.terms import StyleTerm
from gramstyle.model.onnx_file.derivatives import derivatives_model
from gramstyle.model.onnx_file.loss import (
    IMAGE,
    LOSS,
    ContentNodes,
    RegionNodes,
    StatisticNodes,
    StyleNodes,
    loss_model,
    tensor_file,
)
from gramstyle.model.onnx_file.objective import GRADIENT

# What a folder of graphs consists of.
PATHS = re.compile(
    r"[a-z][a-z0-9-]*(/model\.onnx|/test_data_set_0(/(input_0|output_[0-9]+)\.pb)?)?"
)


def write_graphs(folder: Path, cases: Sequence[Case]) -> int:
    """Write each case as a graph with its input and its true outputs; return the bytes written.

    The outputs are the loss, the gradient, and the derivatives at each layer from the deepest one
    on, as `derivatives_model` describes them. Everything is in float32.

    Raises
    ------
    OptionError
        If the folder exists and contains anything else than such graphs.
    ModelError
        If the folder cannot be written.
    """
    folder = resolved(folder)
    check_replaceable(folder, lambda path: bool(PATHS.fullmatch(path)), "graphs of cases")
    files: dict[str, bytes] = {}
    for case in cases:
        data = f"{case.name}/test_data_set_0"
        files[f"{case.name}/model.onnx"] = gradient_graph(case)
        files[f"{data}/input_0.pb"] = tensor_file(IMAGE, case.x[None])
        for number, (name, array) in enumerate(true_outputs(case).items()):
            files[f"{data}/output_{number}.pb"] = tensor_file(name, array)
    replace_folder(folder, files)
    return sum(map(len, files.values()))


def true_outputs(case: Case) -> dict[str, Array]:
    """Return the truth of every output of a case's graph by its name, in float64."""
    truth = {LOSS: np.asarray(case.truth.loss), GRADIENT: case.truth.gradient[None]}
    for layer in reversed(case.layers):
        dF = case.truth.dF[layer.name][None]
        if isinstance(layer, Convolution):
            truth[f"{layer.name}.dZ"] = np.where(case.responses[layer.name][None] > 0, dF, 0)
        else:
            truth[f"{layer.name}.dF"] = dF
    return truth


def gradient_graph(case: Case) -> bytes:
    """Return a case as an ONNX model from the image to the outputs of `true_outputs`."""
    objective, size = case.objective, case.x.shape[1:]
    return derivatives_model(
        case.network, case.preprocessing, size, objective.terms, objective.weights
    )


def loss_graph(case: Case) -> bytes:
    """Return a case as an ONNX model from the image to the loss and the responses.

    The factors of its terms include all weights.
    """
    shapes = case.network.shapes(*case.x.shape[1:])
    content = None
    if case.content is not None:
        content = ContentNodes(case.content.layer, case.content.P, case.content.factor)
    style: list[StyleNodes | StatisticNodes] = [
        StatisticNodes(name, each.statistic, each.A, each.factor)
        for name, each in case.statistics.items()
    ]
    for name, term in case.style_terms.items():
        if not isinstance(term, StyleTerm):
            continue
        assert term.A is not None  # noqa: S101 - the terms of a case have their targets
        N, H, V = shapes[name]
        factor = case.beta * term.weight * term.convention.style_factor
        M = H * V
        style.append(StyleNodes(name, term.A, M / term.M, factor / (4 * N**2 * M**2)))
    regions = [
        RegionNodes(name, region.T, float(np.sum(region.T**2)), region.A, region.factor)
        for name, of_layer in case.regions.items()
        for region in of_layer
    ]
    size = case.x.shape[1:]
    return loss_model(
        case.network, case.preprocessing, size, content, style, regions=regions, tv=case.tv
    )
