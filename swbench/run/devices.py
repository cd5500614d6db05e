"""The check of the requested devices, before anything is measured or written: they exist, torch can
use them, and no other program does.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from swbench.case import device_kind
from swbench.errors import DeviceError, OptionError
from swbench.machine import gpus, hardware
from swbench.machine.software import PACKAGE_ROOT

BUSY_SHARE = 0.1
"""Utilisation by others from which a GPU counts as busy. Heuristic: a desktop stays below it."""

IDLE_BYTES = 64 * 2**20
"""Memory in use below which a GPU counts as idle whatever its utilisation: a CUDA context alone
takes some hundred MiB, and an idle GPU can read 100 % after its driver was loaded or errors were
corrected. Heuristic.
"""

BUSY_CHECKS, BUSY_PAUSE_S = 3, 1.0
"""Number of checks of a busy GPU and the seconds between them: NVML averages over up to a second,
and a run may just have ended.
"""

FLOAT16 = frozenset({"avx512_fp16", "amx_fp16", "avx10_2", "asimdhp"})
"""Features of processors with arithmetic in float16."""

_PROGRAM = """
import json, sys, warnings
import torch
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
properties = [torch.cuda.get_device_properties(index) for index in range(count)]
json.dump({
    "torch": torch.__version__,
    "cuda": torch.version.cuda,
    "warnings": [str(warning.message) for warning in caught],
    "devices": [
        {"name": gpu.name, "uuid": str(getattr(gpu, "uuid", "")), "bytes": gpu.total_memory}
        for gpu in properties
    ],
}, sys.stdout)
"""


def check(
    requested: Sequence[str] | None,
    *,
    allow_busy: bool = False,
    processes: int = 1,
    query_torch: Callable[[], Mapping[str, Any]] | None = None,
    gpu_usage: Callable[[], Sequence[Mapping[str, Any]]] | None = None,
    pause: Callable[[float], None] = time.sleep,
    notify: Callable[[str], None] = lambda text: None,
) -> tuple[str, ...]:
    """The devices to measure on: those `requested`, or else the CPU and, where torch can use one, a
    GPU.

    Raises DeviceError where a device does not exist (the message says whether torch's build, the
    driver or the index is wrong), and where another program uses its GPU. With `allow_busy` the
    latter only calls `notify`. `cuda` stands for as many GPUs as there are `processes`. Tests
    replace `query_torch`, `gpu_usage` and `pause`.
    """
    query_torch, gpu_usage = query_torch or torch_devices, gpu_usage or gpus.usage
    if requested is None:
        report = query_torch() if _may_have_gpu(gpu_usage) else {"devices": []}
        devices: tuple[str, ...] = ("cpu", "cuda") if report["devices"] else ("cpu",)
    else:
        devices = tuple(dict.fromkeys(requested))
        report = (
            query_torch()
            if any(device_kind(device) == "cuda" for device in devices)
            else {"devices": []}
        )
    for device in devices:
        if device_kind(device) == "cuda":
            devices_used = {device: _device_info(device, report, gpu_usage)}
            if device == "cuda" and processes > 1:
                devices_used = {
                    f"cuda:{index}": info
                    for index, info in enumerate(report["devices"][:processes])
                }
            for name, info in devices_used.items():
                if allow_busy and (users := _other_users(info, gpu_usage)):
                    notify(
                        f"--device {name}: {users} on the {info['name']}; measured beside it, as "
                        "--allow-busy says"
                    )
                elif not allow_busy:
                    _refuse_busy(name, info, gpu_usage, pause)
    return devices


def check_autocast(
    dtypes: Sequence[str] | None,
    devices: Sequence[str] | None,
    features: Callable[[], frozenset[str]] | None = None,
) -> None:
    """Raises OptionError for autocast to float16 on a CPU without float16 arithmetic, which would
    time conversions. bfloat16, autocast's default on a CPU, needs no arithmetic of its own: it is
    the upper half of a float32.
    """
    cpu_features = (features or hardware.features)()
    no_float16 = cpu_features and not cpu_features & FLOAT16
    if no_float16 and "amp-float16" in (dtypes or ()) and "cpu" in (devices or ("cpu",)):
        raise OptionError(
            "--dtype amp-float16: this CPU has no arithmetic in float16; choose --dtype "
            "amp-bfloat16, or --device cuda"
        )


def torch_devices(limit_s: float = 120.0) -> dict[str, Any]:
    """The CUDA devices that torch sees, read in a subprocess: this process stays without torch.
    Raises DeviceError where the subprocess fails or takes longer than `limit_s` seconds.
    """
    paths = os.pathsep.join(
        path for path in (str(PACKAGE_ROOT.parent), os.environ.get("PYTHONPATH")) if path
    )
    try:
        completed = subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            capture_output=True,
            text=True,
            timeout=limit_s,
            env={**os.environ, "PYTHONPATH": paths},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DeviceError(
            f"torch did not report its GPUs within {limit_s:.0f} s; use --device cpu"
        ) from None
    lines = completed.stdout.splitlines()
    if completed.returncode or not lines:
        last_line = (completed.stderr.strip().splitlines() or ["no output"])[-1]
        raise DeviceError(f"torch could not report its GPUs ({last_line[:300]}); use --device cpu")
    return json.loads(lines[-1])


def _device_info(
    device: str, report: Mapping[str, Any], gpu_usage: Callable[[], Sequence[Mapping[str, Any]]]
) -> Mapping[str, Any]:
    """Torch's properties of `device`. Raises DeviceError where it does not exist."""
    devices = report["devices"]
    if not report.get("cuda"):
        raise DeviceError(
            f"--device {device}: this torch ({report.get('torch')}) is built "
            "without CUDA; install a CUDA build of torch, or use --device cpu"
        )
    if not devices:
        names = [str(usage.get("name") or "a GPU") for usage in gpu_usage()]
        if hidden := os.environ.get("CUDA_VISIBLE_DEVICES"):
            why = f"CUDA_VISIBLE_DEVICES={hidden!r} leaves none; unset it"
        elif names:
            warning = (
                f" ({' '.join(report['warnings'][0].split())[:200]})"
                if report.get("warnings")
                else ""
            )
            why = (
                f"torch {report['torch']} for CUDA {report['cuda']} cannot use the {names[0]} "
                f"that is here{warning}; update the driver"
            )
        else:
            why = (
                f"there is no GPU on this machine ({gpus.no_gpu_reason() or 'torch sees none'}); "
                "run where there is one"
            )
        raise DeviceError(f"--device {device}: {why}, or use --device cpu")
    index = int(device.partition(":")[2] or 0)
    if index >= len(devices):
        available = ", ".join(
            f"cuda:{number} ({info['name']})" for number, info in enumerate(devices)
        )
        raise DeviceError(
            f"--device {device}: there "
            f"{'is one GPU' if len(devices) == 1 else f'are {len(devices)} GPUs'}, "
            f"{available}; use --device cuda"
        )
    return devices[index]


def _refuse_busy(
    device: str,
    info: Mapping[str, Any],
    gpu_usage: Callable[[], Sequence[Mapping[str, Any]]],
    pause: Callable[[float], None],
) -> None:
    with gpus.nvml_kept_open():
        for attempt in range(BUSY_CHECKS):
            if not (users := _other_users(info, gpu_usage)):
                return
            if attempt + 1 < BUSY_CHECKS:
                pause(BUSY_PAUSE_S)
    raise DeviceError(
        f"--device {device}: {users} on the {info['name']}; wait until it ends, "
        "or measure beside it with --allow-busy"
    )


def _other_users(
    info: Mapping[str, Any], gpu_usage: Callable[[], Sequence[Mapping[str, Any]]]
) -> str:
    """The other users of a GPU, in words; empty where there are none or NVML does not report them.

    In a container NVML may list no process of others. Then their utilisation counts, if memory is
    in use or NVML does not report how much is.
    """
    usage = (
        next((gpu for gpu in gpu_usage() if str(gpu.get("uuid", "")).endswith(info["uuid"])), {})
        if info["uuid"]
        else {}
    )
    others, share = usage.get("processes") or (), usage.get("utilisation") or 0.0
    if others:
        return (
            f"{len(others)} other process{'' if len(others) == 1 else 'es'} (pid "
            f"{', '.join(map(str, others))})"
        )
    used = usage.get("used_bytes")
    memory_in_use = used is None or used >= IDLE_BYTES
    return f"something else at {share:.0%}" if share >= BUSY_SHARE and memory_in_use else ""


def _may_have_gpu(gpu_usage: Callable[[], Sequence[Mapping[str, Any]]]) -> bool:
    """Whether there may be a GPU, so that it is worth two seconds to query torch."""
    return bool(gpu_usage()) or Path("/dev/nvidia0").exists()
