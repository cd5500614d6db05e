"""The environment record of a run: enough to explain why two runs differ, and to refuse to compare
what cannot be compared.
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
"""Where to look in a record for what changes timings, and what to call it. Load, host, code and GPU
UUIDs are recorded, but not compared.
"""

LATER = ("torch.native",)
"""Parts that the records of earlier versions lack: compared where both have them."""


def record(torch_facts: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Everything recorded of an environment, JSON-ready.

    The parent of a run stays without torch: what only torch knows comes from `torch_facts`, which a
    worker may supply, or else from a short process of its own (about two seconds).
    """
    found = {
        "processor": hardware.processor(),
        "cores": hardware.cores(),
        "memory": hardware.memory(),
        "system": hardware.system(),
        "python": software.interpreter(),
        "packages": software.packages(),
        "torch": dict(torch_facts) if torch_facts is not None else software.torch_facts_apart(),
        "variables": software.variables(),
        "allocator": software.allocator(),
        "gpus": gpus(),
        "code": software.code(),
        "now": hardware.now(),
    }
    return {"label": label(found), **found}


def label(found: Mapping[str, Any]) -> str:
    """A short name for the machine, for folder names: the GPU's model if there is one, else the
    CPU's (`amd-epyc-9555`, `h100-80gb-hbm3`).
    """
    cards = found.get("gpus") or []
    name = cards[0]["name"] if cards and cards[0].get("name") else found["processor"]["model"]
    name = re.sub(
        r"\((r|tm)\)|\b(cpu|processor|nvidia|tesla|geforce|gold|platinum|silver)\b|\b\d+-core\b|@.*|\bwith\b.*",
        " ",
        name.lower(),
    )
    slug = re.sub(r"[^a-z0-9]+", "-", name).strip("-")
    return slug[:24].strip("-") or "machine"


OVERRULED = ("_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Endings of variables that workers get anew: the case's thread count, and waiting threads
asleep.
"""
PLACES = ("_DIR", "_HOME", "_PATH", "_IFNAME", "VISIBLE_DEVICES", "SWBENCH_RESULTS")
"""Endings of variables that say where things lie or which of several like cards is used; recorded,
not compared.
"""


def _at(found: Mapping[str, Any], path: str) -> Any:
    """What is compared at a dotted path; of a list of mappings, the list of their values. None
    where a part is missing.
    """
    value = _value(found, path)
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


def _value(found: Mapping[str, Any], path: str) -> Any:
    """What lies at a dotted path, whatever that is: a record may come from a file that somebody has
    changed.
    """
    value: Any = found
    for part in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list):
            value = [one.get(part) for one in value if isinstance(one, Mapping)] or None
    return value


def _known(found: Mapping[str, Any], path: str) -> bool:
    return all(_value(found, part) is not None for part in LATER if path.startswith(part))


def environment_id(found: Mapping[str, Any]) -> str:
    """12 hex digits over the parts that change timings: two records with the same id can be
    compared.
    """
    canonical = json.dumps(
        {path: _at(found, path) for path in RELEVANT if _known(found, path)}, sort_keys=True
    )
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def unlike(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """A line for each thing that changes timings and differs between two records; empty where they
    can be compared.
    """
    lines = []
    for path, name in RELEVANT.items():
        if not (_known(a, path) and _known(b, path)):
            continue
        one, other = _at(a, path), _at(b, path)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            lines += [
                f"{key}: {_shown(one.get(key))} / {_shown(other.get(key))}"
                for key in sorted({*one, *other})
                if one.get(key) != other.get(key)
            ]
        elif one != other:
            lines.append(f"{name}: {_shown(one)} / {_shown(other)}")
    return lines


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
