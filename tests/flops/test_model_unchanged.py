"""After any count a model is what it was: whatever hangs on it, and whether its forward pass
succeeds or not.
"""

import random
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from swbench import count_flops

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from flops_agreement import changed, fingerprint


class Tied(nn.Module):
    """One module by two paths, and one parameter in two modules."""

    def __init__(self):
        super().__init__()
        shared = nn.Linear(6, 6)
        self.first, self.second = nn.Sequential(shared, nn.ReLU()), nn.ModuleList([shared])
        self.embedding, self.head = nn.Linear(6, 6), nn.Linear(6, 6)
        self.head.weight = self.embedding.weight

    def forward(self, x):
        return self.head(self.embedding(self.second[0](self.first(x))))


class PlainTensors(nn.Module):
    """Tensors that are no parameters or buffers, in attributes and containers, some with a
    history.
    """

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 6)
        self.scale = torch.ones(6)
        self.cached = {"bias": [torch.zeros(6)], 3: (torch.ones(6),)}
        self.derived = self.fc.weight * 2

    def forward(self, x):
        self.scale = self.scale * 2
        self.cached["bias"][0].add_(1)
        self.cached[str(x.device)] = x
        return functional.linear(x * self.scale, self.derived) + self.cached[3][0]


class Cached(nn.Module):
    """A bias that is looked up once in eval mode, as in LeViT."""

    def __init__(self):
        super().__init__()
        self.fc, self.table = nn.Linear(6, 6), nn.Parameter(torch.rand(6))
        self.cache = {}

    def forward(self, x):
        if not self.training:
            self.cache.setdefault(str(x.device), self.table[torch.arange(6)])
        return self.fc(x) + self.cache.get(str(x.device), self.table)


class Random(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.drop = nn.Linear(6, 6), nn.Dropout(0.5)
        self.own = torch.Generator().manual_seed(1)

    def forward(self, x):
        random.random()
        np.random.rand()
        noise = torch.rand(6) + torch.rand(6, generator=self.own) + float(torch.rand(()))
        return self.drop(self.fc(x)) + noise


class Uncopyable(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.lock, self.calls = nn.Linear(6, 6), threading.Lock(), [0]

    def forward(self, x):
        with self.lock:
            self.calls[0] += 1
        return self.fc(x)


def collecting():
    net, seen = nn.Sequential(nn.Linear(6, 6), nn.ReLU()), []
    net[0].register_forward_hook(lambda _module, _args, output: seen.append(output))
    net.seen = seen
    return net


def patched():
    net = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
    plain = net[0].forward
    net[0].forward = lambda x: plain(x) + net[0].weight.sum()
    return net


def with_gradients():
    net = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6))
    net(torch.rand(3, 6)).sum().backward()
    net[1].eval()
    net[0].weight.requires_grad_(False)
    return net


def in_inference_mode():
    with torch.inference_mode():
        return nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6))


def old_style(norm):
    def make():
        net = nn.Sequential(norm(nn.Linear(6, 6)))
        net(torch.rand(3, 6))
        return net

    return make


class NeedsValues(nn.Module):
    """One that cannot run on the meta device, with statistics that a pass changes."""

    def __init__(self):
        super().__init__()
        self.fc, self.norm, self.last = nn.Linear(6, 6), nn.BatchNorm1d(6), None

    def forward(self, x):
        self.last = self.norm(self.fc(x))
        return self.last if self.last.sum().item() < 1e9 else x


MODELS = {
    "tied": Tied,
    "plain tensors": PlainTensors,
    "cache": Cached,
    "random": Random,
    "lock": Uncopyable,
    "hook that collects": collecting,
    "patched forward": patched,
    "gradients and flags": with_gradients,
    "inference tensors": in_inference_mode,
    "old weight norm": old_style(nn.utils.weight_norm),
    "old spectral norm": old_style(nn.utils.spectral_norm),
    "weight norm": lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 6))),
    "spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6)),
    "recurrent": lambda: nn.LSTM(6, 6, num_layers=2, bidirectional=True),
    "lazy": lambda: nn.Sequential(nn.LazyLinear(6), nn.LazyBatchNorm1d()),
    "needs values": NeedsValues,
}


def raising(*_):
    raise ValueError("on purpose")


def look_at(net):
    if any(isinstance(p, nn.UninitializedParameter) for p in net.parameters()):
        return {name: (id(p), type(p), type(net)) for name, p in net.named_parameters()}
    return fingerprint(net)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("kind", MODELS)
def test_counting_leaves_the_model_unchanged(kind, mode):
    net = MODELS[kind]()
    before = look_at(net)
    for rule in ("paper", "fvcore", "torch"):
        count = count_flops(net, (6,), rule=rule, batch=3, mode=mode)
        assert count.total > 0 or count.uncounted
        assert changed(before, look_at(net)) == []


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("kind", MODELS)
def test_a_failed_count_leaves_the_model_unchanged(kind):
    net = MODELS[kind]()
    list(net.modules())[-1].register_forward_hook(raising)
    net.register_forward_hook(raising)  # where the last one is not called
    before = look_at(net)
    with pytest.raises(ValueError, match="on purpose"):
        count_flops(net, (6,), batch=3)
    assert changed(before, look_at(net)) == []


def test_a_hook_collects_from_the_copy():
    net = collecting()
    count_flops(net, (6,))
    assert net.seen == []
    net(torch.rand(2, 6))
    assert len(net.seen) == 1


def test_counting_leaves_the_input_unchanged():
    class Scales(nn.Module):
        def forward(self, x, named):
            return x.mul_(2) + named["y"].add_(1)

    x, y = torch.ones(2, 6), torch.ones(2, 6)
    count_flops(Scales(), (x, {"y": y}), rule="torch")
    assert torch.equal(x, torch.ones(2, 6))
    assert torch.equal(y, torch.ones(2, 6))


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_grad_mode_of_the_caller_does_not_affect_the_count(mode):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2))
    with mode():
        flags = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        count = count_flops(net, (3, 8, 8), rule="torch")
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == flags
    assert count.total == 2 * (27 * 4 * 36 + 4 * 36 * 2)
    assert all(not p.is_inference() for p in net.parameters())


def test_a_shape_takes_no_memory():
    """An image of 270 GB."""
    net = nn.Conv2d(3, 4, 1)
    for rule in ("paper", "fvcore"):
        assert count_flops(net, (3, 150_000, 150_000), rule=rule).total == 12 * 150_000**2
    with pytest.raises(RuntimeError, match=r"[Cc]hannel"):
        count_flops(net, (4, 150_000, 150_000))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler's own modules
def test_a_compiled_region_is_counted_as_it_was_written():
    net = nn.Sequential(torch.compile(nn.Linear(6, 6)), nn.Linear(6, 6))
    assert count_flops(net, (6,), rule="torch").total == 4 * 36
    assert count_flops(torch.compile(net), (6,), rule="fvcore").total == 2 * 36
