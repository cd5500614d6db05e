"""NVML may be missing or fail at any moment: that gives one note, and changes nothing else."""

import pytest
from fake_gpu import FakeGpu
from fake_nvml import FakeNvml

from swbench.probes import sustained_load
from swbench.probes.nvml import NvmlDevice, block_readings, device_with_uuid
from swbench.stats import disturbance_rule as marking

UUID = FakeGpu.uuid


def samples(measurements):
    return {measurement.metric: measurement.samples for measurement in measurements}


def ticks(number):
    """A wait function that lets a sampler read `number` times, without any time passing."""
    return iter([False] * (number - 1) + [True]).__next__


def observe(nvml, metrics=("utilisation", "energy"), tick_s=0.05):
    gpu, device = FakeGpu(tick_s=tick_s), device_with_uuid(nvml, UUID)
    queued, wait = [], ticks(50)
    sampler = sustained_load.Sampler(device, lambda seconds: wait())
    samples_by_metric = samples(
        sustained_load.observe(lambda: queued.append(1), 4, gpu, device, metrics, sampler)
    )
    return samples_by_metric, device, gpu, queued


def test_units_are_si():
    device = device_with_uuid(
        FakeNvml(nvmlDeviceGetViolationStatus=type("V", (), {"violationTime": 2_000_000_000})), UUID
    )
    assert (
        device.utilisation(),
        device.power_w(),
        device.energy_j(),
        device.sm_hz(),
        device.thermal_s(),
    ) == (0.4, 300.0, 6000.0, 1.98e9, 2.0)
    assert device.notes == []


@pytest.mark.parametrize("uuid", [UUID, f"GPU-{UUID}"])
def test_the_device_is_matched_by_uuid(uuid):
    assert device_with_uuid(FakeNvml(), uuid).power_w() == 300.0


def test_an_unknown_uuid_has_no_readings_and_a_note():
    device = device_with_uuid(FakeNvml(), "99999999-0000-0000-0000-000000000000")
    assert device.power_w() is None
    assert len(device.notes) == 1
    assert "Not Found" in device.notes[0]


def test_a_driver_without_nvml_is_one_line():
    device = device_with_uuid(FakeNvml(fail={"nvmlInit": 0}), UUID)
    assert (device.utilisation(), device.throttle_reasons(), device.processes()) == (None, None, ())
    assert device.notes == ["no NVML: Unknown Error"]


def test_a_mig_slice_is_noted():
    assert "MIG" in device_with_uuid(FakeNvml(uuids=(f"MIG-{UUID}",)), UUID).notes[0]


def test_failing_on_the_third_call_leaves_two_readings_and_one_note():
    samples, device, _, _ = observe(FakeNvml(fail={"nvmlDeviceGetUtilizationRates": 2}))
    assert len(samples["gpu_utilisation"]) == 2
    assert len(samples["gpu_power"]) == 50
    assert device.notes == ["no utilisation after 2 readings: Unknown Error"]


def test_the_loop_lasts_ten_seconds_with_every_reading():
    samples, _, gpu, queued = observe(FakeNvml())
    assert samples["gpu_loop"][0] >= 10.0
    assert samples["gpu_utilisation"] == (0.4,) * 50
    blocks = round(samples["gpu_loop"][0] / 0.05)
    assert samples["gpu_energy"][0] == pytest.approx(6000.0 / (4 * blocks), rel=0.02), (
        "one reading before, one after, over every iteration between"
    )
    assert len(queued) - blocks == pytest.approx(sustained_load.SETTLE_S / 0.05, abs=2)
    assert gpu.waits.count("event") == len(queued) - 2, "two blocks in flight, no more"


def test_a_loop_that_fails_leaves_no_thread_behind():
    device = device_with_uuid(FakeNvml(), UUID)
    sampler = sustained_load.Sampler(device)
    turns = iter(range(30))
    with pytest.raises(StopIteration):
        sustained_load.observe(
            lambda: next(turns), 1, FakeGpu(tick_s=0.05), device, ("utilisation",), sampler
        )
    assert not sampler._thread.is_alive()


def test_energy_alone_takes_five_seconds():
    samples, _, _, _ = observe(FakeNvml(), metrics=("energy",))
    assert 5.0 <= samples["gpu_loop"][0] < 6.0
    assert "gpu_utilisation" not in samples


def test_without_an_energy_counter_the_rest_is_measured():
    samples, device, _, _ = observe(FakeNvml(fail={"nvmlDeviceGetTotalEnergyConsumption": 0}))
    assert "gpu_energy" not in samples
    assert samples["gpu_utilisation"]
    assert device.notes == ["no energy counter: Unknown Error"]


def test_only_requested_metrics_are_observed():
    assert observe(FakeNvml(), metrics=("time",))[0] == {}


def block(wall_s=1.0, **answers):
    """The readings of a block of `wall_s` seconds on a device with these answers."""
    device = device_with_uuid(FakeNvml(**answers), UUID)
    return block_readings(device.readings(), device.readings(), wall_s)


def test_the_readings_of_both_ends_are_stored_unchanged():
    held_ns, clocks = iter([10**9, 10**9]), iter([1980, 1200])
    readings = block(
        0.25,
        nvmlDeviceGetCurrentClocksEventReasons=0x4,
        nvmlDeviceGetClockInfo=lambda: next(clocks),
        nvmlDeviceGetViolationStatus=lambda: type("V", (), {"violationTime": next(held_ns)}),
    )
    bits = {"gpu_throttle_reasons_before": 4.0, "gpu_throttle_reasons_after": 4.0}
    assert readings == {
        "wall_s": 0.25,
        "gpu_sm_hz_before": 1.98e9,
        "gpu_sm_hz_after": 1.2e9,
        "gpu_thermal_s": 0.0,
        **bits,
    }
    assert not marking.exceeds_rule(readings), "neither a lower clock nor the power cap is a harm"


@pytest.mark.parametrize("seen", [(0x40, 0), (0, 0x40), (0x40, 0x40)])
def test_a_throttle_at_either_end_marks_the_block(seen):
    reasons = iter(seen)
    assert marking.exceeds_rule(block(nvmlDeviceGetCurrentClocksEventReasons=lambda: next(reasons)))


def test_a_throttle_in_mid_block_shows_in_the_counter_though_no_reading_saw_it():
    held_ns = iter([0, 300_000_000])
    readings = block(
        nvmlDeviceGetViolationStatus=lambda: type("V", (), {"violationTime": next(held_ns)})
    )
    assert (readings["gpu_throttle_reasons_before"], readings["gpu_throttle_reasons_after"]) == (
        0.0,
        0.0,
    )
    assert readings["gpu_thermal_s"] == pytest.approx(0.3)
    assert marking.exceeds_rule(readings)


def test_a_reading_that_fails_in_mid_block_is_left_out():
    readings = block(fail={"nvmlDeviceGetClockInfo": 1})
    assert "gpu_sm_hz_before" not in readings
    assert "gpu_thermal_s" in readings


def test_a_device_without_readings_gives_none_like_a_cpu():
    device = NvmlDevice(None, None, "no NVML")
    assert device.readings() == block_readings(device.readings(), device.readings(), 1.0) == {}
