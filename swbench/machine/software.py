"""The software of a run: interpreter, packages, torch's build, environment variables, allocator,
and this project's own code.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "numpy", "scipy", "triton", "fvcore", "nvidia-ml-py")

VARIABLES = (
    "OMP_",
    "GOMP_",
    "KMP_",
    "MKL_",
    "OPENBLAS_",
    "BLIS_",
    "DNNL_",
    "ONEDNN_",
    "ATEN_",
    "TORCH",
    "PYTORCH_",
    "CUDA_",
    "CUBLAS_",
    "CUDNN_",
)
VARIABLES += (
    "NVIDIA_",
    "NCCL_",
    "TRITON_",
    "MALLOC_",
    "GLIBC_TUNABLES",
    "LD_PRELOAD",
    "PYTHONMALLOC",
    "PYTHONOPTIMIZE",
    "SWBENCH_",
)
"""Prefixes of the environment variables that change timings."""

PACKAGE_ROOT = Path(__file__).resolve().parent.parent


def interpreter() -> dict[str, str]:
    """Python's version, implementation and compiler."""
    return {
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
        "compiler": platform.python_compiler(),
    }


def packages() -> dict[str, str | None]:
    """The installed version of each package that affects timings, from its metadata; nothing is
    imported.
    """
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def variables() -> dict[str, str]:
    """The environment variables that change timings, as they are set now. torchrun's own are left
    out: they only identify the process.
    """
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if name.startswith(VARIABLES) and not name.startswith("TORCHELASTIC_")
    }


def allocator() -> dict[str, str | None]:
    """The C library, and the library and settings that replace or tune its malloc. A setting moved
    a ratio from 1.85 to 1.74, so it is part of the environment.
    """
    library, version = platform.libc_ver()
    tuning = [
        f"{name}={value}"
        for name, value in variables().items()
        if name.startswith(("MALLOC_", "GLIBC_TUNABLES"))
    ]
    return {
        "library": f"{library} {version}".strip() or None,
        "preload": os.environ.get("LD_PRELOAD") or None,
        "tuning": " ".join(tuning) or None,
    }


def torch_facts() -> dict[str, Any]:
    """Facts that only torch knows: its build, BLAS, parallel back end and defaults; and those of
    the native kernels.

    It imports torch, so it is for workers; the parent calls `torch_facts_from_subprocess`.
    """
    import torch

    from swbench.native import library

    lines = [line.strip(" -\t") for line in torch.__config__.show().splitlines()[1:]]
    settings = (
        dict(
            pair.split("=", 1)
            for pair in lines[-1].removeprefix("Build settings:").strip().split(", ")
            if "=" in pair
        )
        if lines
        else {}
    )
    return {
        "version": torch.__version__,
        "commit": torch.version.git_version,
        "debug": torch.version.debug,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.version.cuda else None,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "blas": settings.get("BLAS_INFO"),
        "lapack": settings.get("LAPACK_INFO"),
        "mkl": torch.backends.mkl.is_available(),
        "mkldnn": torch.backends.mkldnn.is_available(),
        "openmp": torch.backends.openmp.is_available(),
        "libraries": [line for line in lines if not line.startswith("Build settings")],
        "threads": torch.get_num_threads(),
        "parallel_info": torch.__config__.parallel_info(),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "native": library.facts(),
    }


def torch_facts_from_subprocess(limit_s: float = 120.0) -> dict[str, Any]:
    """`torch_facts` from a process of its own, so that the parent of a run never loads torch.
    `{"error": …}` where it fails.
    """
    program = (
        "import json, sys; from swbench.machine.software import torch_facts; "
        "json.dump(torch_facts(), sys.stdout)"
    )
    paths = os.pathsep.join(
        path for path in (str(PACKAGE_ROOT.parent), os.environ.get("PYTHONPATH")) if path
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            timeout=limit_s,
            env={**os.environ, "PYTHONPATH": paths},
            check=True,
        )
        return json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return {"error": f"torch did not load within {limit_s:.0f} s"}
    except (subprocess.CalledProcessError, ValueError) as error:
        tail = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        return {"error": tail[-1] if tail else "torch did not load"}


def code() -> dict[str, Any]:
    """Version of the project, git commit, whether the tree has changes, and a hash of the sources
    that needs no git. Without git the commit comes from SWBENCH_COMMIT, for copies of the sources
    on machines without their history.
    """
    from swbench.version import __version__

    return {
        "version": __version__,
        "commit": _git("rev-parse", "HEAD") if _tracked() else os.environ.get("SWBENCH_COMMIT"),
        "dirty": _dirty(),
        "sources": sources(),
    }


def sources(root: Path = PACKAGE_ROOT) -> str:
    """16 hex digits over every source file of the package, by relative path."""
    digest = hashlib.sha256()
    for path in sorted(
        p
        for p in root.rglob("*")
        if p.suffix in (".py", ".cpp", ".c", ".h", ".cu") and "__pycache__" not in p.parts
    ):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _git(*arguments: str) -> str | None:
    """The output of git in the checkout that holds this package; None outside of a checkout."""
    try:
        done = subprocess.run(
            ["git", "-C", str(PACKAGE_ROOT), *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _tracked() -> bool:
    """Whether git tracks this package. An installed copy may lie inside the checkout of another
    project.
    """
    return _git("ls-files", "--error-unmatch", "--", "__init__.py") is not None


def _dirty() -> bool | None:
    if not _tracked():
        return None
    status = _git("status", "--porcelain", "--untracked-files=no", "--", ".")
    return None if status is None else bool(status)
