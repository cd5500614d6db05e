"""Compiles every Triton kernel that the steps launch, on all cores at once, so that no step waits
for a compiler: `python benchmarks/gpu_session/warm.py [--device cuda] [--processes N] [--dry-run]`.

Each process runs its share of the layers once, forward and backward; compiled kernels and launchers
stay in Triton's cache.
"""

# ruff: noqa: T201  a script: what it prints is its result
import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

NETWORKS = (("resnet50", 1000, 7, 224, (1, 16, 32)), ("resnet50-seg", 19, 14, 713, (1, 16)))
"""Model, classes, whitening layers, side, and batches: those of Table 1 and Table 2."""
NORMS = ("bw", "swa", "swb")
SOLVES = (("polar-triton", 72), ("polar-triton", 2304), ("jacobi-triton", 72))
MOST_PROCESSES = 16

Job = tuple[str, tuple[int, ...]]
"""A norm and the shape of its input, or a solver and the shape of a batch of matrices."""


def jobs() -> list[Job]:
    """What has to run once for every kernel to be compiled."""
    unique_jobs: dict[Job, None] = {}
    for model, classes, layers, side, batches in NETWORKS:
        for channels, height, width in _inputs(model, classes, layers, side):
            for norm in NORMS:
                for batch in batches:
                    unique_jobs[norm, (batch, channels, height, width)] = None
    unique_jobs |= {(solver, (count, 16, 16)): None for solver, count in SOLVES}
    return list(unique_jobs)


def _inputs(model: str, classes: int, layers: int, side: int) -> list[tuple[int, ...]]:
    """Shapes (C, H, W) of what the whitening layers of a network are given."""
    import torch

    from swbench import models
    from swbench.norms.layers import Whiten2d

    with torch.device("meta"):
        network = models.build(model, "swa", layers, num_classes=classes)
        seen: dict[tuple[int, ...], None] = {}
        for module in network.modules():
            if isinstance(module, Whiten2d):
                module.register_forward_pre_hook(
                    lambda module, given: seen.setdefault(tuple(given[0].shape[1:]))
                )
        with torch.no_grad():
            network.eval()(torch.empty(1, 3, side, side))
    return list(seen)


def run(job: Job, device: str) -> None:
    """A layer, or a solver, once each way."""
    import torch

    from swbench import norms, solvers
    from swbench.solvers import spectra

    name, shape = job
    if len(shape) == 3:
        cov = spectra.covariances("kappa=1e1", *shape[:2]).float().to(device)
        solver = solvers.get(name)
        w, saved = solver.forward(cov)
        solver.gradient(saved, w)
        return
    layer = norms.build(name, shape[1]).to(device)
    x = torch.randn(shape, device=device, requires_grad=True)
    layer(x).sum().backward()


def share(number: int, processes: int, device: str) -> int:
    """The jobs of one process; 1 where any failed."""
    worst = 0
    for job in jobs()[number::processes]:
        try:
            run(job, device)
        except Exception as problem:  # noqa: BLE001  the others are to be compiled all the same
            print(f"{job}: {type(problem).__name__}: {problem}", flush=True)
            worst = 1
    return worst


def main() -> int:
    """Start the processes and say how long they took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--processes", type=int, default=min(MOST_PROCESSES, len(os.sched_getaffinity(0)))
    )
    parser.add_argument("--share", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--dry-run", action="store_true", help="print what would run, only")
    given = parser.parse_args()
    if given.dry_run:
        print("\n".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in jobs()))
        return 0
    if given.share is not None:
        return share(given.share, given.processes, given.device)
    start_s = time.monotonic()
    command = [sys.executable, __file__, "--device", given.device]
    command += ["--processes", str(given.processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen([*command, "--share", str(number)], env=environment)
        for number in range(given.processes)
    ]
    try:
        codes = [process.wait() for process in started]
    finally:
        for process in started:
            process.kill()
    print(f"{len(codes)} processes, {time.monotonic() - start_s:.1f} s, exit codes {codes}")
    return max(abs(code) for code in codes)


if __name__ == "__main__":
    sys.exit(main())
