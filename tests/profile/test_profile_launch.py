"""A profile in a process of its own, the calibration of its roof, and errors while profiling."""

import json

import pytest
import torch

from swbench.case import Case, SolverCase
from swbench.errors import OptionError, ProfileFailed
from swbench.probes.workload import Unsupported
from swbench.profile import launch, worker
from swbench.profile.calibration import calibrate
from swbench.profile.launch import profile_case
from swbench.profile.measure import measure

CASE = Case(
    model="resnet20", norm="swa", layers=5, solver="eigh", classes=10, image=(16, 16), batch=2
)


def test_a_fresh_process_gives_a_profile(tmp_path):
    trace = tmp_path / "t.json"
    profile = profile_case(Case(model="resnet20", classes=10, image=(8, 8)), 1, trace)
    assert profile.roof.flops_per_s > 0
    assert profile.roof.bytes_per_s > 0
    assert profile.environment["threads"] == "1"
    assert json.loads(trace.read_text())["traceEvents"]


def test_a_case_that_cannot_be_profiled_is_refused_with_its_reason(monkeypatch):
    with pytest.raises(OptionError, match="at least 1"):
        profile_case(CASE, 0)
    with pytest.raises(OptionError, match="network"):
        profile_case(SolverCase(solver="eigh", batch=2))
    with pytest.raises(Unsupported, match="eager"):
        measure(Case(model="resnet20", mode="compile"), 1)
    monkeypatch.setattr(launch.sys, "executable", "false")
    with pytest.raises(ProfileFailed, match="code 1"):
        profile_case(CASE)


def raising(problem):
    def fail(*_):
        raise problem

    return fail


@pytest.mark.parametrize(
    ("problem", "status", "detail"),
    [
        (MemoryError(), "out_of_memory", "memory"),
        (torch.OutOfMemoryError("no 8 GiB left\nlong story"), "out_of_memory", "no 8 GiB left"),
        (Unsupported("not here"), "unsupported", "not here"),
        (OptionError("too small"), "refused", "too small"),
    ],
)
def test_an_error_while_profiling_is_answered_with_its_status(monkeypatch, problem, status, detail):
    monkeypatch.setattr("swbench.profile.measure.measure", raising(problem))
    answer = worker.answer({"case": CASE.to_json(), "iterations": 1, "trace": None})
    assert answer["status"] == status
    assert detail in answer["detail"]


def test_calibration_finds_rates():
    roof = calibrate(torch.device("cpu"), torch.float32, sides=(8,), copy_bytes=4096)
    assert roof.flops_per_s > 0
    assert roof.bytes_per_s > 0
