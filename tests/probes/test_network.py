"""The network workload builds what the case says, times both passes from one call, and alters
nothing to make it run.
"""

import dataclasses

import pytest
import torch

from swbench.case import EVAL, FOLDED, TRAIN, Case
from swbench.norms.layers import Whiten2d
from swbench.plan import Protocol
from swbench.probes import WORKLOADS
from swbench.probes.memory import peak_allocated
from swbench.probes.network import NetworkWorkload
from swbench.probes.workload import Unsupported, Workload
from swbench.worker.job import Job
from swbench.worker.main import workloads

CASE = Case(
    model="resnet20",
    norm="swa",
    layers=5,
    solver="eigh",
    classes=10,
    image=(8, 8),
    batch=2,
    group=4,
)


def test_one_call_times_forward_and_both():
    workload: Workload = NetworkWorkload(CASE)
    sample = workload.call()
    assert set(sample) == {
        "forward_s",
        "forward_backward_s",
        "forward_cpu_s",
        "forward_backward_cpu_s",
    }
    assert 0 < sample["forward_s"] < sample["forward_backward_s"]
    assert workload.chosen["solver"].startswith("eigh")
    assert "kernels" in workload.chosen


def test_gradients_are_those_of_one_call():
    workload = NetworkWorkload(CASE)
    model = workload._model
    assert model.training
    seen = []
    for _ in range(2):
        workload.call()
        seen.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.isfinite(grad).all() for grad in seen[0])
    assert all(torch.allclose(*pair, atol=1e-4, rtol=1e-3) for pair in zip(*seen, strict=True)), (
        "gradients were not dropped between calls"
    )


def test_two_processes_would_build_the_same():
    first, second = NetworkWorkload(CASE), NetworkWorkload(CASE)
    assert torch.equal(first._inputs[0], second._inputs[0])
    assert torch.equal(first._step.cotangents[0], second._step.cotangents[0])
    assert all(
        torch.equal(*pair)
        for pair in zip(first._model.parameters(), second._model.parameters(), strict=True)
    )


def test_dtype_and_layout_are_honoured():
    workload = NetworkWorkload(dataclasses.replace(CASE, dtype="float64", layout="channels_last"))
    assert {p.dtype for p in workload._model.parameters()} == {torch.float64}
    assert workload._inputs[0].is_contiguous(memory_format=torch.channels_last)
    workload.call()


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("mode", "graph", "need a CUDA device"),
        ("mode", "lazy", "no mode"),
        ("device", "cuda:7", "torch sees no device"),
        ("dtype", "tf32", "arithmetic of CUDA"),
    ],
)
def test_a_case_that_cannot_run_here_is_unsupported(field, value, reason):
    with pytest.raises(Unsupported, match=reason):
        NetworkWorkload(dataclasses.replace(CASE, **{field: value}))


def test_finish_measures_memory():
    measurements = {
        measurement.metric: measurement for measurement in NetworkWorkload(CASE).finish()
    }
    assert measurements["parameter_bytes"].unit == "B"
    assert measurements["peak_bytes"].samples[0] > measurements["parameter_bytes"].samples[0]


@pytest.mark.parametrize("requested", [False, True])
def test_a_worker_measures_memory_on_request(requested):
    job = Job(
        group="g",
        cases=(CASE,),
        replicate=0,
        attempt="a",
        protocol=Protocol(),
        workloads=dict(WORKLOADS),
        observe=("memory",) if requested else (),
        log="",
    )
    metrics = [measurement.metric for measurement in workloads(job)["network"](CASE).finish()]
    assert ("peak_bytes" in metrics) is requested
    assert "parameter_bytes" in metrics


def test_peak_memory_is_the_most_bytes_allocated_at_once():
    def call():
        a = torch.zeros(1000, 1000)
        b = a + 1
        del a
        return b * 2

    assert peak_allocated(call) == pytest.approx(8e6, rel=1e-3)


def test_a_case_of_several_processes_needs_as_many_ranks():
    with pytest.raises(Unsupported, match="run it with --nproc 2"):
        NetworkWorkload(dataclasses.replace(CASE, world=2))


@pytest.mark.parametrize("phase", [EVAL, FOLDED])
def test_in_eval_mode_one_forward_pass_is_timed_and_nothing_has_a_gradient(phase):
    workload = NetworkWorkload(dataclasses.replace(CASE, phase=phase))
    assert not any(module.training for module in workload._model.modules())
    before = {name: value.clone() for name, value in workload._model.named_buffers()}
    sample = workload.call()
    assert set(sample) == {"forward_s", "forward_cpu_s"}
    assert workload._step.forward().is_inference()
    assert all(parameter.grad is None for parameter in workload._model.parameters())
    assert all(torch.equal(before[name], v) for name, v in workload._model.named_buffers())
    assert {measurement.metric for measurement in workload.finish()} >= {
        "parameter_bytes",
        "peak_bytes",
    }


def test_running_statistics_in_eval_mode_are_those_of_the_input():
    workload = NetworkWorkload(dataclasses.replace(CASE, phase=EVAL))
    layer = next(m for m in workload._model.modules() if isinstance(m, Whiten2d))
    eye = torch.eye(CASE.group).expand_as(layer.running_cov)
    assert not torch.allclose(layer.running_cov, eye, atol=0.1)


def test_every_foldable_norm_is_folded_and_recorded():
    workload = NetworkWorkload(dataclasses.replace(CASE, phase=FOLDED))
    norm_layers = [
        m for m in workload._model.modules() if isinstance(m, Whiten2d | torch.nn.BatchNorm2d)
    ]
    assert {type(m).__name__ for m in norm_layers} == {"SwitchWhiten2d"}
    assert workload.chosen["folded"] == "14 of 19 norms"
    whitened = NetworkWorkload(dataclasses.replace(CASE, norm="bw", phase=FOLDED))
    assert whitened.chosen["folded"] == "19 of 19 norms"
    plain = NetworkWorkload(dataclasses.replace(CASE, norm="bw", phase=EVAL))
    y, exact = whitened._step.forward(), plain._step.forward()
    assert torch.allclose(y, exact, rtol=1e-3, atol=1e-3 * exact.abs().max().item())


@pytest.mark.parametrize("phase", [TRAIN, EVAL])
@pytest.mark.parametrize("narrow", ["bfloat16", "float16"])
def test_under_autocast_parameters_stay_float32_and_convolutions_are_narrow(narrow, phase):
    case = dataclasses.replace(CASE, dtype=f"amp-{narrow}", phase=phase, batch=1)
    workload = NetworkWorkload(case)
    seen = []
    conv = next(m for m in workload._model.modules() if isinstance(m, torch.nn.Conv2d))
    conv.register_forward_hook(lambda module, given, output: seen.append(output.dtype))
    assert ("forward_backward_s" in workload.call()) == (phase == TRAIN)
    assert seen == [getattr(torch, narrow)]
    assert {p.dtype for p in workload._model.parameters()} == {torch.float32}
    assert not torch.is_autocast_enabled("cpu"), "autocast ends with the forward pass"
    grads = [p.grad for p in workload._model.parameters()]
    if phase == TRAIN:
        assert {grad.dtype for grad in grads} == {torch.float32}
        assert all(torch.isfinite(grad).all() for grad in grads)
        assert workload._step.cotangents[0].dtype == getattr(torch, narrow)


def test_a_phase_without_a_backward_pass_is_refused_for_several_processes():
    with pytest.raises(Unsupported, match="phase eval has none; use --phase train"):
        NetworkWorkload(dataclasses.replace(CASE, phase=EVAL, world=2))
