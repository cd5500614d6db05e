"""One solver on a batch of small matrices: its time, and the accuracy of the same outputs that were
timed.
"""

import torch

from swbench import solvers
from swbench.case import SolverCase, device_kind
from swbench.clock import Gpu, Stopwatch, stopwatch_for
from swbench.probes.accuracy import accuracy
from swbench.probes.event_windows import Windows
from swbench.probes.memory import oom_as_memory_error
from swbench.probes.modes import refuse_synchronising_solvers
from swbench.probes.precision import set_tf32
from swbench.probes.workload import Unsupported
from swbench.result import Measurement
from swbench.solvers import spectra
from swbench.solvers.base import Solver
from swbench.solvers.choice import AUTO, choose

SEED = 0
"""Matrices and cotangents are the same in every process and for every solver."""


def prepare_solver(
    case: SolverCase, stopwatch: Stopwatch | None, gpu: Gpu | None
) -> tuple[Solver, Stopwatch | None, Gpu | None]:
    """(solver, stopwatch, GPU) of a case; either the stopwatch or the GPU times it. Raises
    Unsupported where the solver does not take the case or the device is missing.
    """
    solver = solvers.get(_auto_choice(case) if case.solver == AUTO else case.solver)
    reason = solver.available(case.device if gpu is None else gpu.device)
    if reason is not None:
        raise Unsupported(reason)
    if case.dtype not in solver.dtypes:
        raise Unsupported(
            f"solver {solver.name!r} takes {' and '.join(solver.dtypes)}, not {case.dtype}"
        )
    for size in case.sizes or (case.group,):
        if not solver.fits(size, case.dtype):
            raise Unsupported(
                f"solver {solver.name!r} does not solve {case.dtype} matrices of {size}×{size} "
                "itself; choose another solver"
            )
    if case.root not in solver.roots:
        root_names = " and ".join(map(str, solver.roots))
        raise Unsupported(f"solver {solver.name!r} gives roots {root_names}, not {case.root}")
    if case.mode not in ("eager", "graph"):
        raise Unsupported(f"a solver is timed eager or in a graph, not in mode {case.mode!r}")
    if gpu is None and stopwatch is None and case.device != "cpu":
        from swbench.clock.cuda import gpu_for

        gpu = gpu_for(case.device)
    if gpu is None and (case.mode == "graph" or case.cache != "hot"):
        raise Unsupported(
            f"mode {case.mode} with a {case.cache} cache needs a CUDA device; on "
            f"{case.device} use eager and hot"
        )
    if case.mode == "graph" and solver.synchronises:
        refuse_synchronising_solvers((solver.name,))
    watch = stopwatch or (stopwatch_for(case.device) if gpu is None else None)
    if watch is None and gpu is None:
        raise Unsupported(f"torch sees no device {case.device!r} here; use --device cpu")
    return solver, watch, gpu


def _auto_choice(case: SolverCase) -> str:
    """The solver that `auto` chooses for the largest size."""
    kind, dtype = torch.device(device_kind(case.device)), getattr(torch, case.dtype, None)
    return choose(kind, case.group, case.batch, dtype, case.root, case.gradient)


def solver_facts(solver: Solver, settings: dict[str, str]) -> dict[str, str]:
    """The entries of `chosen` for a solver and for the `settings` of the process."""
    return {
        "solver": solver.name,
        "exact": "yes" if solver.exact else f"no: {solver.inexact}",
        **settings,
    }


class SolverWorkload:
    """A batch with a named spectrum, and a fixed random cotangent on W.

    The matrices are rounded to the case's dtype first, so that solver and oracle get the same ones.
    `finish` measures the accuracy of the last call's W and gradient. On a GPU a call is a sample of
    windows (`swbench.probes.event_windows`).
    """

    def __init__(
        self, case: SolverCase, stopwatch: Stopwatch | None = None, gpu: Gpu | None = None
    ) -> None:
        solver, watch, gpu = prepare_solver(case, stopwatch, gpu)
        self._solver = solver
        self._watch, self._kappa, self._group, self._gpu = (
            watch,
            spectra.kappa(case.spectrum),
            case.group,
            gpu,
        )
        settings = set_tf32(case.dtype, case.device)
        target = {
            "device": case.device if gpu is None else gpu.device,
            "dtype": getattr(torch, case.dtype),
        }
        self._cov = (
            spectra.covariances(case.spectrum, case.batch, case.group, SEED)
            .to(**target)
            .requires_grad_()
        )
        self._grad_w = torch.randn(
            self._cov.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(SEED + 1)
        ).to(**target)
        self._w: torch.Tensor | None = None
        self.chosen = solver_facts(solver, settings)
        if hasattr(solver, "backward"):
            self.chosen["backward"] = solver.backward
        self._windows: Windows | None = None
        if gpu is not None:
            passes = {
                "forward": lambda: solver(self._cov),
                "forward_backward": self._forward_backward,
            }
            with oom_as_memory_error(gpu):
                self._windows = Windows(
                    gpu, passes, graph=case.mode == "graph", cold=case.cache == "cold"
                )

    def _forward_backward(self) -> None:
        self._cov.grad = self._w = None
        w = self._solver(self._cov)
        w.backward(self._grad_w)
        self._w = w.detach()

    def warmed(self) -> None:
        """Discard the times so far: they were warm-up."""
        if self._windows is not None:
            self._windows.warmed()

    def call(self) -> dict[str, float]:
        if self._windows is not None:
            with oom_as_memory_error(self._gpu):
                return self._windows.sample()
        self._cov.grad = self._w = None
        watch = self._watch
        watch.start()
        w = self._solver(self._cov)
        watch.mark("forward")
        w.backward(self._grad_w)
        watch.mark("forward_backward")
        self._w = w.detach()
        return watch.read()

    def timings(self) -> list[Measurement]:
        """On a GPU every window that was timed (`Windows.finish`)."""
        return self._windows.finish() if self._windows is not None else []

    def finish(self) -> list[Measurement]:
        """Accuracy of the last call (`swbench.probes.accuracy`), the error that the solver
        promises, its FLOPs, and the bytes it moves to the host and back.

        `promised_error` bounds the relative error of W in float32 and is absent elsewhere; `flops`
        is of one forward call. `timings` too.
        """
        if self._w is None or self._cov.grad is None:
            return self.timings()
        measurements = self.timings() + accuracy(self._cov, self._w, self._grad_w, self._cov.grad)
        if self._cov.dtype == torch.float32 and self._solver.exact:
            measurements.append(
                Measurement(
                    "promised_error", "1", (self._solver.tolerance(self._kappa, self._group),)
                )
            )
        measurements.append(
            Measurement("flops", "1", (self._solver.flops(self._group) * len(self._cov),))
        )
        transferred = self._solver.transferred_bytes(self._cov)
        return (
            [*measurements, Measurement("transferred_bytes", "B", (float(transferred),))]
            if transferred
            else measurements
        )
