"""Measurements of collectives from a profiler's events, on the host and as kernels."""

import pytest

from swbench.probes.communication import collective_measurements


class Event:
    """An event with the methods of torch's kineto events."""

    def __init__(self, name, start, duration, device="CPU", shapes=(), dtypes=()):
        self._name, self._start, self._duration, self._device, self._shapes, self._dtypes = (
            name,
            start,
            duration,
            device,
            shapes,
            dtypes,
        )

    def name(self):
        return self._name

    def start_ns(self):
        return self._start

    def duration_ns(self):
        return self._duration

    def device_type(self):
        return f"DeviceType.{self._device}"

    def shapes(self):
        return self._shapes

    def dtypes(self):
        return self._dtypes


def accounted(events, kernels):
    return {
        measurement.metric: measurement.samples[0]
        for measurement in collective_measurements(events, kernels)
    }


def test_gloos_collectives_are_timed_on_the_host_and_overlap_counts_once():
    events = [
        Event("gloo:all_gather", 0, 100, shapes=[[3, 2], []], dtypes=["float", ""]),
        Event("gloo:all_reduce", 50, 100, shapes=[[4]], dtypes=["double"]),
    ]
    measurements = accounted([*events, Event("aten::mm", 0, 900)], kernels=False)
    assert measurements == {
        "communication_calls": 2,
        "communication_bytes": 56,
        "communication_s": pytest.approx(150e-9),
    }


def test_nccls_are_timed_by_their_kernels_and_counted_on_the_host():
    events = [
        Event("nccl:all_reduce", 0, 5, shapes=[[4]], dtypes=["float"]),
        Event("nccl:all_reduce", 10, 80, "CUDA"),
    ]
    kernel = Event("ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevComm*)", 20, 70, "CUDA")
    measurements = accounted([*events, kernel, Event("void gemm", 0, 500, "CUDA")], kernels=True)
    assert measurements == {
        "communication_calls": 1,
        "communication_bytes": 16,
        "communication_s": pytest.approx(70e-9),
    }


def test_without_kernels_there_is_no_communication_time():
    assert set(accounted([Event("nccl:all_reduce", 0, 5)], kernels=True)) == {
        "communication_calls",
        "communication_bytes",
    }
