"""Networks that return several tensors, or take other inputs than images, are measured like all
others.
"""

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from swbench import models
from swbench.case import Case
from swbench.models.outputs import floating, tensors
from swbench.models.swapping import swap_norms
from swbench.probes.flops import flops_measurements
from swbench.probes.network import NetworkWorkload
from swbench.probes.workload import Unsupported

Pair = namedtuple("Pair", "map extra")


@dataclass
class Named:
    logits: torch.Tensor
    hidden: tuple
    note: str = ""


KINDS = {
    "tuple": lambda y, z: (y, z),
    "namedtuple": Pair,
    "list": lambda y, z: [y, [z]],
    "dict": lambda y, z: {"y": y, "rest": {"z": z, "none": None}},
    "dataclass": lambda y, z: Named(y, (z,)),
    "detached": lambda y, z: {"argmax": y.argmax(1), "y": y, "seen": y.detach(), "z": z},
}


class Net(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 16, 1), nn.BatchNorm2d(16)
        self.first, self.second = nn.Linear(16, 2), nn.Linear(16, 3)
        self.wrap = wrap

    def forward(self, x):
        x = self.norm(self.conv(x)).relu().mean((2, 3))
        return self.wrap(self.first(x), self.second(x))


CASE = {"image": (4, 4), "batch": 2, "threads": 0}


@pytest.mark.parametrize("kind", KINDS)
def test_every_floating_tensor_of_an_output_has_a_cotangent(kind, model_tables):
    wrap = KINDS[kind]
    models.add("own", lambda norm_at, classes: swap_norms(Net(wrap), norm_at))
    workload = NetworkWorkload(Case(model="own", **CASE))
    assert workload.call().keys() >= {"forward_s", "forward_backward_s"}
    assert len(workload._step.cotangents) == (3 if kind == "detached" else 2)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in workload._model.parameters())
    assert any(m.metric == "peak_bytes" for m in workload.finish())


def test_tensors_are_found_in_order_however_nested():
    a, b, c = torch.ones(1), torch.ones(2), torch.ones(3, dtype=torch.long)
    assert [len(t) for t in tensors({"x": (a, [b]), "y": Named(c, (a,)), "z": None})] == [
        1,
        2,
        3,
        1,
    ]
    assert [len(t) for t in floating((a, c, "text", b))] == [1, 2]


def test_an_output_without_numbers_is_unsupported(model_tables):
    models.add("own", lambda norm_at, classes: swap_norms(Net(lambda y, z: "nothing"), norm_at))
    with pytest.raises(Unsupported, match="returns no floating-point tensor"):
        NetworkWorkload(Case(model="own", **CASE))


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.norm = nn.Embedding(10, 16), nn.BatchNorm2d(16)

    def forward(self, tokens, scale):
        return self.norm(self.embed(tokens).permute(0, 2, 1)[..., None]) * scale[:, None, None]


def token_inputs(batch, image, generator):
    return (
        torch.randint(10, (batch, image[1]), generator=generator),
        torch.randn(batch, 1, generator=generator),
    )


def test_a_network_takes_what_its_inputs_hook_makes(model_tables):
    models.add("own", lambda norm_at, n: swap_norms(Tokens(), norm_at), inputs=token_inputs)
    case = Case(model="own", dtype="float64", **CASE)
    workload = NetworkWorkload(case)
    assert [tensor.dtype for tensor in workload._inputs] == [torch.int64, torch.float64]
    assert workload._inputs[0].shape == (2, 4)
    workload.call()
    assert workload._model.embed.weight.grad is not None
    counted = {m.metric: m.samples[0] for m in flops_measurements(case)[0]}
    assert counted["parameters"] == 10 * 16 + 2 * 16


def test_a_hook_that_makes_no_tensors_is_one_line(model_tables):
    from swbench.errors import OptionError

    for hook, words in (
        (lambda *_: 3, "must give tensors, not int"),
        (lambda: 1, "inputs hook fails"),
    ):
        models.add(f"own-{words[0]}", lambda norm_at, n: Tokens(), inputs=hook)
        with pytest.raises(OptionError, match=words):
            models.inputs(f"own-{words[0]}", 2, (4, 4))
