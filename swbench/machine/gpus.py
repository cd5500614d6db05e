"""The GPUs as NVML sees them: no CUDA context is made, so a run on the CPU leaves them alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from swbench.probes.nvml import NvmlDevice


def usage() -> list[dict[str, Any]]:
    """For each GPU its UUID, name, utilisation (a share), bytes of memory in use, and the ids of
    the processes that compute on it; None for readings that NVML does not give. Empty where `gpus`
    is.
    """
    return _each(_usage)


@contextmanager
def nvml_kept_open() -> Iterator[None]:
    """A context in which NVML and so the driver stay loaded. Without persistence mode each
    `nvmlInit` loads the driver, and a GPU reads as busy right after that.
    """
    nvml = _open_nvml()
    try:
        yield
    finally:
        if nvml is not None:
            nvml.nvmlShutdown()


def gpus() -> list[dict[str, Any]]:
    """For each GPU its index, UUID, name, driver, memory, power limit, clocks and modes. Empty
    without NVML, a driver or a GPU.

    Devices are matched by UUID: NVML does not number them as CUDA_VISIBLE_DEVICES does.
    """
    return _each(_facts)


def _each(read: Callable[[Any, int], dict[str, Any]]) -> list[dict[str, Any]]:
    nvml = _open_nvml()
    if nvml is None:
        return []
    try:
        return [read(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError:
        return []
    finally:
        nvml.nvmlShutdown()


def _open_nvml() -> Any:
    """pynvml, initialised; the caller must shut it down once. None without the package or a
    driver.
    """
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def no_gpu_reason() -> str | None:
    """Why NVML sees no GPU, as text; None where it sees one."""
    try:
        import pynvml
    except ImportError:
        return "the package nvidia-ml-py is not installed"
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return str(error)
    try:
        return None if pynvml.nvmlDeviceGetCount() else "NVML sees no GPU"
    except pynvml.NVMLError as error:
        return str(error)
    finally:
        pynvml.nvmlShutdown()


def _usage(nvml: Any, index: int) -> dict[str, Any]:
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


def _facts(nvml: Any, index: int) -> dict[str, Any]:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def query(question: str, *arguments: Any) -> Any:
        """The value, or None where this GPU or driver does not support the query."""
        try:
            value = getattr(nvml, question)(handle, *arguments)
        except (nvml.NVMLError, AttributeError):
            return None
        return value.decode() if isinstance(value, bytes) else value

    memory, power_mw, mig = (
        query("nvmlDeviceGetMemoryInfo"),
        query("nvmlDeviceGetPowerManagementLimit"),
        query("nvmlDeviceGetMigMode"),
    )
    driver = nvml.nvmlSystemGetDriverVersion()
    return {
        "index": index,
        "uuid": query("nvmlDeviceGetUUID"),
        "name": query("nvmlDeviceGetName"),
        "driver": driver.decode() if isinstance(driver, bytes) else driver,
        "memory_bytes": memory.total if memory else None,
        "power_limit_w": power_mw / 1000 if power_mw else None,
        "max_sm_hz": (mhz := query("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_SM))
        and mhz * 10**6,
        "application_sm_hz": (mhz := query("nvmlDeviceGetApplicationsClock", nvml.NVML_CLOCK_SM))
        and mhz * 10**6,
        "persistence": query("nvmlDeviceGetPersistenceMode"),
        "compute_mode": query("nvmlDeviceGetComputeMode"),
        "mig": mig[0] if mig else None,
    }
