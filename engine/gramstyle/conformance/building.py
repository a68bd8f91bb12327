"""Build a case from its layers and its images."""

from collections.abc import Mapping, Sequence
from functools import partial

from gramstyle.conformance.cases import Case
from gramstyle.conformance.exact import ordered
from gramstyle.conformance.exact.hashed import Numbers
from gramstyle.core.arrays import Array
from gramstyle.core.conventions import PAPER, Convention
from gramstyle.core.guides import with_guides
from gramstyle.core.kernels import PlainKernels
from gramstyle.core.layers import Padding
from gramstyle.core.network import Layer, Network
from gramstyle.core.objective import Objective
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.core.terms import loss_terms, with_targets

# Makes the image itself the network's input, for cases about one operation.
PLAIN = Preprocessing(channels="RGB", mean=(0.0, 0.0, 0.0), scale=(1.0, 1.0, 1.0))


def images_of(
    numbers: Numbers, size: tuple[int, int], artwork: tuple[int, int], low: float, high: float
) -> dict[str, Array]:
    """Return x, p and a, (3, H, V) each, with numbers between two bounds."""
    sizes = {"x": size, "p": size, "a": artwork}
    return {role: numbers.uniform(low, high, 3, *sizes[role]) for role in sizes}


def case_of(
    name: str,
    pins: str,
    layers: Sequence[Layer],
    images: Mapping[str, Array],
    *,
    content: str | None = None,
    style: tuple[str, ...] = (),
    alpha: float = 0.75,
    beta: float = 5.0,
    w: Mapping[str, float] | None = None,
    tv: float = 0.0,
    preprocessing: Preprocessing = PLAIN,
    convention: Convention = PAPER,
    padding: Padding = "zeros",
    style_loss: str = "gram",
    regions: Sequence[float] | None = None,
    guidance: tuple[Mapping[str, Array], Mapping[str, Array]] = ({}, {}),
    same_bytes: bool = True,
) -> Case:
    """Return a case, with P and A computed from the images.

    `regions` are the shares of regions of the style, `guidance` is theirs in x and in the style
    image, by layer. Without `same_bytes` the truth is computed by matrix products: a hundred times
    faster, but with other last bits on other machines.
    """
    network = Network(tuple(layers)).until([*([content] if content else []), *style])
    network = network.padded_by(padding)
    ordered_forward = partial(ordered.forward, network) if same_bytes else None
    forward = ordered_forward or network.forward
    kernels = ordered.OrderedKernels() if same_bytes else PlainKernels()
    terms = loss_terms(
        content={content: 1.0} if content else {},
        style=w or {layer: 1 / len(style) for layer in style},
        tv=tv > 0,
        convention=convention,
        style_loss=style_loss,
        regions=regions,
    )
    of_x, of_a = ({layer: tuple(T) for layer, T in each.items()} for each in guidance)
    if content:
        P = forward(preprocessing.forward(images["p"]))
        terms = with_targets(terms, "content", P, kernels)
    if style:
        F = forward(preprocessing.forward(images["a"]))
        terms = with_targets(with_guides(terms, of_a), "style", F, kernels)
    return Case(
        name=name,
        pins=pins,
        objective=Objective(
            network=network,
            preprocessing=preprocessing,
            terms=with_guides(terms, of_x),
            weights={"content": alpha, "style": beta, "tv": tv},
            forward=ordered_forward,
            kernels=kernels,
        ),
        x=images["x"],
        p=images["p"] if content else None,
        a=images["a"] if style else None,
        guidance=guidance[1],
    )
