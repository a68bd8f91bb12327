"""Regions in tiles: the loss and the gradient of the whole image, to rounding."""

from dataclasses import replace

import numpy as np
import pytest

from gramstyle.core.arrays import Array
from gramstyle.core.guides import Guides, inside_guides, mean_guides, with_guides
from gramstyle.core.kernels import PlainKernels
from gramstyle.core.network import Network
from gramstyle.core.objective import Objective
from gramstyle.core.terms import Term, loss_terms, with_targets
from gramstyle.engines.registry import Engine, open_engine
from gramstyle.engines.spec import ObjectiveSpec
from gramstyle.model import Model
from gramstyle.tiling import SpillStore, TiledObjective, Tiling
from gramstyle.tiling.objective import add_tiled_targets, stored_targets

LAYERS = {"conv1_1": 0.2, "conv2_1": 0.3, "conv4_1": 0.5}
WEIGHTS = {"content": 1e-3, "style": 3.0}

# Sums of some thousand numbers in another order, in float64.
ROUNDING = 1e-11
# Float32: ReLUs flip where two values differ by a rounding.
FLOAT32 = 2e-3


def both(
    engine: Engine, model: Model, terms: tuple[Term, ...], images: tuple[Array, Array], edge: int
) -> tuple[Objective, TiledObjective]:
    """The objective of two regions, whole and in tiles; the second reaches into few of them."""
    p, a = images
    net, see = engine.network, model.preprocessing
    upper, corner = np.zeros((2, *p.shape[1:]), np.float32)
    upper[:60] = 1
    upper[60:70] = 0.5
    corner[80:, 90:] = 1
    in_style = np.ones((2, *a.shape[1:]), np.float32)
    in_style[1, :, :30] = 0

    def guides(network: Network, masks: list[Array], *, inside: bool) -> Guides:
        parts = [(inside_guides if inside else mean_guides)(network, T) for T in masks]
        return {name: tuple(part[name] for part in parts) for name in network.names}

    of_x = guides(net, [upper, corner], inside=False)
    of_a = guides(net, list(in_style), inside=True)
    whole = with_targets(terms, "content", engine.forward(see.forward(p)), engine.kernels)
    responses = engine.forward(see.forward(a))
    whole = with_targets(with_guides(whole, of_a), "style", responses, engine.kernels)
    objective = Objective(
        network=net,
        preprocessing=see,
        terms=with_guides(whole, of_x),
        weights=WEIGHTS,
        forward=engine.forward,
        kernels=engine.kernels,
        backward=engine.backward,
    )
    spill = SpillStore(memory=10**7)
    tilings = [Tiling(net, *image.shape[1:], edge) for image in (p, a)]
    parts = add_tiled_targets(engine, see, terms, "content", p, tilings[0], spill)
    parts = with_guides(parts, of_a)
    parts = add_tiled_targets(engine, see, parts, "style", a, tilings[1], spill)
    parts = with_guides(parts, of_x)
    tiled = TiledObjective(
        objective=replace(objective, terms=parts),
        tiling=tilings[0],
        targets=stored_targets(parts, spill),
        recall=engine.recall,
        spill=spill,
    )
    return objective, tiled


def images(rng: np.random.Generator) -> tuple[Array, Array, Array]:
    x, p = rng.uniform(0, 255, (2, 3, 101, 118))
    return x, p, rng.uniform(0, 255, (3, 90, 110))


def terms_of_regions() -> tuple[Term, ...]:
    return loss_terms(content={"conv3_1": 1.0}, style=LAYERS, regions=(1.0, 2.0))


@pytest.mark.parametrize("edge", [32, 48])
def test_in_float64_regions_in_tiles_equal_the_whole_to_rounding(
    tiny_model: Model, rng: np.random.Generator, edge: int
) -> None:
    x, *references = images(rng)
    net = tiny_model.network.until(tuple(LAYERS)).pooled_by("avg").astype(np.float64)
    engine = Engine(net, net.forward, PlainKernels())
    whole, tiled = both(engine, tiny_model, terms_of_regions(), tuple(references), edge)
    expected, found = whole.loss_and_gradient(x), tiled.loss_and_gradient(x)
    assert len(tiled.tiling) > 5
    for name, layers in expected.layers.items():
        assert found.layers[name] == pytest.approx(layers, rel=ROUNDING)
    difference = np.linalg.norm(found.gradient - expected.gradient)
    assert difference < ROUNDING * np.linalg.norm(expected.gradient)


@pytest.mark.parametrize("name", ["numpy", "winograd"])
def test_every_engine_with_tiles_computes_regions(
    tiny_model: Model, rng: np.random.Generator, name: str
) -> None:
    x, *references = images(rng)
    terms = terms_of_regions()
    spec = ObjectiveSpec(
        model=tiny_model.sha256, pooling="avg", terms=terms, weights=WEIGHTS, height=101, width=118,
        engine=name, threads=2,
    )  # fmt: skip
    net = tiny_model.network.until(tuple(LAYERS)).pooled_by("avg").astype(np.float64)
    plain = Engine(net, net.forward, PlainKernels())
    truth, _ = both(plain, tiny_model, terms, tuple(references), 48)
    expected = truth.loss_and_gradient(x)
    engine = open_engine(spec, tiny_model)
    for objective in both(engine, tiny_model, terms, tuple(references), 48):
        found = objective.loss_and_gradient(x)
        assert found.terms == pytest.approx(expected.terms, rel=FLOAT32)
        difference = np.linalg.norm(found.gradient - expected.gradient)
        assert difference < FLOAT32 * np.linalg.norm(expected.gradient)
