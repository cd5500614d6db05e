"""Networks named on the command line are imported when they are built, and by nothing else."""

import sys

import pytest
from torch import nn

from swbench import models, plugins
from swbench.errors import OptionError
from swbench.models import named
from swbench.models.describe import describe, try_out

MODULE = """
import torch
from torch import nn

class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.norm = nn.Embedding(10, 16), nn.BatchNorm2d(16)

    def forward(self, tokens, scale):
        x = self.embed(tokens).permute(0, 2, 1)[..., None]
        return {"map": self.norm(x) * scale.mean()}

def tokens():
    return Tokens()

def inputs(batch, image, generator):
    return (
        torch.randint(10, (batch, image[0]), generator=generator),
        torch.randn(batch, image[1], generator=generator),
    )

tokens.inputs = inputs

def plain():
    return nn.Sequential(nn.Conv2d(3, 16, 1), nn.BatchNorm2d(16))

def broken():
    raise RuntimeError("first line\\nthe weights\\nare not here")

def not_a_network():
    return 3

def frozen_output():
    return nn.Sequential(nn.Conv2d(3, 16, 1), nn.BatchNorm2d(16)).requires_grad_(False)
"""


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    monkeypatch.setattr(plugins, "_models", {})


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "nets_with_a_name.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "nets_with_a_name"
    sys.modules.pop("nets_with_a_name", None)


def given(model):
    plugins.load(plugins.from_json(plugins.to_json([named.named(model)])))
    return model


@pytest.mark.parametrize("model", ["timm:resnet18", "torchvision:resnet18", "own:plain"])
def test_only_names_from_the_command_line_are_imported(model, module):
    before = set(sys.modules)
    with pytest.raises(OptionError, match="no suite and no stored run imports anything"):
        models.build(model.replace("own:", f"{module}:"))
    imported = set(sys.modules) - before
    assert not [name for name in imported if not name.startswith("swbench.")]


@pytest.mark.parametrize("model", ["timm:resnet18", "torchvision:resnet18"])
def test_networks_of_packages_are_built(model):
    network = models.build(given(model), "bw", where="every=6,!*downsample*")
    whitened = [p for p, m in network.named_modules() if hasattr(m, "running_cov")]
    assert whitened == ["bn1", "layer2.0.bn1", "layer3.1.bn1"]
    assert len(network.fc.weight) == 1000
    with pytest.raises(OptionError, match=r"chooses 3 norms of .*resnet18, not 4"):
        models.build(model, "bw", 4, where="every=6,!*downsample*")


def test_a_user_module_provides_network_and_inputs(module):
    model = given(f"{module}:tokens")
    rows = describe(model, 0, (5, 7))
    assert [(row.path, row.height, row.width, row.matrices) for row in rows] == [("norm", 5, 1, 1)]
    try_out(model, 2, (5, 7))
    tokens, scale = models.inputs(model, 3, (5, 7))
    assert (tokens.shape, scale.shape) == ((3, 5), (3, 7))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("timm:resnet5O", r"timm has no model 'resnet5O'\. Did you mean 'resnet50'"),
        ("timm:hf-hub:a/b", "timm has no model"),
        ("torchvision:resnet1", r"torchvision has no model 'resnet1'\. Did you mean 'resnet18'"),
        ("tim:resnet50", r"no module is called 'tim'\. Did you mean 'timm'"),
        ("nets_with_a_name:plane", r"no callable 'plane'\. Did you mean 'plain'"),
        ("nets_with_a_name:", "write timm:NAME, torchvision:NAME or package.module:callable"),
        ("a-b:c", "write timm:NAME"),
        ("no.such.module:c", "no module is called 'no'"),
    ],
)
def test_an_unknown_network_is_reported_in_one_line(model, words, module):
    with pytest.raises(OptionError, match=words) as raised:
        named.named(model)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("package", named.PACKAGES)
def test_a_missing_package_is_reported_with_its_install_command(package, monkeypatch):
    original = named.importlib.util.find_spec
    monkeypatch.setattr(
        named.importlib.util, "find_spec", lambda name: None if name == package else original(name)
    )
    with pytest.raises(OptionError, match=f"{package} is not installed; pip install {package}"):
        named.named(f"{package}:resnet18")


def test_an_error_of_the_network_is_shown_by_its_last_line(module):
    with pytest.raises(OptionError, match=r"building it fails: RuntimeError: are not here$"):
        models.build(given(f"{module}:broken"))
    with pytest.raises(OptionError, match=r"gives a int, not a torch\.nn\.Module"):
        models.build(given(f"{module}:not_a_network"))
    with pytest.raises(OptionError, match="a call with 1 image of 2x2 fails: ValueError: Expected"):
        try_out(given("timm:resnet18"), 1, (2, 2))
    with pytest.raises(OptionError, match="no backward pass to measure"):
        try_out(given(f"{module}:frozen_output"), 1, (8, 8))


def test_a_module_that_was_edited_since_is_refused(module, tmp_path):
    model = given(f"{module}:plain")
    assert isinstance(models.build(model), nn.Sequential)
    (tmp_path / "nets_with_a_name.py").write_text(MODULE + "# edited\n")
    with pytest.raises(OptionError, match="changed since the run began"):
        models.build(model)


def test_a_run_stores_the_identity_of_the_model():
    assert plugins.digests([named.named("timm:resnet18")]) == {
        "model timm:resnet18": f"timm {named.imported('timm').__version__}"
    }


def test_a_network_without_batch_normalisation_is_reported():
    with pytest.raises(OptionError, match=r"timm:convnext_atto has no batch norm.*LayerNorm2d"):
        models.build(given("timm:convnext_atto"), "swa")
