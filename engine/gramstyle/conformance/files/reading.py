"""Read a set of cases, which is untrusted input.

No path is ever taken from a file: paths follow from the names of the cases, which consist of a few
plain characters. The manifest limits how many bytes of a file are read, and the schema limits the
manifest. The arrays in a file follow from the manifest, not from the file.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gramstyle.conformance.cases import Answer, Case
from gramstyle.conformance.derivatives import Derivatives
from gramstyle.conformance.files.archive import unpack
from gramstyle.conformance.files.manifest import (
    CONVENTIONS,
    FORMAT,
    MANIFEST,
    Entry,
    describe,
    file_names,
    shapes_of,
)
from gramstyle.conformance.files.schema import check, read_json
from gramstyle.core.arrays import Array
from gramstyle.core.network import Convolution, Layer, Network, Pool
from gramstyle.core.objective import Objective
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.core.terms import CovarianceTerm, GuidedStyleTerm, MeanStdTerm, Term, loss_terms
from gramstyle.errors import GramstyleError, ImageError, ModelError
from gramstyle.model.messages import with_remedy

SCHEMA_FILE = Path(__file__).with_name("manifest.schema.json")
# The set that comes with the package.
PUBLISHED = Path(__file__).parent.parent / "published"

MAX_MANIFEST = 4 * 1024 * 1024


def read_published() -> tuple[Case, ...]:
    """Return the cases that were published with this version of the package."""
    return read_cases(PUBLISHED)


def read_cases(folder: Path) -> tuple[Case, ...]:
    """Return the cases of a set that was written by `write_cases`.

    Truth and responses are those of the files.

    Raises
    ------
    ModelError
        If there is no set in the folder, or anything in it is not as its manifest says.
    """
    try:
        return tuple(_case(folder, entry) for entry in read_manifest(folder))
    except GramstyleError as error:
        reason = with_remedy(str(error), "build the set again, or get a fresh copy")
        raise ModelError(f"the cases in {folder} are refused: {reason}") from None


def read_manifest(folder: Path) -> list[Entry]:
    """Return the entries of the manifest in a folder; errors as for `read_entries`."""
    return read_entries(_read(folder / MANIFEST, MAX_MANIFEST))


def read_entries(data: bytes) -> list[Entry]:
    """Return the entries of a manifest, each checked on its own.

    Raises
    ------
    ModelError
        If the manifest is not as the schema says, contains a case twice, or the files of a case
        are not those that follow from its name.
    """
    document = read_json(data)
    if isinstance(document, dict):
        _check_format(document.get("format"))
    check(document, _schema())
    entries: list[Entry] = document["cases"]
    names = [entry["name"] for entry in entries]
    if len(set(names)) < len(names):
        raise ModelError("expected every case once, found one twice")
    for entry in entries:
        if list(entry["files"]) != file_names(entry["name"], len(entry["layers"])):
            raise ModelError(f"expected the files of {entry['name']} under its name, found others")
    return entries


def _check_format(found: Any) -> None:
    """Refuse the format of another version of gramstyle."""
    name, _, number = FORMAT.partition("/")
    other = re.fullmatch(rf"{name}/([0-9]{{1,9}})", found) if isinstance(found, str) else None
    if other is not None and found != FORMAT:
        newer = int(other[1]) > int(number)
        remedy = "update gramstyle" if newer else "build the set again with this gramstyle"
        raise ModelError(f"expected the format {FORMAT}, found {found}; {remedy}")


@cache
def _schema() -> Any:
    return json.loads(SCHEMA_FILE.read_bytes())


def _case(folder: Path, entry: Entry) -> Case:
    try:
        return _read_case(folder, entry)
    except ImageError:
        raise ModelError(
            f"case {entry['name']}: expected images as large as the poolings need, found smaller "
            "ones"
        ) from None
    except GramstyleError as error:
        raise ModelError(f"case {entry['name']}: {error}") from None


def _read_case(folder: Path, entry: Entry) -> Case:
    chain = _chain(entry)
    shapes = shapes_of(entry, chain)
    if entry["artwork"] is not None:
        chain.shapes(*entry["artwork"])  # raises if it is too small
    arrays: Mapping[str, Array] = {}
    for name, file in entry["files"].items():
        data = _read(folder / name, file["bytes"])
        if len(data) != file["bytes"] or hashlib.sha256(data).hexdigest() != file["sha256"]:
            raise ModelError(f"expected {name} as the manifest describes it, found another file")
        if name == f"{entry['name']}.npz":
            arrays = unpack(data, shapes)
    return _assembled(entry, chain, arrays)


def _chain(entry: Entry) -> Network:
    """Return the network with zeros for weights, which take no memory."""
    layers: list[Layer] = []
    channels = 3
    for place, layer in enumerate(entry["layers"]):
        if layer["kind"] != "convolution":
            layers.append(Pool(layer["name"], layer["kind"]))
        elif "filters" in layer:
            W = np.broadcast_to(np.zeros(()), (layer["filters"], channels, 3, 3))
            padding = layer.get("padding", "zeros")
            layers.append(Convolution(layer["name"], W, W[:, 0, 0, 0], padding))
            channels = layer["filters"]
        else:
            raise ModelError(f"expected the filters of {layer['name']}, found none")
        if place == 0 and not isinstance(layers[0], Convolution):
            raise ModelError("expected a convolution as the first layer, found a pooling")
    network = Network(tuple(layers))
    if len(set(network.names)) < len(layers):
        raise ModelError("expected every layer once, found one twice")
    style = [term["layer"] for term in (*entry["style"], *entry["regions"])]
    if entry["style"] and entry["regions"]:
        raise ModelError("expected a style with regions or without them, found both")
    content = [] if entry["content"] is None else [entry["content"]["layer"]]
    if len(set(style)) < len(style) or bool(style) != (entry["artwork"] is not None):
        raise ModelError("expected each style layer once, and an artwork if there is a style layer")
    if not content + style or network.until(content + style) != network:
        raise ModelError("expected a loss term at the last layer, found none")
    return network


def _assembled(entry: Entry, chain: Network, arrays: Mapping[str, Array]) -> Case:
    """Return the case, after checking that its own entry would be this one."""
    network = Network(
        tuple(
            replace(layer, W=arrays[f"{layer.name}.W"], b=arrays[f"{layer.name}.b"])
            if isinstance(layer, Convolution)
            else layer
            for layer in chain.layers
        )
    )
    case = Case(
        name=entry["name"],
        pins=entry["pins"],
        objective=Objective(
            network=network,
            preprocessing=Preprocessing(
                channels=entry["preprocessing"]["channels"],
                mean=tuple(entry["preprocessing"]["mean"]),
                scale=tuple(entry["preprocessing"]["scale"]),
            ),
            terms=_terms(entry, chain, arrays),
            weights={"content": entry["alpha"], "style": entry["beta"], "tv": entry["tv"]},
        ),
        x=arrays["x"],
        p=arrays.get("p"),
        a=arrays.get("a"),
        guidance={term["layer"]: arrays[f"{term['layer']}.T_artwork"] for term in entry["regions"]},
    )
    truth = Answer(
        loss=float(arrays["loss"]),
        gradient=arrays["gradient"],
        # In the order of the backward pass, like the dF of `answer`.
        dF={name: arrays[f"{name}.dF"] for name in reversed(network.names)},
    )
    convolutions = [each.name for each in reversed(network.layers) if isinstance(each, Convolution)]
    more = Derivatives(
        dW={name: arrays[f"{name}.dW"] for name in convolutions},
        db={name: arrays[f"{name}.db"] for name in convolutions},
        jvp=float(arrays["jvp"]),
        hvp=arrays["hvp"],
    )
    # `cached_property` stores its value here; a copy made by `replace` computes its own.
    vars(case)["derivatives"] = more
    if not np.array_equal(arrays["tx"], case.direction):
        raise ModelError("expected the direction that follows from the name of the case")
    if describe(case, truth) != {key: value for key, value in entry.items() if key != "files"}:
        raise ModelError("expected an entry that follows from the arrays, found another")
    vars(case).update(truth=truth, responses={n: arrays[f"{n}.F"] for n in network.names})
    return case


def _terms(entry: Entry, chain: Network, arrays: Mapping[str, Array]) -> tuple[Term, ...]:
    """Return the terms with their targets."""
    content = {} if entry["content"] is None else {entry["content"]["layer"]: 1.0}
    if entry["regions"]:
        return _terms_of_regions(entry, content, arrays)
    statistics = {term["statistic"] for term in entry["style"]} or {"gram"}
    if len(statistics) > 1:
        raise ModelError("expected one statistic for all style layers, found several")
    (statistic,) = statistics
    terms = loss_terms(
        content=content,
        style={term["layer"]: term["w"] for term in entry["style"]},
        tv=entry["tv"] > 0,
        convention=CONVENTIONS[entry["convention"]],
        style_loss=statistic,
        style_factor=entry["style"][0]["factor"] if entry["style"] else 1.0,
    )
    targets = {"content": "P", "style": "A"}
    compared = []
    for term in terms:
        M = 0
        if term.reference == "style":
            _, H, V = chain.shapes(*entry["artwork"])[term.layer]
            M = H * V
            if arrays[f"{term.layer}.M"] != M:
                found = arrays[f"{term.layer}.M"]
                raise ModelError(f"expected M = {M} at {term.layer}, found {found}")
        if term.reference is not None:
            target = arrays[f"{term.layer}.{targets[term.reference]}"]
            if isinstance(term, MeanStdTerm | CovarianceTerm):  # the statistic, not its sums
                term = replace(term, A=target)
            else:
                term = term.compared_with(target, M)
        compared.append(term)
    return tuple(compared)


def _terms_of_regions(
    entry: Entry, content: Mapping[str, float], arrays: Mapping[str, Array]
) -> tuple[Term, ...]:
    """Return the terms of a case whose style has regions, with their targets and guidance."""
    shares = {tuple(term["shares"]) for term in entry["regions"]}
    if len(shares) > 1:
        raise ModelError("expected the same shares of regions at all layers, found others")
    terms = loss_terms(
        content=content,
        style={term["layer"]: term["w"] for term in entry["regions"]},
        tv=entry["tv"] > 0,
        convention=CONVENTIONS[entry["convention"]],
        regions=shares.pop(),
    )
    result: list[Term] = []
    for term in terms:
        if isinstance(term, GuidedStyleTerm):
            x, artwork = (arrays[f"{term.layer}.{name}"] for name in ("T", "T_artwork"))
            for T in (*x, *artwork):
                if not (T.any() and T.min() >= 0 and T.max() <= 1):
                    raise ModelError(f"expected guidance from 0 to 1 at {term.layer}, found other")
            term = term.guided_by(list(artwork))
            term = term.compared_with(arrays[f"{term.layer}.A_regions"], 0).guided_by(list(x))
        elif term.reference is not None:
            term = term.compared_with(arrays[f"{term.layer}.P"], 0)
        result.append(term)
    return tuple(result)


def _read(path: Path, limit: int) -> bytes:
    """Return the contents of a file of at most `limit` bytes."""
    try:
        if not path.is_file():
            raise ModelError(f"expected a file {path.name}, found none")
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise ModelError(f"expected to read {path.name}, found: {error.strerror}") from None
    if len(data) > limit:
        raise ModelError(f"expected at most {limit} bytes in {path.name}, found more")
    return data
