"""The loss of a scale: its terms, and the weights of equation 7."""

from gramstyle.core.conventions import NORMALISED, style_factor
from gramstyle.core.network import Network
from gramstyle.core.terms import Term, loss_terms
from gramstyle.model import Model, is_normalised
from gramstyle.run.inputs import Canvas, ScaleImages
from gramstyle.run.options import Options
from gramstyle.run.options.masks import region_shares


def loss_of(
    model: Model, network: Network, images: ScaleImages, options: Options
) -> tuple[tuple[Term, ...], dict[str, float]]:
    """Return the terms of the loss and the weights of equation 7; the options name the layers."""
    canvas, convention = images.canvas, options.formulas
    filters = {name: N for name, (N, _, _) in network.shapes(canvas.height, canvas.width).items()}
    content, style = dict[str, float](), dict[str, float]()
    if images.content is not None:
        layers = options.content_layers or ()
        content = dict(zip(layers, options.content_weights or (1.0,) * len(layers), strict=True))
    if images.styles:
        names = options.style_layers or ()
        weights = options.style_weights or tuple(
            convention.layer_weight(filters[name], len(names)) for name in names
        )
        style = dict(zip(names, weights, strict=True))
    masks = images.masks
    regions = None if masks is None else region_shares(options, len(masks.names))
    terms = loss_terms(
        content=content,
        style=style,
        tv=options.tv > 0,
        convention=convention,
        wraps=options.pads == "circular",
        regions=regions,
        style_loss=options.style_loss,
        style_factor=style_factor(options.style_loss, normalised=is_normalised(model.metadata)),
    )
    factors = {"content": _alpha(options, canvas, model), "style": options.beta, "tv": options.tv}
    return terms, {name: factors[name] for name in dict.fromkeys(term.name for term in terms)}


def _alpha(options: Options, canvas: Canvas, model: Model) -> float:
    if options.alpha is not None:
        return options.alpha
    if options.formulas.alpha is not None:
        return options.content_strength * options.formulas.alpha
    factor = options.content_strength * (NORMALISED if is_normalised(model.metadata) else 1.0)
    return factor * options.formulas.alpha_pixels / (canvas.width * canvas.height)
