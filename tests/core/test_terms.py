"""The list of loss terms: several content layers, a term of one's own, targets, pickling."""

import pickle
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import pytest

from gramstyle.core.arrays import Array
from gramstyle.core.conventions import AUTHOR
from gramstyle.core.kernels import Area, Kernels, PlainKernels, within
from gramstyle.core.network import Network
from gramstyle.core.objective import Objective
from gramstyle.core.terms import Term, loss_terms, with_targets, without_targets
from gramstyle.engines.onnx_graph import objective_graph
from gramstyle.engines.registry import Engine, open_engine
from gramstyle.engines.spec import ObjectiveSpec
from gramstyle.errors import OptionError
from gramstyle.gradcheck import check_gradient
from gramstyle.model import Model
from gramstyle.tiling import SpillStore, TiledObjective, Tiling
from gramstyle.tiling.objective import add_tiled_targets, stored_targets

Rng = np.random.Generator

# Float64 sums of some thousand numbers in another order.
ROUNDING = 1e-12
# Float32: ReLUs and maxima flip where two values differ by a rounding.
FLOAT32 = 2e-3


@dataclass(frozen=True, kw_only=True)
class Energy:
    """The mean squared response of a layer, a loss that only this file knows."""

    name: ClassVar[str] = "energy"
    reference: ClassVar[None] = None
    per_position: ClassVar[bool] = False

    layer: str
    weight: float = 1.0

    def sums(self, F: Array, kernels: Kernels, area: Area | None = None) -> float:
        del kernels
        return float(np.sum(np.square(within(F, area)), dtype=np.float64))

    def value(self, sums: float, N: int, M: int) -> float:
        return sums / (N * M)

    def add_gradient(
        self,
        dF: Array | None,
        F: Array,
        sums: float,
        N: int,
        M: int,
        weight: float,
        kernels: Kernels,
        area: Area | None = None,
    ) -> Array:
        del sums
        return kernels.add_gradient(dF, F, 2 * weight / (N * M) * within(F, area), area)

    def target(self, F: Array, kernels: Kernels, area: Area | None = None) -> None:
        """Nothing is compared with."""

    def compared_with(self, target: None, M: int) -> Self:
        del target, M
        return self


# Alone at a layer and beside another term, at the deepest layer and below.
TERMS: tuple[Term, ...] = (
    *loss_terms(content={"conv2_2": 1.0}, style={"conv1_1": 0.5, "conv2_1": 0.5}),
    Energy(layer="conv1_1", weight=0.5),
    Energy(layer="conv2_2", weight=2.0),
    Energy(layer="conv3_1"),
)
WEIGHTS = {"content": 1e-2, "style": 3.0, "energy": 50.0}


def image(rng: Rng, height: int, width: int) -> Array:
    return rng.uniform(0, 255, (3, height, width))


def network(model: Model) -> Network:
    return model.network.until(["conv3_1"]).astype(np.float64)


def plain(model: Model, terms: tuple[Term, ...], p: Array, a: Array) -> Objective:
    """The objective in float64, every step as the paper writes it."""
    net, see = network(model), model.preprocessing.forward
    terms = with_targets(terms, "content", net.forward(see(p)))
    terms = with_targets(terms, "style", net.forward(see(a)))
    weights = {name: WEIGHTS[name] for name in dict.fromkeys(term.name for term in terms)}
    return Objective(network=net, preprocessing=model.preprocessing, terms=terms, weights=weights)


def in_tiles(objective: Objective, engine: Engine, p: Array, a: Array) -> TiledObjective:
    terms, spill = without_targets(objective.terms), SpillStore(memory=10**6)
    tilings = [Tiling(engine.network, *each.shape[1:], 16) for each in (p, a)]
    see = objective.preprocessing
    terms = add_tiled_targets(engine, see, terms, "content", p, tilings[0], spill)
    terms = add_tiled_targets(engine, see, terms, "style", a, tilings[1], spill)
    how = replace(
        objective,
        network=engine.network,
        terms=terms,
        forward=engine.forward,
        kernels=engine.kernels,
        backward=engine.backward,
    )
    return TiledObjective(
        objective=how,
        tiling=tilings[0],
        targets=stored_targets(terms, spill),
        recall=engine.recall,
        spill=spill,
    )


def distance(found: Array, expected: Array) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def test_content_at_several_layers_is_the_weighted_sum_of_equation_1(
    tiny_model: Model, rng: Rng
) -> None:
    x, p, a = (image(rng, 18, 22) for _ in range(3))
    w = {"conv1_2": 0.25, "conv2_2": 1.0, "conv3_1": 3.0}
    found = plain(tiny_model, loss_terms(content=w, style={}), p, a).loss_and_gradient(x)
    F, P = (network(tiny_model).forward(tiny_model.preprocessing.forward(each)) for each in (x, p))
    by_layer = {name: 0.5 * sum(((F[name] - P[name]) ** 2).flat) for name in w}
    total = sum(w[name] * value for name, value in by_layer.items())
    assert found.layers == {"content": pytest.approx(by_layer, rel=ROUNDING)}
    assert found.terms == {"content": pytest.approx(total, rel=ROUNDING)}
    assert found.loss == pytest.approx(1e-2 * total, rel=ROUNDING)


def test_the_gradient_of_content_at_several_layers_is_the_derivative(
    tiny_model: Model, rng: Rng
) -> None:
    x, p, a = (image(rng, 12, 14) for _ in range(3))
    terms = loss_terms(content={"conv1_2": 0.25, "conv3_1": 3.0}, style={}, convention=AUTHOR)
    objective = plain(tiny_model, terms, p, a)
    u, step = rng.standard_normal(x.shape), 1e-4
    ahead, behind = (objective.loss_and_gradient(x + s * step * u).loss for s in (1, -1))
    slope = np.vdot(objective.loss_and_gradient(x).gradient, u)
    # A central difference with a step of 1e-4 grey levels, away from kinks.
    assert slope == pytest.approx((ahead - behind) / (2 * step), rel=1e-6)


def test_a_term_of_ones_own_is_part_of_the_objective(tiny_model: Model, rng: Rng) -> None:
    x, p, a = (image(rng, 18, 22) for _ in range(3))
    objective = plain(tiny_model, TERMS, p, a)
    F = objective.responses(x)
    energies = {name: np.mean(np.square(F[name])) for name in ("conv1_1", "conv2_2", "conv3_1")}
    found = objective.loss_and_gradient(x)
    assert found.layers["energy"] == pytest.approx(energies, rel=ROUNDING)
    total = 0.5 * energies["conv1_1"] + 2 * energies["conv2_2"] + energies["conv3_1"]
    assert found.terms["energy"] == pytest.approx(total, rel=ROUNDING)
    rest = 1e-2 * found.terms["content"] + 3.0 * found.terms["style"]
    assert found.loss == pytest.approx(rest + 50.0 * total, rel=ROUNDING)
    see = tiny_model.preprocessing.forward
    check_gradient(
        objective.loss_and_gradient,
        x,
        kinks=lambda x: objective.network.choices(objective.network.forward(see(x))),
    )


def test_a_term_of_ones_own_works_in_tiles(tiny_model: Model, rng: Rng) -> None:
    x, p, a = image(rng, 45, 38), image(rng, 45, 38), image(rng, 31, 40)
    whole = plain(tiny_model, TERMS, p, a)
    net = whole.network
    tiled = in_tiles(whole, Engine(net, net.forward, PlainKernels()), p, a)
    expected, found = whole.loss_and_gradient(x), tiled.loss_and_gradient(x)
    assert len(tiled.tiling) == 9
    assert found.terms == pytest.approx(expected.terms, rel=ROUNDING)
    assert distance(found.gradient, expected.gradient) < ROUNDING


@pytest.mark.parametrize("name", ["numpy", "winograd"])
def test_a_term_of_ones_own_works_in_every_engine(name: str, tiny_model: Model, rng: Rng) -> None:
    x, p, a = image(rng, 45, 38), image(rng, 45, 38), image(rng, 31, 40)
    truth = plain(tiny_model, TERMS, p, a)
    pooling = next(layer.kind for layer in truth.network.layers if layer.name == "pool1")
    spec = ObjectiveSpec(
        model=tiny_model.sha256, pooling=pooling, terms=TERMS, weights=WEIGHTS, height=45, width=38,
        engine=name, threads=2,
    )  # fmt: skip
    engine = open_engine(spec, tiny_model)
    terms, see = spec.terms, tiny_model.preprocessing
    terms = with_targets(terms, "content", engine.forward(see.forward(p)), engine.kernels)
    terms = with_targets(terms, "style", engine.forward(see.forward(a)), engine.kernels)
    whole = engine.objective(spec, see, terms)
    expected = truth.loss_and_gradient(x)
    for objective in (whole, in_tiles(whole, engine, p, a)):
        found = objective.loss_and_gradient(x)
        assert found.terms == pytest.approx(expected.terms, rel=FLOAT32)
        assert distance(found.gradient, expected.gradient) < FLOAT32


def test_a_term_of_ones_own_is_refused_in_an_exported_graph(tiny_model: Model, rng: Rng) -> None:
    objective = plain(tiny_model, TERMS, *(image(rng, 18, 22) for _ in range(2)))
    with pytest.raises(
        OptionError, match=r"the loss energy cannot be exported .*leave it out"
    ) as e:
        objective_graph(objective, (18, 22))
    assert "\n" not in str(e.value)


def test_terms_are_compared_without_their_targets(tiny_model: Model, rng: Rng) -> None:
    terms = loss_terms(content={"conv2_2": 1.0}, style={"conv1_1": 0.5}, tv=True)
    net = network(tiny_model)
    one, other = (
        with_targets(with_targets(terms, "content", F), "style", F)
        for F in (net.forward(image(rng, 8, 8)) for _ in range(2))
    )
    assert one == other == terms == without_targets(one)
    assert loss_terms(content={"conv2_2": 2.0}, style={"conv1_1": 0.5}, tv=True) != terms


def test_a_spec_can_be_pickled() -> None:
    spec = ObjectiveSpec(
        model="0" * 64, pooling="max", weights=WEIGHTS, height=10, width=12, engine="numpy",
        terms=(*loss_terms(content={"a": 1.0}, style={"b": 2.0}, tv=True, convention=AUTHOR),
               Energy(layer="c")),
    )  # fmt: skip
    found = pickle.loads(pickle.dumps(spec))  # noqa: S301 - its own
    assert found == spec
    assert found.layers == ("a", "b", "c")
