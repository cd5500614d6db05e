"""A network's workload on the fake GPU, small enough for a test."""

import dataclasses

from fake_gpu import FakeGpu
from fake_nvml import FakeNvml

from swbench.case import Case
from swbench.probes.network import NetworkWorkload
from swbench.probes.nvml import device_with_uuid

CASE = Case(
    model="resnet20",
    norm="swa",
    layers=5,
    solver="polar",
    classes=10,
    image=(8, 8),
    batch=2,
    group=4,
    device="cuda",
    threads=0,
)


def build(gpu=None, **fields):
    """The workload of `CASE` with other `fields`, and its GPU."""
    gpu = gpu or FakeGpu(tick_s=0.01)
    return NetworkWorkload(
        dataclasses.replace(CASE, **fields), gpu=gpu, nvml=device_with_uuid(FakeNvml(), gpu.uuid)
    ), gpu


def measured(measurements):
    """Samples by metric."""
    return {measurement.metric: measurement.samples for measurement in measurements}
