"""Checks of the software stack: torch and its BLAS, OpenMP, malloc, GPU, Triton, the native
extension.
"""

from collections.abc import Mapping
from typing import Any

from swbench.doctor.check import BAD, OK, WARN, Check


def torch(environment: Mapping[str, Any]) -> Check:
    """Whether torch loads, and how it was built."""
    facts = environment["torch"]
    if "error" in facts:
        return Check("torch", BAD, facts["error"], "pip install 'torch>=2.6'")
    words = (
        f"{facts['version']}, BLAS {facts['blas']}, oneDNN "
        f"{'yes' if facts['mkldnn'] else 'no'}, {facts['capability']}"
    )
    words += f", CUDA {facts['cuda']}" if facts["cuda"] else ", CPU only"
    if facts["debug"]:
        return Check(
            "torch",
            BAD,
            f"{words}, a debug build",
            "install a release build: debug builds are several times slower",
        )
    if not facts["mkldnn"]:
        return Check(
            "torch", WARN, words, "convolutions without oneDNN are slow: install the official wheel"
        )
    if not facts["openmp"]:
        return Check(
            "torch",
            WARN,
            words,
            "built without OpenMP: --threads above 1 has no effect on much of it",
        )
    return Check("torch", OK, words)


def openmp(environment: Mapping[str, Any]) -> Check:
    """The wait policy of idle OpenMP threads."""
    policy = environment["variables"].get("OMP_WAIT_POLICY")
    words = (
        "PASSIVE in every worker: threads that spin would take the core from those that "
        "work, up to 12×"
    )
    if policy and policy.upper() != "PASSIVE":
        return Check(
            "OpenMP wait policy",
            WARN,
            f"{words}; OMP_WAIT_POLICY={policy} has no effect",
            "unset OMP_WAIT_POLICY, or expect other numbers outside swbench",
        )
    return Check("OpenMP wait policy", OK, words)


def malloc(environment: Mapping[str, Any]) -> Check:
    """The allocator, whose time is part of every measurement."""
    facts = environment["allocator"]
    words = ", ".join(
        part
        for part in (facts["library"] or "unknown C library", facts["preload"], facts["tuning"])
        if part
    )
    if facts["preload"] or facts["tuning"]:
        return Check("malloc", OK, f"{words}; compare only with runs under the same")
    fix = (
        "MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=4294967296 keeps pages between calls: "
        "spread 1.1 % → 0.3 %, and other ratios"
    )
    return Check(
        "malloc", WARN, f"{words}, untuned: pages go back to the kernel after each call", fix
    )


def gpu(environment: Mapping[str, Any], missing: str | None) -> Check:
    """The GPUs, and what would disturb their timings. `missing` says why there is none."""
    gpus = environment["gpus"]
    if not gpus:
        return Check(
            "GPU",
            WARN,
            f"none: {missing or 'NVML reports no GPU'}",
            ("the GPU columns stay empty; on a GPU machine install the driver and nvidia-ml-py"),
        )
    names = ", ".join(f"{gpu_info['name']} (driver {gpu_info['driver']})" for gpu_info in gpus)
    if environment["torch"].get("cuda") is None:
        return Check(
            "GPU", WARN, f"{names}, but this torch is built without CUDA", "install torch for CUDA"
        )
    if any(gpu_info["mig"] for gpu_info in gpus):
        return Check(
            "GPU",
            WARN,
            f"{names}, cut into MIG slices",
            ("neighbours on other slices share its clock and power: watch the noise floor"),
        )
    if any(gpu_info["persistence"] == 0 for gpu_info in gpus):
        return Check(
            "GPU",
            WARN,
            f"{names}, persistence mode off",
            ("sudo nvidia-smi -pm 1, or the first call of each worker pays for the driver's start"),
        )
    return Check("GPU", OK, names)


def triton(environment: Mapping[str, Any]) -> Check:
    """Triton, which the GPU kernels need."""
    version = environment["packages"]["triton"]
    if version:
        return Check(
            "Triton",
            OK,
            version
            if environment["gpus"]
            else f"{version}, without a GPU only its interpreter is of use",
        )
    if environment["gpus"]:
        return Check(
            "Triton",
            WARN,
            "not installed",
            "pip install triton: without it the GPU runs plain torch kernels",
        )
    return Check("Triton", OK, "not installed, and no GPU that would need it")


def native(reason: str | None) -> Check:
    """The native CPU extension; `reason` says why it is not in use, None where it is."""
    if reason is None:
        return Check("native extension", OK, "built and in use on the CPU")
    return Check(
        "native extension",
        WARN,
        reason,
        "whitening runs plain torch kernels on the CPU: slower, not wrong",
    )
