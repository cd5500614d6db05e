"""One GPU as NVML sees it, looked up by UUID: clocks, throttling, utilisation, power, energy,
memory and the processes on it.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

THERMAL = 1
"""NVML_PERF_POLICY_THERMAL, the counter of the time for which heat held the clocks down. It counts
between readings too.
"""

COUNTERS = ("gpu_thermal_s",)
"""Readings that are counters: only differences mean anything. The others are a state."""


class NvmlDevice:
    """Readings of one device in SI units; None where NVML gives none. Nothing here raises, so
    timings do not depend on NVML.

    A query that fails once is not repeated, and `notes` gets a line about it. `handle` is NVML's
    device handle, or None where there is no device; `reason` then says why.
    """

    def __init__(self, nvml: Any, handle: Any, reason: str = "") -> None:
        self._nvml, self._handle = nvml, handle
        self._failed: set[str] = set()
        self._successes: dict[str, int] = {}
        self.notes: list[str] = [reason] if reason else []

    def utilisation(self) -> float | None:
        """The share of NVML's last window (1/6 to 1 s) in which a kernel ran."""
        rates = self._read(
            "utilisation", lambda nvml, handle: nvml.nvmlDeviceGetUtilizationRates(handle).gpu
        )
        return None if rates is None else rates / 100

    def power_w(self) -> float | None:
        """Power that the whole board draws."""
        milliwatts = self._read("power", lambda nvml, handle: nvml.nvmlDeviceGetPowerUsage(handle))
        return None if milliwatts is None else milliwatts / 1000

    def energy_j(self) -> float | None:
        """Energy that the board has drawn since the driver was loaded."""
        millijoules = self._read(
            "energy counter", lambda nvml, handle: nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        )
        return None if millijoules is None else millijoules / 1000

    def sm_hz(self) -> float | None:
        """The clock of the multiprocessors."""
        megahertz = self._read(
            "clocks", lambda nvml, handle: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)
        )
        return None if megahertz is None else megahertz * 1e6

    def throttle_reasons(self) -> int | None:
        """Bit mask of the reasons that hold the clocks down at this moment."""
        return self._read("throttle reasons", _reasons)

    def thermal_s(self) -> float | None:
        """Seconds for which heat has held the clocks down since the driver was loaded."""
        nanoseconds = self._read(
            "thermal counter",
            lambda nvml, handle: nvml.nvmlDeviceGetViolationStatus(handle, THERMAL).violationTime,
        )
        return None if nanoseconds is None else nanoseconds * 1e-9

    def processes(self) -> tuple[int, ...]:
        """Ids of the processes that compute on the device, as far as NVML may see them."""
        process_ids = self._read(
            "processes",
            lambda nvml, handle: [
                process.pid for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle)
            ],
        )
        return tuple(process_ids or ())

    def used_bytes(self) -> int | None:
        """Bytes that programs hold, without the driver's own reservation."""
        return self._read("memory", _used_bytes)

    def readings(self) -> dict[str, float]:
        """`gpu_throttle_reasons` (bits), `gpu_sm_hz` and `gpu_thermal_s` (a counter) at this
        moment; readings that NVML does not give are left out.
        """
        values = {
            "gpu_throttle_reasons": self.throttle_reasons(),
            "gpu_sm_hz": self.sm_hz(),
            "gpu_thermal_s": self.thermal_s(),
        }
        return {name: float(value) for name, value in values.items() if value is not None}

    def _read(self, name: str, query: Callable[[Any, Any], Any]) -> Any:
        if self._handle is None or name in self._failed:
            return None
        try:
            value = query(self._nvml, self._handle)
        except (self._nvml.NVMLError, AttributeError) as problem:
            self._failed.add(name)
            after = f" after {self._successes[name]} readings" if name in self._successes else ""
            self.notes.append(f"no {name}{after}: {problem}")
            return None
        self._successes[name] = self._successes.get(name, 0) + 1
        return value


def block_readings(
    before: Mapping[str, float], after: Mapping[str, float], wall_s: float
) -> dict[str, float]:
    """The readings of a block of `wall_s` seconds, from the readings `before` and `after` it:
    states as `<name>_before` and `<name>_after`, counters as their difference.

    Names that only one side has are left out. The result is empty where the sides share no name.
    """
    readings: dict[str, float] = {}
    for name in before.keys() & after.keys():
        if name in COUNTERS:
            readings[name] = after[name] - before[name]
        else:
            readings |= {f"{name}_before": before[name], f"{name}_after": after[name]}
    return (
        {"wall_s": wall_s, **{name: readings[name] for name in sorted(readings)}}
        if readings
        else {}
    )


@functools.cache
def nvml_device(uuid: str) -> NvmlDevice:
    """The device with torch's `uuid`, one object for each process. It has no readings where NVML or
    the device is missing.
    """
    try:
        import pynvml
    except ImportError:
        return NvmlDevice(
            None, None, "NVML was not asked: the package nvidia-ml-py is not installed"
        )
    return device_with_uuid(pynvml, uuid)


def device_with_uuid(nvml: Any, uuid: str) -> NvmlDevice:
    """The GPU or MIG slice with this UUID; a device without readings where `nvml` knows none.
    Devices are matched by UUID, because NVML does not number them as CUDA_VISIBLE_DEVICES does.
    """
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as problem:
        return NvmlDevice(nvml, None, f"no NVML: {problem}")
    bare_uuid = uuid.removeprefix("GPU-").removeprefix("MIG-")
    for prefix in ("GPU-", "MIG-"):
        try:
            handle = nvml.nvmlDeviceGetHandleByUUID(prefix + bare_uuid)
        except nvml.NVMLError as problem:
            error = problem
            continue
        return NvmlDevice(
            nvml,
            handle,
            ("a MIG slice, for which NVML has no utilisation and no energy of its own")
            if prefix == "MIG-"
            else "",
        )
    return NvmlDevice(nvml, None, f"NVML knows no device with UUID {bare_uuid}: {error}")


def _used_bytes(nvml: Any, handle: Any) -> int:
    # the first version counts what the driver reserves as used
    return int(nvml.nvmlDeviceGetMemoryInfo(handle, nvml.nvmlMemory_v2).used)


def _reasons(nvml: Any, handle: Any) -> int:
    query = (
        getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None)
        or nvml.nvmlDeviceGetCurrentClocksThrottleReasons
    )
    return int(query(handle))
