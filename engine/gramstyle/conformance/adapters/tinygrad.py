"""The objective as users of tinygrad write it. The only module that imports tinygrad."""

from typing import Any

from tinygrad import Device, Tensor, dtypes

from gramstyle.conformance.adapters.statement import state
from gramstyle.conformance.cases import Case
from gramstyle.conformance.comparing import Adapter, FourParts
from gramstyle.core.arrays import Array
from gramstyle.core.network import Convolution
from gramstyle.errors import OptionError


def adapter(device: str) -> Adapter:
    """Return the adapter for a device; raises OptionError if tinygrad cannot use it."""
    place = device.upper()
    try:
        Device[place]
    except Exception as error:  # from tinygrad, or from the system without a compiler
        raise OptionError(
            f"tinygrad cannot compute on {place} ({error}); on the CPU it needs clang"
        ) from None

    def tensor(array: Array) -> Any:
        return Tensor(array, device=place)

    def value_and_grad(image: Array, case: Case) -> FourParts:
        said = state(case, image.dtype)
        wide = getattr(dtypes, said.wide)
        x = tensor(image)
        F = ((x[said.order] - tensor(said.mean)) * tensor(said.scale)).unsqueeze(0)
        responses, weights = {}, {}
        for layer in said.layers:
            if isinstance(layer, Convolution):
                W, b = weights[layer.name] = tensor(layer.W), tensor(layer.b)
                border = int(layer.padding == "zeros")
                if not border:
                    F = F.pad((1, 1, 1, 1), mode=layer.padding)
                F = F.conv2d(W, b, padding=border).relu()
            else:
                F = F.max_pool2d() if layer.kind == "max" else F.avg_pool2d()
            responses[layer.name] = F
        loss: Any = 0.0
        for name, term in said.content.items():
            F = responses[name].squeeze(0).cast(wide)
            loss = loss + term.factor * (F - tensor(term.target)).square().sum()
        for name, term in said.style.items():
            F = responses[name].squeeze(0).cast(wide).flatten(1)
            G = F @ F.T / F.shape[1]
            loss = loss + term.factor * (G - tensor(term.target)).square().sum()
        for name, regions in said.regions.items():
            F = responses[name].squeeze(0).cast(wide).flatten(1)
            for region in regions:
                X = F * tensor(region.T)
                G = X @ X.T / region.m
                loss = loss + region.factor * (G - tensor(region.target)).square().sum()
        for name, each in said.statistics.items():
            F = responses[name].squeeze(0).cast(wide).flatten(1)
            mu = F.mean(1)
            H = F - mu.unsqueeze(1)
            if each.statistic == "mean-std":
                S = mu.stack((H.square().mean(1) + said.epsilon).sqrt())
            else:
                S = H @ H.T / H.shape[1]
            loss = loss + each.factor * (S - tensor(each.target)).square().sum()
        if said.tv:
            for d in (x[:, 1:] - x[:, :-1], x[:, :, 1:] - x[:, :, :-1]):
                loss = loss + said.tv * d.cast(wide).square().sum()
        parameters = [each for pair in weights.values() for each in pair]
        gradient, *others = loss.gradient(x, *responses.values(), *parameters)
        # The sum in the wide float type of the loss: it overflows in float16.
        jvp = (gradient.cast(wide) * tensor(case.direction.astype(said.wide))).sum()
        (hvp,) = jvp.gradient(x)
        dF, dW, db = (
            others[: len(responses)],
            others[len(responses) :: 2],
            others[len(responses) + 1 :: 2],
        )
        more = {
            "dW": {name: d.numpy() for name, d in zip(weights, dW, strict=True)},
            "db": {name: d.numpy() for name, d in zip(weights, db, strict=True)},
            "jvp": jvp.item(),
            "hvp": hvp.numpy(),
        }
        layers = {name: d.squeeze(0).numpy() for name, d in zip(responses, dF, strict=True)}
        return loss.item(), gradient.numpy(), layers, more

    return value_and_grad
