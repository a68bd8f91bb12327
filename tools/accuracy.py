"""Measure the float32 errors of the engines against float64, layer by layer, on the real network.

    python tools/accuracy.py CONTENT STYLE [--size 256] [--iterations 100]

Forward: the relative L2 error of every layer's responses. Backward: that of dF at every layer, for
one random derivative at the deepest layer. Here all engines get the same ReLU masks and argmaxes;
with their own, the few that rounding flips would dominate the error. Then the error of the
objective's gradient with each engine's own responses, and an image rendered with each engine.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.core.kernels import PlainKernels
from gramstyle.core.network import Network
from gramstyle.core.terms import ContentTerm
from gramstyle.engines.onnx_session import Session
from gramstyle.engines.registry import ENGINES
from gramstyle.engines.strips import StripKernels
from gramstyle.engines.threads import Workers
from gramstyle.engines.winograd.layout import channels_last
from gramstyle.engines.winograd.passes import WinogradPasses
from gramstyle.model import locate_model, read_model
from gramstyle.run.options import Options
from gramstyle.run.prepare import prepare
from gramstyle.run.transfer import transfer

THREADS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("content", type=Path)
    parser.add_argument("style", type=Path)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--iterations", type=int, default=100)
    arguments = parser.parse_args()
    options = Options(
        size=arguments.size, scales=1, threads=THREADS, engine="numpy", pooling="max",
        padding="zeros",
    )  # fmt: skip
    with prepare(arguments.content, arguments.style, options) as prepared:
        objective, x = prepared.objective, prepared.start
    model = read_model(locate_model())
    x = np.clip(x + np.random.default_rng(0).normal(0, 8, x.shape), 0, 255)
    network = objective.network
    exact = network.astype(np.float64)
    v = model.preprocessing.forward(x)
    truth = exact.forward(v)

    session = Session(model.runnable(objective.layers, "max"), network.shapes, threads=THREADS)
    passes = WinogradPasses(network, network.names, workers=Workers(THREADS))
    forward = {"numpy": session(v), "winograd": passes.forward(v)}
    print("forward: relative error of F\n")
    table({name: {n: error(F[n], truth[n]) for n in truth} for name, F in forward.items()})

    seed = np.random.default_rng(1).normal(size=truth[network.names[-1]].shape)
    expected = derivatives(exact, truth, seed)
    responses = {name: F.astype(np.float32) for name, F in truth.items()}
    found = {
        "numpy": derivatives(
            network, {n: F.copy() for n, F in responses.items()}, seed, strips=True
        ),
        "winograd": winograd_derivatives(passes, responses, seed),
    }
    print("\nbackward: relative error of dF where F > 0\n")
    table({
        name: {n: error(masked(dF[n], truth[n]), masked(expected[n], truth[n])) for n in expected}
        for name, dF in found.items()
    })  # fmt: skip

    reference = replace(
        objective,
        network=exact,
        forward=exact.forward,
        kernels=PlainKernels(),
        terms=tuple(
            replace(term, P=term.P.astype(np.float64))
            if isinstance(term, ContentTerm) and term.P is not None
            else term
            for term in objective.terms
        ),
    ).loss_and_gradient(x)
    print("\nthe objective, and a rendered image\n")
    print("| engine | loss, error | gradient, error | final loss | image, RMS distance |")
    print("|---|---|---|---|---|")
    first: Array | None = None
    for engine in (name for name in ENGINES if "cpu" in ENGINES[name].devices):
        chosen = replace(options, engine=engine, iterations=arguments.iterations)
        with prepare(arguments.content, arguments.style, chosen) as prepared:
            evaluation = prepared.objective.loss_and_gradient(x)
        result = transfer(arguments.content, arguments.style, chosen)
        image = np.asarray(result.image, np.float64)[..., :3]
        first = image if first is None else first
        distance = float(np.sqrt(np.mean((image - first) ** 2)))
        print(
            f"| {engine} | {abs(evaluation.loss / reference.loss - 1):.1e} | "
            f"{error(evaluation.gradient, reference.gradient):.1e} | "
            f"{result.record.losses[-1].loss:.6g} | {distance:.2f} |"
        )


def derivatives(
    network: Network, responses: Mapping[str, Array], seed: Array, *, strips: bool = False
) -> dict[str, Array]:
    """Return dF at every layer for a derivative at the deepest one."""
    found: dict[str, Array] = {}

    def add_seed(name: str, dF: Array | None) -> Array:
        dF = seed.astype(responses[name].dtype) if dF is None else dF
        found[name] = dF.copy()
        return dF

    kernels = StripKernels(THREADS) if strips else PlainKernels()
    network.backward(responses, add_seed, kernels=kernels)
    return found


def winograd_derivatives(
    passes: WinogradPasses, responses: Mapping[str, Array], seed: Array
) -> dict[str, Array]:
    """Return what `derivatives` does, computed by `WinogradPasses`."""
    found: dict[str, Array] = {}
    converted = passes.convert(responses)
    masks = {name: F > 0 for name, F in responses.items()}

    def add_seed(name: str, dF: Array | None) -> Array:
        if dF is None:
            dF = channels_last(seed.shape)
            dF[...] = seed
        dF *= masks[name]
        found[name] = dF.copy()
        return dF

    passes.backward(converted, add_seed)
    return found


def masked(dF: Array, F: Array) -> Array:
    return np.where(F > 0, dF, 0)


def error(found: Array, expected: Array) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def table(columns: Mapping[str, Mapping[str, float]]) -> None:
    print("| layer | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for layer in next(iter(columns.values())):
        print(f"| {layer} | " + " | ".join(f"{c[layer]:.1e}" for c in columns.values()) + " |")


if __name__ == "__main__":
    main()
