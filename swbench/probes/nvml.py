"""One GPU as NVML sees it, found by UUID: clocks, throttling, utilisation, power, energy, and who
else is on it.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

THERMAL = 1
"""NVML_PERF_POLICY_THERMAL: the time clocks were held down by heat, which counts up even while
nobody looks.
"""

COUNTERS = ("gpu_thermal_s",)
"""Readings of which only differences mean anything; the others are a state."""


class Card:
    """Answers in SI units, None where there is none; a question that fails once is not asked again,
    and `notes` says so in a line.

    Nothing here raises: timings do not depend on NVML. `why` is given where there is no handle at
    all.
    """

    def __init__(self, nvml: Any, handle: Any, why: str = "") -> None:
        self._nvml, self._handle = nvml, handle
        self._dropped: set[str] = set()
        self._answers: dict[str, int] = {}
        self.notes: list[str] = [why] if why else []

    def utilisation(self) -> float | None:
        """The share of NVML's last window (1/6 to 1 s) in which a kernel ran."""
        rates = self._ask(
            "utilisation", lambda nvml, handle: nvml.nvmlDeviceGetUtilizationRates(handle).gpu
        )
        return None if rates is None else rates / 100

    def power_w(self) -> float | None:
        """Power drawn by the whole card."""
        found = self._ask("power", lambda nvml, handle: nvml.nvmlDeviceGetPowerUsage(handle))
        return None if found is None else found / 1000

    def energy_j(self) -> float | None:
        """Energy the card has drawn since the driver was loaded."""
        found = self._ask(
            "energy counter", lambda nvml, handle: nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        )
        return None if found is None else found / 1000

    def sm_hz(self) -> float | None:
        """The clock of the multiprocessors."""
        found = self._ask(
            "clocks", lambda nvml, handle: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)
        )
        return None if found is None else found * 1e6

    def throttle_reasons(self) -> int | None:
        """The bits of what holds the clocks down at this moment."""
        return self._ask("throttle reasons", _reasons)

    def thermal_s(self) -> float | None:
        """Seconds for which heat has held the clocks down since the driver was loaded."""
        found = self._ask(
            "thermal counter",
            lambda nvml, handle: nvml.nvmlDeviceGetViolationStatus(handle, THERMAL).violationTime,
        )
        return None if found is None else found * 1e-9

    def processes(self) -> tuple[int, ...]:
        """The ids of the processes that compute on the card, as far as NVML may see them."""
        found = self._ask(
            "processes",
            lambda nvml, handle: [
                one.pid for one in nvml.nvmlDeviceGetComputeRunningProcesses(handle)
            ],
        )
        return tuple(found or ())

    def used_bytes(self) -> int | None:
        """Memory that programs hold, without what the driver reserves for itself."""
        return self._ask("memory", _used_bytes)

    def look(self) -> dict[str, float]:
        """`gpu_throttle_reasons` (bits), `gpu_sm_hz` and `gpu_thermal_s` (a counter) at this
        moment; whatever NVML does not say is left out.
        """
        now = {
            "gpu_throttle_reasons": self.throttle_reasons(),
            "gpu_sm_hz": self.sm_hz(),
            "gpu_thermal_s": self.thermal_s(),
        }
        return {name: float(value) for name, value in now.items() if value is not None}

    def _ask(self, what: str, question: Callable[[Any, Any], Any]) -> Any:
        if self._handle is None or what in self._dropped:
            return None
        try:
            answer = question(self._nvml, self._handle)
        except (self._nvml.NVMLError, AttributeError) as problem:
            self._dropped.add(what)
            after = f" after {self._answers[what]} readings" if what in self._answers else ""
            self.notes.append(f"no {what}{after}: {problem}")
            return None
        self._answers[what] = self._answers.get(what, 0) + 1
        return answer


def around(
    before: Mapping[str, float], after: Mapping[str, float], wall_s: float
) -> dict[str, float]:
    """The readings around a block of `wall_s` seconds, from two looks: bits and clock as
    `<name>_before` and `<name>_after`, of the counter the difference.

    What only one of the looks has is left out; empty where they have nothing in common.
    """
    found: dict[str, float] = {}
    for name in before.keys() & after.keys():
        if name in COUNTERS:
            found[name] = after[name] - before[name]
        else:
            found |= {f"{name}_before": before[name], f"{name}_after": after[name]}
    return {"wall_s": wall_s, **{name: found[name] for name in sorted(found)}} if found else {}


@functools.cache
def card_of(uuid: str) -> Card:
    """The card with torch's `uuid`, one object a process; a card without answers where NVML has
    none of it.
    """
    try:
        import pynvml
    except ImportError:
        return Card(None, None, "NVML was not asked: the package nvidia-ml-py is not installed")
    return find(pynvml, uuid)


def find(nvml: Any, uuid: str) -> Card:
    """The card or MIG slice with this UUID. Devices are matched by UUID: NVML does not number them
    as CUDA_VISIBLE_DEVICES does.
    """
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as problem:
        return Card(nvml, None, f"no NVML: {problem}")
    bare = uuid.removeprefix("GPU-").removeprefix("MIG-")
    for prefix in ("GPU-", "MIG-"):
        try:
            handle = nvml.nvmlDeviceGetHandleByUUID(prefix + bare)
        except nvml.NVMLError as problem:
            last = problem
            continue
        return Card(
            nvml,
            handle,
            ("a MIG slice, for which NVML has no utilisation and no energy of its own")
            if prefix == "MIG-"
            else "",
        )
    return Card(nvml, None, f"NVML knows no device with UUID {bare}: {last}")


def _used_bytes(nvml: Any, handle: Any) -> int:
    # the first version counts what the driver reserves as used
    return int(nvml.nvmlDeviceGetMemoryInfo(handle, nvml.nvmlMemory_v2).used)


def _reasons(nvml: Any, handle: Any) -> int:
    ask = (
        getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None)
        or nvml.nvmlDeviceGetCurrentClocksThrottleReasons
    )
    return int(ask(handle))
