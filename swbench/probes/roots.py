"""One solver on batches of matrices, forward alone: Σ^(-1/2) or Σ^(-1/4), its time, and the
accuracy of the very outputs that were timed.
"""

from functools import lru_cache

import torch
from torch import Tensor

from swbench.case import SolverCase
from swbench.clock import Gpu, Stopwatch
from swbench.probes.event_windows import Windows
from swbench.probes.machine_peak import rates
from swbench.probes.memory import told
from swbench.probes.precision import arrange
from swbench.probes.root_accuracy import Oracle, root_accuracy
from swbench.probes.solver import SEED, SolverWorkload, prepared, told_of
from swbench.probes.workload import Workload
from swbench.result import Measurement
from swbench.solvers import spectra


def solver_workload(case: SolverCase) -> Workload:
    """The workload of a case: with a gradient, or forward alone."""
    return SolverWorkload(case) if case.gradient else RootWorkload(case)


class RootWorkload:
    """A batch of each size of a case. All workloads of a process with the same matrices share them,
    for a batch may be most of the memory; no solver writes to what it is given.

    The matrices are rounded to the dtype of the case before anything else. The roots of the last
    call stay, and `finish` judges them.
    """

    def __init__(
        self, case: SolverCase, stopwatch: Stopwatch | None = None, gpu: Gpu | None = None
    ) -> None:
        self._solver, self._watch, self._gpu = prepared(case, stopwatch, gpu)
        self.chosen = told_of(self._solver, arrange(case.dtype, case.device))
        self._case = case
        self._device = case.device if self._gpu is None else self._gpu.place
        self._covs = tuple(
            matrices(case.spectrum, case.batch, size, case.dtype, self._device)
            for size in case.sizes or (case.group,)
        )
        self._stored = sum(cov.numel() * cov.element_size() for cov in self._covs)
        self._reached("before")
        self._roots: tuple[Tensor, ...] = ()
        self._windows: Windows | None = None
        if self._gpu is not None:
            with told(self._gpu):
                self._windows = Windows(
                    self._gpu,
                    {"forward": self._solve},
                    graph=case.mode == "graph",
                    cold=case.cache == "cold",
                )

    def _solve(self) -> None:
        self._roots = tuple(self._solver.inverse_root(cov, self._case.root) for cov in self._covs)

    def warmed(self) -> None:
        """What was timed so far was warm-up."""
        if self._windows is not None:
            self._windows.warmed()

    def call(self) -> dict[str, float]:
        """Seconds of one call for all sizes."""
        if self._windows is not None:
            with told(self._gpu):
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
        size in float32, `flops` of a call, `transferred_bytes` to the host and back, and `floor_s`:
        the least time in which this machine could do what no call can do without. `timings` too.
        """
        found = self.timings()
        if not self._roots:
            return found
        case, solver = self._case, self._solver
        sizes = [cov.shape[-1] for cov in self._covs]
        oracles = [
            oracle(case.spectrum, case.batch, size, case.dtype, self._device) for size in sizes
        ]
        found += root_accuracy(oracles, self._covs, self._roots, case.root)
        if case.dtype == "float32" and solver.exact:
            kappa = spectra.kappa(case.spectrum)
            promised = max(solver.tolerance(kappa, size) for size in sizes)
            found.append(Measurement("promised_error", "1", (promised,)))
        flops = case.batch * sum(solver.root_flops(size, case.root) for size in sizes)
        least = case.batch * sum(solver.least_flops(size, case.root) for size in sizes)
        flops_per_s, bytes_per_s = map(
            max, zip(self._reached("before"), self._reached("after"), strict=True)
        )
        floor_s = max(least / flops_per_s, 2 * self._stored / bytes_per_s)
        moved = sum(map(solver.transferred_bytes, self._covs))
        found += [Measurement("flops", "1", (flops,)), Measurement("floor_s", "s", (floor_s,))]
        return [*found, Measurement("transferred_bytes", "B", (float(moved),))] if moved else found

    def _reached(self, when: str) -> tuple[float, float]:
        return reached(str(self._device), self._case.dtype, self._stored, when)


@lru_cache(maxsize=8)
def matrices(spectrum: str, batch: int, size: int, dtype: str, device: str) -> Tensor:
    """The matrices of a case, the same in every process and for every solver."""
    cov = spectra.covariances(spectrum, batch, size, SEED)
    return cov.to(device=device, dtype=getattr(torch, dtype))


@lru_cache(maxsize=8)
def oracle(spectrum: str, batch: int, size: int, dtype: str, device: str) -> Oracle:
    """What the roots of these matrices are judged against."""
    return Oracle(matrices(spectrum, batch, size, dtype, device))


@lru_cache(maxsize=8)
def reached(device: str, dtype: str, stored: int, when: str) -> tuple[float, float]:
    """FLOPs a second, and bytes a second in a copy of `stored` bytes, in caches or not as these.

    Measured once a process `before` the rounds and once `after` them: what either found possible
    is possible.
    """
    return rates(torch.device(device), getattr(torch, dtype), copy_bytes=max(stored, 4096))
