"""Mode compile: the full network is one graph, compiled before the clock starts, and each case has
a graph of its own.
"""

import shutil
from functools import partial

import pytest
import torch
from torch import nn

from swbench import norms
from swbench.case import EVAL, FOLDED, TRAIN, Case
from swbench.norms.layers import BatchWhiten2d
from swbench.probes import case_network, modes
from swbench.probes.network import NetworkWorkload
from swbench.probes.workload import Unsupported

CASE = {
    "model": "resnet20",
    "classes": 10,
    "image": (8, 8),
    "batch": 2,
    "group": 4,
    "threads": 0,
    "mode": "compile",
}


def small(model, *, norm, layers, solver, num_classes, group, placement, where):
    """A network of one convolution, one norm and one linear map."""
    norm = norms.build(norm, 8, group=group, solver=solver)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        norm,
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, num_classes),
    )


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """torch.compile without inductor's code generation."""
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    monkeypatch.setattr(case_network.models, "build", small)
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize(("norm", "layers"), [("bn", 0), ("swa", 5), ("swb", 5)])
def test_a_network_is_one_graph(norm, layers):
    workload = NetworkWorkload(Case(norm=norm, layers=layers, **CASE))
    assert workload.chosen["compiled"] == "1 graph, 0 breaks"
    samples = [workload.call() for _ in range(2)]
    assert all(sample.keys() == samples[0].keys() for sample in samples)
    assert workload.chosen["compiled"] == "1 graph, 0 breaks", (
        "nothing was compiled while it was timed"
    )
    (seconds,) = (
        measurement.samples
        for measurement in workload.finish()
        if measurement.metric == "compile_s"
    )
    assert seconds[0] > 0


@pytest.mark.parametrize("dtype", ["float32", "amp-bfloat16"])
@pytest.mark.parametrize("phase", [TRAIN, EVAL, FOLDED])
@pytest.mark.parametrize("norm", ["bn", "bw", "swa"])
def test_phases_and_autocast_are_one_graph_as_well(norm, phase, dtype):
    case = Case(norm=norm, layers=5 * (norm != "bn"), phase=phase, dtype=dtype, **CASE)
    workload = NetworkWorkload(case)
    assert ("forward_backward_s" in workload.call()) == (phase == TRAIN)
    assert workload.chosen["compiled"] == "1 graph, 0 breaks"
    if phase == FOLDED:
        whitens = any(isinstance(module, BatchWhiten2d) for module in workload._model.modules())
        assert not whitens
        assert workload.chosen["folded"] == ("0 of 1 norms" if norm == "swa" else "1 of 1 norms")


def test_a_row_names_the_solver_and_kernels_of_the_graph():
    eager = NetworkWorkload(Case(norm="swa", layers=5, **CASE | {"mode": "eager"}))
    compiled = NetworkWorkload(Case(norm="swa", layers=5, **CASE))
    assert compiled.chosen == eager.chosen | {"compiled": "1 graph, 0 breaks"}


def test_every_case_has_a_graph_of_its_own():
    """Torch runs a function eagerly once it was compiled eight times."""
    runs = [modes.Compiled(nn.Sequential(nn.Linear(3, n + 1))) for n in range(12)]
    for n, run in enumerate(runs):
        run.settle(lambda run=run: run(torch.ones(2, 3)).sum().backward())
        assert run.words == "1 graph, 0 breaks", n


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch itself looks, at a break
def test_graph_breaks_are_counted():
    class Broken(nn.Module):
        def forward(self, x):
            torch._dynamo.graph_break()
            return x * 2

    run = modes.Compiled(nn.Sequential(nn.Linear(3, 3), Broken()))
    run.settle(lambda: run(torch.ones(2, 3)).sum().backward())
    assert not run.words.endswith(" 0 breaks")


def test_compiling_while_timed_is_not_timed():
    workload = NetworkWorkload(Case(norm="bn", layers=0, **CASE))
    step = workload._step
    step.inputs = (step.inputs[0].repeat(2, 1, 1, 1),)
    step.cotangents = (step.cotangents[0].repeat(2, 1),)
    with pytest.raises(Unsupported, match="compiled again while it was timed"):
        workload.call()


def test_a_network_that_never_stops_compiling_is_unsupported():
    run, lengths = modes.Compiled(nn.Hardtanh()), iter(range(2, 100))
    with pytest.raises(Unsupported, match="compiles again"):
        run.settle(lambda: run(torch.ones(next(lengths))))


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None,
    reason="inductor needs a C++ compiler",
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch itself
def test_a_residual_network_through_inductor(monkeypatch):
    monkeypatch.undo()
    workload = NetworkWorkload(Case(norm="swb", layers=5, **CASE))
    assert workload.chosen["compiled"] == "1 graph, 0 breaks"
    assert workload.call()["forward_backward_s"] > 0
