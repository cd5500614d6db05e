"""NVML for tests: it answers from a table, or fails as the test asks."""

from types import SimpleNamespace


class NVMLError(Exception):
    """As pynvml's."""


class FakeNvml:
    """`fail` maps the name of a function to the number of calls that succeed before it fails;
    `answers` overrides what they return.
    """

    NVMLError = NVMLError
    NVML_CLOCK_SM = 1

    def __init__(self, uuids=("GPU-11111111-2222-3333-4444-555555555555",), fail=None, **answers):
        self.uuids, self.fail, self.calls = uuids, dict(fail or {}), []
        self.energy_mj = 0
        self.answers = {
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=40),
            "nvmlDeviceGetPowerUsage": 300_000,
            "nvmlDeviceGetClockInfo": 1980,
            "nvmlDeviceGetCurrentClocksEventReasons": 0,
            "nvmlDeviceGetViolationStatus": SimpleNamespace(violationTime=0),
            "nvmlDeviceGetComputeRunningProcesses": [],
            **answers,
        }

    def nvmlInit(self):
        self._count("nvmlInit")

    def nvmlDeviceGetHandleByUUID(self, uuid):
        if uuid not in self.uuids:
            raise NVMLError("Not Found")
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        self._count("nvmlDeviceGetTotalEnergyConsumption")
        self.energy_mj += 6_000_000
        return self.energy_mj

    def __getattr__(self, name):
        if name not in self.__dict__.get("answers", {}):
            raise AttributeError(name)

        def answer(handle, *arguments):
            self._count(name)
            value = self.answers[name]
            return value() if callable(value) else value

        return answer

    def _count(self, name):
        self.calls.append(name)
        if name in self.fail and self.calls.count(name) > self.fail[name]:
            raise NVMLError("Unknown Error")
