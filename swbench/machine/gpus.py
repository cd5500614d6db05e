"""The GPUs as NVML sees them: no CUDA context is made, so a run on the CPU leaves them alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from swbench.probes.nvml import NvmlDevice


def usage() -> list[dict[str, Any]]:
    """Each GPU's UUID, name, utilisation (a share), bytes of memory in use, and the ids of the
    processes that compute on it, as far as NVML says. Empty as `gpus`.
    """
    return _each(_used)


@contextmanager
def kept_awake() -> Iterator[None]:
    """NVML stays open, and with it the driver: without persistence mode it is loaded at each
    `nvmlInit`, and a card that has just been woken reads as busy.
    """
    nvml = _opened()
    try:
        yield
    finally:
        if nvml is not None:
            nvml.nvmlShutdown()


def gpus() -> list[dict[str, Any]]:
    """Each GPU's index, UUID, name, driver, memory, power limit, clocks and modes. Empty without
    NVML, a driver or a card.

    Devices are matched by UUID: NVML does not number them as CUDA_VISIBLE_DEVICES does.
    """
    return _each(_one)


def _each(read: Callable[[Any, int], dict[str, Any]]) -> list[dict[str, Any]]:
    nvml = _opened()
    if nvml is None:
        return []
    try:
        return [read(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError:
        return []
    finally:
        nvml.nvmlShutdown()


def _opened() -> Any:
    """NVML, to be shut down as often as it is opened; None without the package or a driver."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def missing() -> str | None:
    """Why no GPU is seen, in words; None where there is one."""
    try:
        import pynvml
    except ImportError:
        return "the package nvidia-ml-py is not installed"
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return str(error)
    try:
        return None if pynvml.nvmlDeviceGetCount() else "NVML sees no card"
    except pynvml.NVMLError as error:
        return str(error)
    finally:
        pynvml.nvmlShutdown()


def _used(nvml: Any, index: int) -> dict[str, Any]:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    device = NvmlDevice(nvml, handle)
    uuid, name = (
        text.decode() if isinstance(text, bytes) else text
        for text in (nvml.nvmlDeviceGetUUID(handle), nvml.nvmlDeviceGetName(handle))
    )
    return {
        "uuid": uuid,
        "name": name,
        "utilisation": device.utilisation(),
        "used_bytes": device.used_bytes(),
        "processes": device.processes(),
    }


def _one(nvml: Any, index: int) -> dict[str, Any]:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def ask(question: str, *arguments: Any) -> Any:
        """The answer, None where this card or driver does not support the question."""
        try:
            answer = getattr(nvml, question)(handle, *arguments)
        except (nvml.NVMLError, AttributeError):
            return None
        return answer.decode() if isinstance(answer, bytes) else answer

    held, power_mw, mig = (
        ask("nvmlDeviceGetMemoryInfo"),
        ask("nvmlDeviceGetPowerManagementLimit"),
        ask("nvmlDeviceGetMigMode"),
    )
    driver = nvml.nvmlSystemGetDriverVersion()
    return {
        "index": index,
        "uuid": ask("nvmlDeviceGetUUID"),
        "name": ask("nvmlDeviceGetName"),
        "driver": driver.decode() if isinstance(driver, bytes) else driver,
        "memory_bytes": held.total if held else None,
        "power_limit_w": power_mw / 1000 if power_mw else None,
        "max_sm_hz": (mhz := ask("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_SM)) and mhz * 10**6,
        "application_sm_hz": (mhz := ask("nvmlDeviceGetApplicationsClock", nvml.NVML_CLOCK_SM))
        and mhz * 10**6,
        "persistence": ask("nvmlDeviceGetPersistenceMode"),
        "compute_mode": ask("nvmlDeviceGetComputeMode"),
        "mig": mig[0] if mig else None,
    }
