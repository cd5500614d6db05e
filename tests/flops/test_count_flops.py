"""`count_flops` on any module: a user's own, without computing, without leaving a trace in it."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import swbench
from swbench import flops
from swbench.errors import OptionError, UnknownName
from swbench.flops.recorder import record
from swbench.flops.solver import solver_flops


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 2)

    def forward(self, x):
        x = functional.avg_pool2d(functional.relu(self.norm(self.conv(x))), 2)
        return self.fc(x.mean((2, 3)))


def test_a_user_module():
    count = swbench.count_flops(Own(), (3, 10, 10), rule="paper")
    assert count.by_layer == {
        "conv": 27 * 8 * 100,
        "norm": 4 * 8 * 100,
        "": 4 * 8 * 25 + 8 * 25,
        "fc": 2 * 8 * 2,
    }
    assert count.total == sum(count.by_layer.values())


def test_the_model_is_unchanged():
    net = Own().eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert swbench.count_flops(net, (3, 10, 10), mode="train").mode == "train"
    assert not net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert all(p.device.type == "cpu" and p.grad is None for p in net.parameters())


def test_mode_is_the_models_own_unless_given():
    assert swbench.count_flops(Own(), (3, 8, 8)).mode == "train"
    assert swbench.count_flops(Own().eval(), (3, 8, 8)).mode == "eval"
    with pytest.raises(ValueError, match="mode must be"):
        swbench.count_flops(Own(), (3, 8, 8), mode="inference")


def test_counting_computes_nothing():
    """A convolution that would take hours and 16 TB."""
    net = nn.Conv2d(64, 64, 3, padding=1)
    assert (
        swbench.count_flops(net, torch.empty(1, 64, 250_000, 250_000, device="meta")).total
        == 9 * 64**2 * 250_000**2
    )


class NeedsValues(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x):
        return self.norm(self.fc(x)) if x.max().item() < 2 else x


def test_a_model_that_needs_values_runs_once_on_copies():
    net = NeedsValues()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert swbench.count_flops(net, (4,), rule="torch", batch=3).total == 2 * 4 * 4 * 3
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_an_error_of_the_model_is_raised():
    with pytest.raises(RuntimeError, match="channels"):
        swbench.count_flops(Own(), (4, 8, 8))


def test_integer_inputs_and_shared_modules():
    shared = nn.Linear(6, 6)
    net = nn.Sequential(nn.Embedding(10, 6), shared, shared)
    count = swbench.count_flops(net, torch.zeros(5, dtype=torch.long), rule="torch")
    assert count.total == 2 * 2 * 5 * 36
    assert count.by_layer == {"1": 2 * 2 * 5 * 36}


def test_an_unknown_rule_names_the_rules():
    with pytest.raises(UnknownName, match=r"Did you mean 'fvcore'.*Known: paper, fvcore, torch"):
        swbench.count_flops(Own(), (3, 8, 8), rule="fvcor")
    assert flops.names() == ("paper", "fvcore", "torch")


def test_saved_activations_of_a_chain_are_those_of_hand_arithmetic():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 4, 1, bias=False),
    )
    trace = record(net, (torch.rand(2, 3, 10, 12),), "train")
    pixels = 2 * 10 * 12
    # The image and both convolutions' inputs, BN's input, and BN's saved mean and 1/σ; ReLU works
    # in place and its result is the last one's input.
    assert trace.saved_bytes == 4 * (3 * pixels + 8 * pixels + 8 * pixels + 2 * 8)
    assert trace.parameters == 27 * 8 + 16 + 32


def test_saved_activations_equal_those_of_a_real_pass():
    net = Own()
    seen = {}

    def pack(t):
        if not any(
            t.untyped_storage().data_ptr() == p.untyped_storage().data_ptr()
            for p in (*net.parameters(), *net.buffers())
        ):
            seen[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    x = torch.rand(1, 3, 16, 16)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y = net(x)
    assert record(net, (x,), "train").saved_bytes == sum(seen.values())
    del y


def test_the_solver_term_is_the_solvers_formula():
    assert solver_flops("eigh", 16, 72) == 72 * (11 * 16**3 + 16**2)
    with pytest.raises(UnknownName):
        solver_flops("eig", 16, 72)
    with pytest.raises(UnknownName, match="needs the solver itself"):
        solver_flops("auto", 16, 72)
    with pytest.raises(OptionError):
        solver_flops("eigh:floor=much", 16, 72)
