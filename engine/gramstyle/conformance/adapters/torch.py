"""The objective as users of PyTorch write it. The only module that imports torch."""

from typing import Any

import torch
from torch.nn.functional import avg_pool2d, conv2d, max_pool2d, pad, relu

from gramstyle.conformance.adapters.statement import state
from gramstyle.conformance.cases import Case
from gramstyle.conformance.comparing import Adapter
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

    def value_and_grad(image: Array, case: Case) -> tuple[Any, Any, dict[str, Any]]:
        said = state(case, image.dtype)
        x = tensor(image).requires_grad_()
        F: Any = ((x[said.order] - tensor(said.mean)) * tensor(said.scale))[None]
        responses: dict[str, Any] = {}
        for layer in said.layers:
            if isinstance(layer, Convolution):
                F = relu(convolved(F, tensor(layer.W), tensor(layer.b), layer.padding))
            else:
                F = (max_pool2d if layer.kind == "max" else avg_pool2d)(F, 2)
            F.retain_grad()
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
        loss.backward()
        dF = {name: F.grad[0].cpu().numpy() for name, F in responses.items()}
        return loss.item(), x.grad.cpu().numpy(), dF

    return value_and_grad


def convolved(F: Any, W: Any, b: Any, padding: Padding) -> Any:
    """Return the convolution of a padded tensor."""
    if padding == "zeros":
        return conv2d(F, W, b, padding=1)
    return conv2d(pad(F, (1, 1, 1, 1), mode=padding), W, b)
