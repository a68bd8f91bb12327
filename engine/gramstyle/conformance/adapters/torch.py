"""The objective as users of PyTorch write it. The only module that imports torch."""

from typing import Any

import torch
from torch.nn.functional import avg_pool2d, conv2d, max_pool2d, pad, relu

from gramstyle.conformance.adapters.statement import state
from gramstyle.conformance.cases import Case
from gramstyle.conformance.comparing import Adapter, FourParts
from gramstyle.core.arrays import Array
from gramstyle.core.layers import Padding
from gramstyle.core.network import Convolution
from gramstyle.errors import OptionError


def adapter(device: str) -> Adapter:
    """Return the adapter for a device; raises OptionError if there is no such device."""
    if device == "cuda" and not torch.cuda.is_available():
        raise OptionError("PyTorch sees no CUDA device; leave --device out")

    def tensor(array: Array) -> Any:
        return torch.tensor(array, device=device)

    def value_and_grad(image: Array, case: Case) -> FourParts:
        said = state(case, image.dtype)
        x = tensor(image).requires_grad_()
        F: Any = ((x[said.order] - tensor(said.mean)) * tensor(said.scale))[None]
        responses: dict[str, Any] = {}
        weights: dict[str, tuple[Any, Any]] = {}
        for layer in said.layers:
            if isinstance(layer, Convolution):
                W, b = (tensor(each).requires_grad_() for each in (layer.W, layer.b))
                weights[layer.name] = W, b
                F = relu(convolved(F, W, b, layer.padding))
            else:
                F = (max_pool2d if layer.kind == "max" else avg_pool2d)(F, 2)
            responses[layer.name] = F
        loss: Any = torch.zeros((), dtype=getattr(torch, said.wide), device=device)
        for name, term in said.content.items():
            F = responses[name][0].to(loss.dtype)
            loss = loss + term.factor * (F - tensor(term.target)).square().sum()
        for name, term in said.style.items():
            F = responses[name][0].to(loss.dtype).flatten(1)
            G = F @ F.T / F.shape[1]
            loss = loss + term.factor * (G - tensor(term.target)).square().sum()
        for name, regions in said.regions.items():
            F = responses[name][0].to(loss.dtype).flatten(1)
            for region in regions:
                X = F * tensor(region.T)
                G = X @ X.T / region.m
                loss = loss + region.factor * (G - tensor(region.target)).square().sum()
        for name, each in said.statistics.items():
            F = responses[name][0].to(loss.dtype).flatten(1)
            mu = F.mean(1)
            H = F - mu[:, None]
            if each.statistic == "mean-std":
                S = torch.stack([mu, (H.square().mean(1) + said.epsilon).sqrt()])
            else:
                S = H @ H.T / H.shape[1]
            loss = loss + each.factor * (S - tensor(each.target)).square().sum()
        if said.tv:
            for axis in (1, 2):
                loss = loss + said.tv * torch.diff(x.to(loss.dtype), dim=axis).square().sum()
        parameters = [each for pair in weights.values() for each in pair]
        wanted = [x, *responses.values(), *parameters]
        gradient, *others = torch.autograd.grad(loss, wanted, create_graph=True)
        slope = (gradient * tensor(case.direction.astype(image.dtype))).sum()
        (hvp,) = torch.autograd.grad(slope, x)

        def array(result: Any) -> Array:
            found: Array = result.detach().cpu().numpy()
            return found

        dF = {name: array(each[0]) for name, each in zip(responses, others, strict=False)}
        dW, db = others[len(responses) :: 2], others[len(responses) + 1 :: 2]
        more = {
            "dW": {name: array(each) for name, each in zip(weights, dW, strict=True)},
            "db": {name: array(each) for name, each in zip(weights, db, strict=True)},
            "jvp": slope.item(),
            "hvp": array(hvp),
        }
        return loss.item(), array(gradient), dF, more

    return value_and_grad


def convolved(F: Any, W: Any, b: Any, padding: Padding) -> Any:
    """Return the convolution of a padded tensor."""
    if padding == "zeros":
        return conv2d(F, W, b, padding=1)
    return conv2d(pad(F, (1, 1, 1, 1), mode=padding), W, b)
