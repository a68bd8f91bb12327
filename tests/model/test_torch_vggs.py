"""The VGGs as torch saves them and computes them, with and without batch normalisation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gramstyle.model.architecture import VGGS, Architecture
from gramstyle.model.export import export_model
from gramstyle.model.onnx_file import read_model

torch = pytest.importorskip("torch", reason="torch computes these networks and is not installed")

pytestmark = pytest.mark.frameworks


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the VGGs narrow."""
    for name, network in list(VGGS.items()):
        blocks = tuple(tuple(N // 16 for N in block) for block in network.blocks)
        monkeypatch.setitem(VGGS, name, Architecture(blocks))


def torch_network(network: Architecture, *, normalised: bool) -> Any:
    """Return a network with the modules of torchvision's, with random numbers everywhere."""
    torch.manual_seed(0)
    layers, channels = [], 3
    for block in network.blocks:
        for N in block:
            layers.append(torch.nn.Conv2d(channels, N, kernel_size=3, padding=1))
            if normalised:
                layers.append(torch.nn.BatchNorm2d(N))
            layers.append(torch.nn.ReLU(inplace=True))
            channels = N
        layers.append(torch.nn.MaxPool2d(kernel_size=2, stride=2))
    classifier = torch.nn.Sequential(torch.nn.Linear(channels, 3), torch.nn.BatchNorm1d(3))
    found = torch.nn.ModuleDict(
        {"features": torch.nn.Sequential(*layers), "classifier": classifier}
    )
    with torch.no_grad():
        for module in found.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.2, 3)
                module.weight.uniform_(-2, 2)
                module.bias.normal_()
    return found.eval()


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("name", VGGS)
def test_a_checkpoint_has_the_responses_that_torch_computes(
    name: str, normalised: bool, narrow: None, tmp_path: Path
) -> None:
    expected = torch_network(VGGS[name], normalised=normalised)
    torch.save(expected.state_dict(), tmp_path / "m.pth")
    export_model(tmp_path / "m.onnx", source=tmp_path / "m.pth", convention="torchvision")
    model = read_model(tmp_path / "m.onnx")
    assert model.metadata["architecture"] == name
    assert ("batch.normalisation" in model.metadata) == normalised
    x = np.random.default_rng(0).normal(size=(3, 64, 32))
    found = model.network.astype(np.float64).forward(x)["pool5"]
    with torch.no_grad():
        truth = expected.double()["features"](torch.tensor(x)[None])[0].numpy()
    assert np.linalg.norm(truth) > 0
    # The folded weights are rounded to float32.
    assert np.linalg.norm(found - truth) < 1e-5 * np.linalg.norm(truth)
