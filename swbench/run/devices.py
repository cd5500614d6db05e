"""Whether the devices asked for are here and free, said in one line before anything is measured or
written.
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
"""Utilisation by others from which a GPU counts as busy. Heuristic: a desktop's screen is below
it.
"""

HELD_BYTES = 64 * 2**20
"""Memory in use below which nobody computes on a GPU, whatever its utilisation reads: a CUDA
context alone takes some hundred MiB, and a card whose driver was just loaded, or that had errors
corrected, can read 100 % while it idles. Heuristic.
"""

LOOKS, PAUSE_S = 3, 1.0
"""How often a busy GPU is looked at again, and the pause: NVML averages over up to a second, and a
run may just have ended.
"""

FLOAT16 = frozenset({"avx512_fp16", "amx_fp16", "avx10_2", "asimdhp"})
"""Features of processors with arithmetic in float16."""

_PROGRAM = """
import json, sys, warnings
import torch
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
found = [torch.cuda.get_device_properties(index) for index in range(count)]
json.dump({
    "torch": torch.__version__,
    "cuda": torch.version.cuda,
    "said": [str(one.message) for one in said],
    "devices": [
        {"name": one.name, "uuid": str(getattr(one, "uuid", "")), "bytes": one.total_memory}
        for one in found
    ],
}, sys.stdout)
"""


def check(
    asked: Sequence[str] | None,
    *,
    allow_busy: bool = False,
    processes: int = 1,
    ask: Callable[[], Mapping[str, Any]] | None = None,
    cards: Callable[[], Sequence[Mapping[str, Any]]] | None = None,
    pause: Callable[[float], None] = time.sleep,
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[str, ...]:
    """The devices to measure on: those asked for, or else the CPU and, where torch can use one, a
    GPU.

    Raises DeviceError where a device asked for is not here, saying whether it is torch's build, the
    driver or the number that is wrong, and where another program uses a GPU that would be measured;
    with `allow_busy` that is only told, by `tell`. `cuda` stands for as many GPUs as there are
    `processes`. `ask`, `cards` and `pause` stand for the outside in tests.
    """
    ask, cards = ask or torch_devices, cards or gpus.usage
    if asked is None:
        found = ask() if _maybe_a_gpu(cards) else {"devices": []}
        devices: tuple[str, ...] = ("cpu", "cuda") if found["devices"] else ("cpu",)
    else:
        devices = tuple(dict.fromkeys(asked))
        found = (
            ask() if any(device_kind(device) == "cuda" for device in devices) else {"devices": []}
        )
    for device in devices:
        if device_kind(device) == "cuda":
            used = {device: _device(device, found, cards)}
            if device == "cuda" and processes > 1:
                used = {
                    f"cuda:{index}": one for index, one in enumerate(found["devices"][:processes])
                }
            for name, one in used.items():
                if allow_busy and (who := _others(one, cards)):
                    tell(
                        f"--device {name}: {who} on the {one['name']}; measured beside it, as "
                        "--allow-busy says"
                    )
                elif not allow_busy:
                    _refuse_busy(name, one, cards, pause)
    return devices


def check_autocast(
    dtypes: Sequence[str] | None,
    devices: Sequence[str] | None,
    features: Callable[[], frozenset[str]] | None = None,
) -> None:
    """Raises OptionError where networks are to be timed under autocast to float16 on a CPU without
    arithmetic in it, which would time conversions. bfloat16 is the upper half of a float32 and
    needs none; it is what autocast takes on a CPU unless told otherwise.
    """
    known = (features or hardware.features)()
    lacking = known and not known & FLOAT16
    if lacking and "amp-float16" in (dtypes or ()) and "cpu" in (devices or ("cpu",)):
        raise OptionError(
            "--dtype amp-float16: this CPU has no arithmetic in float16; choose --dtype "
            "amp-bfloat16, or --device cuda"
        )


def torch_devices(limit_s: float = 120.0) -> dict[str, Any]:
    """The CUDA devices that torch sees, by a process of its own: this one stays without torch.
    Raises DeviceError where that does not start.
    """
    paths = os.pathsep.join(
        path for path in (str(PACKAGE_ROOT.parent), os.environ.get("PYTHONPATH")) if path
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            capture_output=True,
            text=True,
            timeout=limit_s,
            env={**os.environ, "PYTHONPATH": paths},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DeviceError(
            f"torch did not say within {limit_s:.0f} s which GPUs it sees; use --device cpu"
        ) from None
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise DeviceError(
            f"torch could not say which GPUs it sees ({last[:300]}); use --device cpu"
        )
    return json.loads(lines[-1])


def _device(
    device: str, found: Mapping[str, Any], cards: Callable[[], Sequence[Mapping[str, Any]]]
) -> Mapping[str, Any]:
    """What torch says of `device`. Raises DeviceError where it is not there."""
    devices = found["devices"]
    if not found.get("cuda"):
        raise DeviceError(
            f"--device {device}: this torch ({found.get('torch')}) is built "
            "without CUDA; install a CUDA build of torch, or use --device cpu"
        )
    if not devices:
        seen = [str(card.get("name") or "a GPU") for card in cards()]
        if hidden := os.environ.get("CUDA_VISIBLE_DEVICES"):
            why = f"CUDA_VISIBLE_DEVICES={hidden!r} leaves none; unset it"
        elif seen:
            said = f" ({' '.join(found['said'][0].split())[:200]})" if found.get("said") else ""
            why = (
                f"torch {found['torch']} for CUDA {found['cuda']} cannot use the {seen[0]} "
                f"that is here{said}; update the driver"
            )
        else:
            why = (
                f"there is no GPU on this machine ({gpus.no_gpu_reason() or 'torch sees none'}); "
                "run where there is one"
            )
        raise DeviceError(f"--device {device}: {why}, or use --device cpu")
    index = int(device.partition(":")[2] or 0)
    if index >= len(devices):
        have = ", ".join(f"cuda:{number} ({one['name']})" for number, one in enumerate(devices))
        raise DeviceError(
            f"--device {device}: there "
            f"{'is one GPU' if len(devices) == 1 else f'are {len(devices)} GPUs'}, "
            f"{have}; use --device cuda"
        )
    return devices[index]


def _refuse_busy(
    device: str,
    one: Mapping[str, Any],
    cards: Callable[[], Sequence[Mapping[str, Any]]],
    pause: Callable[[float], None],
) -> None:
    with gpus.nvml_kept_open():
        for look in range(LOOKS):
            if not (who := _others(one, cards)):
                return
            if look + 1 < LOOKS:
                pause(PAUSE_S)
    raise DeviceError(
        f"--device {device}: {who} on the {one['name']}; wait for the end of it, "
        "or measure beside it with --allow-busy"
    )


def _others(one: Mapping[str, Any], cards: Callable[[], Sequence[Mapping[str, Any]]]) -> str:
    """Who else uses a GPU, in words; empty where nobody does or NVML does not say.

    In a container NVML may list no process of others: their utilisation counts then, but only
    beside memory that is in use, or where NVML does not tell how much is.
    """
    mine = (
        next((card for card in cards() if str(card.get("uuid", "")).endswith(one["uuid"])), {})
        if one["uuid"]
        else {}
    )
    others, share = mine.get("processes") or (), mine.get("utilisation") or 0.0
    if others:
        return (
            f"{len(others)} other process{'' if len(others) == 1 else 'es'} (pid "
            f"{', '.join(map(str, others))})"
        )
    used = mine.get("used_bytes")
    held = used is None or used >= HELD_BYTES
    return f"something else at {share:.0%}" if share >= BUSY_SHARE and held else ""


def _maybe_a_gpu(cards: Callable[[], Sequence[Mapping[str, Any]]]) -> bool:
    """Whether it is worth two seconds to ask torch."""
    return bool(cards()) or Path("/dev/nvidia0").exists()
