"""Norms by name, and the ones that do not whiten."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional

from swbench import norms
from swbench.errors import OptionError, UnknownName
from swbench.solvers.choice import choose


def test_names_are_listed_without_torch():
    code = "import sys; from swbench import norms; print(norms.names(), 'torch' in sys.modules)"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert out.strip() == f"{norms.names()} False"
    assert norms.names() == ("bn", "in", "ln", "iw", "bw", "swa", "swb")


@pytest.mark.parametrize("norm", norms.names())
def test_every_norm_is_built_and_runs(norm):
    layer = norms.build(norm, 32, group=16, solver="auto")
    x = torch.randn(2, 32, 4, 4, requires_grad=True)
    y = layer(x)
    y.backward(torch.randn_like(y))
    assert y.shape == x.shape
    assert x.grad.isfinite().all()


def test_bn_is_torchs_batch_norm():
    assert type(norms.build("bn", 32)) is nn.BatchNorm2d


@pytest.mark.parametrize(
    ("norm", "reference"),
    [
        ("in", lambda x: functional.instance_norm(x)),
        ("ln", lambda x: functional.layer_norm(x, x.shape[1:])),
    ],
)
def test_instance_and_layer_normalisation(norm, reference):
    layer = norms.build(norm, 6).double()
    x = torch.randn(2, 6, 3, 4, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(layer(x), reference(x))
    assert torch.autograd.gradcheck(layer, x)
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == {
        "weight": (6,),
        "bias": (6,),
    }


def test_a_single_value_is_normalised_to_zero():
    assert norms.build("in", 4)(torch.randn(1, 4, 1, 1)).abs().max() < 1e-4


def test_invalid_arguments_are_refused():
    with pytest.raises(UnknownName, match="Did you mean 'swa'"):
        norms.build("sw-a", 32)
    with pytest.raises(OptionError, match="group 12 does not divide the 32 channels"):
        norms.build("bw", 32, group=12)
    with pytest.raises(UnknownName, match="Did you mean 'eigh'"):
        norms.build("swb", 32, solver="eihg")


def test_auto_chooses_a_registered_solver():
    from swbench import solvers

    assert choose(torch.device("cpu"), 16, 72, torch.float32).partition(":")[0] in solvers.names()
