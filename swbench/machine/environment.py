"""The environment record of a run. It explains why two runs differ, and which runs must not be
compared.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from swbench.machine import hardware, software
from swbench.machine.gpus import gpus

RELEVANT = {
    "processor.model": "CPU",
    "processor.family": "CPU family, model, stepping",
    "processor.virtual": "virtual machine",
    "processor.governor": "frequency governor",
    "processor.turbo": "turbo",
    "processor.caches": "caches",
    "cores.physical_allowed": "physical cores allowed",
    "cores.quota": "cgroup CPU quota",
    "cores.smt": "SMT",
    "memory.total_bytes": "memory",
    "memory.limit_bytes": "memory limit",
    "memory.huge_pages": "transparent huge pages",
    "system.kernel": "kernel",
    "system.clocksource": "clock source",
    "python.version": "Python",
    "packages.torch": "torch",
    "packages.numpy": "numpy",
    "packages.triton": "triton",
    "torch.commit": "torch's commit",
    "torch.cuda": "torch's CUDA",
    "torch.cudnn": "cuDNN",
    "torch.blas": "torch's BLAS",
    "torch.mkldnn": "oneDNN",
    "torch.capability": "torch's vector extensions",
    "torch.native.instructions": "native kernels' instruction set",
    "torch.native.compiler": "native kernels' compiler",
    "torch.native.calls": "what calls the native kernels",
    "allocator.library": "C library",
    "allocator.preload": "LD_PRELOAD",
    "variables": "environment variables",
    "gpus.name": "GPU",
    "gpus.driver": "GPU driver",
    "gpus.power_limit_w": "GPU power limit (W)",
    "gpus.application_sm_hz": "GPU application clock (Hz)",
    "gpus.mig": "MIG",
}
"""Paths in a record that change timings, with their names. Load, host, code and GPU UUIDs are
recorded, but not compared.
"""

ADDED_LATER = ("torch.native",)
"""Parts that records of earlier versions lack. They are compared only where both records have
them.
"""


def record(torch_facts: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The record of this machine's environment, ready for JSON.

    The parent of a run does not load torch. Facts that only torch knows come from `torch_facts`,
    which a worker may supply, or else from a short process (about two seconds).
    """
    record_ = {
        "processor": hardware.processor(),
        "cores": hardware.cores(),
        "memory": hardware.memory(),
        "system": hardware.system(),
        "python": software.interpreter(),
        "packages": software.packages(),
        "torch": dict(torch_facts)
        if torch_facts is not None
        else software.torch_facts_from_subprocess(),
        "variables": software.variables(),
        "allocator": software.allocator(),
        "gpus": gpus(),
        "code": software.code(),
        "now": hardware.now(),
    }
    return {"label": label(record_), **record_}


def label(environment: Mapping[str, Any]) -> str:
    """A short name for the machine, for folder names: the GPU's model if there is one, else the
    CPU's (`amd-epyc-9555`, `h100-80gb-hbm3`).
    """
    listed = environment.get("gpus") or []
    name = (
        listed[0]["name"] if listed and listed[0].get("name") else environment["processor"]["model"]
    )
    name = re.sub(
        r"\((r|tm)\)|\b(cpu|processor|nvidia|tesla|geforce|gold|platinum|silver)\b|\b\d+-core\b|@.*|\bwith\b.*",
        " ",
        name.lower(),
    )
    slug = re.sub(r"[^a-z0-9]+", "-", name).strip("-")
    return slug[:24].strip("-") or "machine"


OVERRULED = ("_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Endings of variables that swbench sets for its workers: the number of threads, and sleep for
waiting threads.
"""
PLACES = ("_DIR", "_HOME", "_PATH", "_IFNAME", "VISIBLE_DEVICES", "SWBENCH_RESULTS")
"""Endings of variables that hold paths, or that select one of several equal GPUs. They are
recorded, but not compared.
"""


def _at(environment: Mapping[str, Any], path: str) -> Any:
    """The value to compare at a dotted path, or the list of values from a list of mappings. None
    where a part is missing.
    """
    value = _value(environment, path)
    if path == "variables":
        return (
            {name: value[name] for name in value if not name.endswith(OVERRULED + PLACES)}
            if isinstance(value, Mapping)
            else {}
        )
    if path.endswith("_bytes") and isinstance(value, int | float) and 0 < value < 1 << 63:
        # a kernel reserves a little more or less at every start
        return f"{value / (1 << 30):.1f} GiB"
    return value


def _value(environment: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, of any type, because a record may come from a file that was
    edited.
    """
    value: Any = environment
    for part in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list):
            value = [item.get(part) for item in value if isinstance(item, Mapping)] or None
    return value


def _known(environment: Mapping[str, Any], path: str) -> bool:
    return all(
        _value(environment, part) is not None for part in ADDED_LATER if path.startswith(part)
    )


def environment_id(environment: Mapping[str, Any]) -> str:
    """12 hex digits over the parts that change timings: two records with the same id can be
    compared.
    """
    canonical = json.dumps(
        {path: _at(environment, path) for path in RELEVANT if _known(environment, path)},
        sort_keys=True,
    )
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def unlike(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """A line for each difference between two records that changes timings; empty where they can be
    compared.
    """
    lines = []
    for path, name in RELEVANT.items():
        if not (_known(a, path) and _known(b, path)):
            continue
        value_a, value_b = _at(a, path), _at(b, path)
        if isinstance(value_a, Mapping) and isinstance(value_b, Mapping):
            lines += [
                f"{key}: {_text(value_a.get(key))} / {_text(value_b.get(key))}"
                for key in sorted({*value_a, *value_b})
                if value_a.get(key) != value_b.get(key)
            ]
        elif value_a != value_b:
            lines.append(f"{name}: {_text(value_a)} / {_text(value_b)}")
    return lines


def _text(value: Any) -> str:
    if value is None:
        return "not set"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
