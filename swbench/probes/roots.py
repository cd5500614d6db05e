"""One solver on batches of matrices, forward only: Σ^(-1/2) or Σ^(-1/4), its time, and the accuracy
of the same outputs that were timed.
"""

from functools import lru_cache

import torch
from torch import Tensor

from swbench.case import SolverCase
from swbench.clock import Gpu, Stopwatch
from swbench.probes.event_windows import Windows
from swbench.probes.machine_peak import rates
from swbench.probes.memory import oom_as_memory_error
from swbench.probes.precision import set_tf32
from swbench.probes.root_accuracy import Oracle, root_accuracy
from swbench.probes.solver import SEED, SolverWorkload, prepare_solver, solver_facts
from swbench.probes.workload import Workload
from swbench.result import Measurement
from swbench.solvers import spectra


def solver_workload(case: SolverCase) -> Workload:
    """The workload of a case: with a gradient, or forward alone."""
    return SolverWorkload(case) if case.gradient else RootWorkload(case)


class RootWorkload:
    """A batch of matrices of each size of a case. Workloads of a process that have the same
    matrices share them, because a batch may take most of the memory; no solver writes to its input.

    The matrices are rounded to the case's dtype first. `finish` measures the accuracy of the last
    call's roots.
    """

    def __init__(
        self, case: SolverCase, stopwatch: Stopwatch | None = None, gpu: Gpu | None = None
    ) -> None:
        self._solver, self._watch, self._gpu = prepare_solver(case, stopwatch, gpu)
        self.chosen = solver_facts(self._solver, set_tf32(case.dtype, case.device))
        self._case = case
        self._device = case.device if self._gpu is None else self._gpu.device
        self._covs = tuple(
            matrices(case.spectrum, case.batch, size, case.dtype, self._device)
            for size in case.sizes or (case.group,)
        )
        self._matrix_bytes = sum(cov.numel() * cov.element_size() for cov in self._covs)
        self._peak_rates("before")
        self._roots: tuple[Tensor, ...] = ()
        self._windows: Windows | None = None
        if self._gpu is not None:
            with oom_as_memory_error(self._gpu):
                self._windows = Windows(
                    self._gpu,
                    {"forward": self._solve},
                    graph=case.mode == "graph",
                    cold=case.cache == "cold",
                )

    def _solve(self) -> None:
        self._roots = tuple(self._solver.inverse_root(cov, self._case.root) for cov in self._covs)

    def warmed(self) -> None:
        """Discard the times so far: they were warm-up."""
        if self._windows is not None:
            self._windows.warmed()

    def call(self) -> dict[str, float]:
        """Seconds of one call for all sizes."""
        if self._windows is not None:
            with oom_as_memory_error(self._gpu):
                return self._windows.sample()
        self._roots = ()
        self._watch.start()
        self._solve()
        self._watch.mark("forward")
        return self._watch.read()

    def timings(self) -> list[Measurement]:
        """On a GPU every window that was timed (`Windows.finish`)."""
        return self._windows.finish() if self._windows is not None else []

    def finish(self) -> list[Measurement]:
        """Accuracy of the last call (`swbench.probes.root_accuracy`), `promised_error` of the worst
        size in float32, `flops` of a call, `transferred_bytes` to the host and back, and `floor_s`,
        the least time in which this machine could do the work that every solver must do. `timings`
        too.
        """
        measurements = self.timings()
        if not self._roots:
            return measurements
        case, solver = self._case, self._solver
        sizes = [cov.shape[-1] for cov in self._covs]
        oracles = [
            oracle(case.spectrum, case.batch, size, case.dtype, self._device) for size in sizes
        ]
        measurements += root_accuracy(oracles, self._covs, self._roots, case.root)
        if case.dtype == "float32" and solver.exact:
            kappa = spectra.kappa(case.spectrum)
            promised = max(solver.tolerance(kappa, size) for size in sizes)
            measurements.append(Measurement("promised_error", "1", (promised,)))
        flops = case.batch * sum(solver.root_flops(size, case.root) for size in sizes)
        least_flops_total = case.batch * sum(solver.least_flops(size, case.root) for size in sizes)
        flops_per_s, bytes_per_s = map(
            max, zip(self._peak_rates("before"), self._peak_rates("after"), strict=True)
        )
        floor_s = max(least_flops_total / flops_per_s, 2 * self._matrix_bytes / bytes_per_s)
        transferred = sum(map(solver.transferred_bytes, self._covs))
        measurements += [
            Measurement("flops", "1", (flops,)),
            Measurement("floor_s", "s", (floor_s,)),
        ]
        return (
            [*measurements, Measurement("transferred_bytes", "B", (float(transferred),))]
            if transferred
            else measurements
        )

    def _peak_rates(self, when: str) -> tuple[float, float]:
        return peak_rates(str(self._device), self._case.dtype, self._matrix_bytes, when)


@lru_cache(maxsize=8)
def matrices(spectrum: str, batch: int, size: int, dtype: str, device: str) -> Tensor:
    """The matrices of a case, the same in every process and for every solver."""
    cov = spectra.covariances(spectrum, batch, size, SEED)
    return cov.to(device=device, dtype=getattr(torch, dtype))


@lru_cache(maxsize=8)
def oracle(spectrum: str, batch: int, size: int, dtype: str, device: str) -> Oracle:
    """The float64 oracle of these matrices, one for each process."""
    return Oracle(matrices(spectrum, batch, size, dtype, device))


@lru_cache(maxsize=8)
def peak_rates(device: str, dtype: str, matrix_bytes: int, when: str) -> tuple[float, float]:
    """(FLOP/s, byte/s) of a product and of a copy of `matrix_bytes` bytes, which lies in the caches
    if the matrices do.

    Each process measures them once `before` the rounds and once `after` them; the higher value
    counts.
    """
    return rates(torch.device(device), getattr(torch, dtype), copy_bytes=max(matrix_bytes, 4096))
