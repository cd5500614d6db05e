"""NVML's readings of a network's workload, and its notes where readings are missing. Timings never
depend on NVML.
"""

import pytest
from fake_gpu import FakeGpu
from fake_nvml import FakeNvml
from gpu_workload import CASE, build, measured

from swbench.case import CONTROL
from swbench.probes import network
from swbench.probes.network import NetworkWorkload
from swbench.probes.nvml import device_with_uuid


def test_utilisation_is_observed_of_every_row_but_the_control():
    workload, _ = build(FakeGpu(tick_s=0.5))
    samples = measured(workload.observe(("utilisation",)))
    assert set(samples["gpu_utilisation"]) == {0.4}
    control, _ = build(role=CONTROL)
    assert control.observe(("utilisation",)) == []


def test_missing_nvml_readings_are_recorded_and_timings_are_unchanged():
    gpu = FakeGpu(tick_s=0.5)
    nvml = device_with_uuid(FakeNvml(fail={"nvmlDeviceGetPowerUsage": 0}), gpu.uuid)
    workload = NetworkWorkload(CASE, gpu=gpu, nvml=nvml)
    assert "gpu_utilisation" in measured(workload.observe(("utilisation",)))
    assert workload.chosen["nvml"] == "no power: Unknown Error"
    assert workload.call()["forward_s"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("pids", "expected"),
    [((), None), ((7,), None), ((7, 8), "1 other process "), ((7, 8, 9), "2 other processes ")],
)
def test_other_programs_on_the_gpu_are_recorded_and_timings_are_unchanged(pids, expected):
    gpu = FakeGpu(tick_s=0.5)
    nvml = device_with_uuid(
        FakeNvml(
            nvmlDeviceGetComputeRunningProcesses=[type("Process", (), {"pid": pid}) for pid in pids]
        ),
        gpu.uuid,
    )
    workload = NetworkWorkload(CASE, gpu=gpu, nvml=nvml)
    assert workload.call()["forward_s"] == pytest.approx(0.5)
    workload.finish()
    assert workload.chosen.get("beside", "").partition("computed")[0] == (expected or "")


def test_a_machine_without_nvml_records_that_for_all_metrics(monkeypatch):
    monkeypatch.setattr(
        network, "nvml_device", lambda uuid: device_with_uuid(FakeNvml(fail={"nvmlInit": 0}), uuid)
    )
    workload = NetworkWorkload(CASE, gpu=FakeGpu(tick_s=0.5))
    assert workload.chosen["nvml"] == "no NVML: Unknown Error"
    assert workload.call()["forward_s"] == pytest.approx(0.5)
    workload.finish()
