"""Every step of the GPU benchmark is a command that the command line takes."""

import importlib.util
from pathlib import Path

import pytest

from swbench.cli.app import start

SPEC = importlib.util.spec_from_file_location("gpu_benchmark", Path(__file__).parent.parent / "benchmarks" / "gpu.py")
gpu = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(gpu)


@pytest.mark.parametrize("name", [name for name, (_, arguments) in gpu.STEPS.items() if arguments and name != "selftest"])
def test_a_step_plans_something_for_a_gpu(name, capsys):
    assert start([*gpu.STEPS[name][1], "--device", "cuda", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "cuda" in said
    assert "cpu" not in said


def test_hot_and_cold_graph_and_eager_are_planned_for_a_gpu_alone(capsys):
    start([*gpu.STEPS["solvers"][1], "--device", "cpu,cuda", "--dry-run"])
    groups = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  c")]
    assert sum(line.startswith("cuda") for line in groups) == 2 * 4
    assert sum("graph cold" in line for line in groups) == 2
    assert [line for line in groups if line.startswith("cpu") and ("graph" in line or "cold" in line)] == []
