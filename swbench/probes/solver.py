"""One solver on a batch of small matrices: its time, and the accuracy of the very outputs that were timed."""

import torch

from swbench import solvers
from swbench.case import SolverCase
from swbench.clock import Stopwatch, stopwatch_for
from swbench.probes.accuracy import accuracy
from swbench.probes.workload import Unsupported
from swbench.result import Measurement
from swbench.solvers import spectra

SEED = 0
"""Matrices and cotangents are the same in every process and for every solver."""


class SolverWorkload:
    """A batch with a named spectrum, and a fixed random cotangent on W.

    The matrices are rounded to the dtype of the case before anything else, so that solver and oracle see the same ones. W and the
    gradient of the last call stay, and `finish` judges them.
    """

    def __init__(self, case: SolverCase, stopwatch: Stopwatch | None = None) -> None:
        self._solver = solver = solvers.get(case.solver)
        reason = solver.available(case.device)
        if reason is not None:
            raise Unsupported(reason)
        if case.dtype not in solver.dtypes:
            raise Unsupported(f"solver {solver.name!r} takes {' and '.join(solver.dtypes)}, not {case.dtype}")
        if case.mode != "eager":
            raise Unsupported(f"mode {case.mode!r} is not built yet; only eager is")
        if case.cache != "hot":
            raise Unsupported(f"cache {case.cache!r} is not built yet; only hot is")
        watch = stopwatch or stopwatch_for(case.device)
        if watch is None:
            raise Unsupported(f"there is no clock for device {case.device!r} yet; only cpu has one")
        self._watch, self._kappa, self._group = watch, spectra.kappa(case.spectrum), case.group
        target = {"device": case.device, "dtype": getattr(torch, case.dtype)}
        self._cov = spectra.covariances(case.spectrum, case.batch, case.group, SEED).to(**target).requires_grad_()
        self._grad_w = torch.randn(self._cov.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(SEED + 1)).to(**target)
        self._w: torch.Tensor | None = None
        self.chosen = {"solver": solver.name, "exact": "yes" if solver.exact else f"no: {solver.inexact}"}
        if hasattr(solver, "backward"):
            self.chosen["backward"] = solver.backward

    def call(self) -> dict[str, float]:
        self._cov.grad = self._w = None
        watch = self._watch
        watch.start()
        w = self._solver(self._cov)
        watch.mark("forward")
        w.backward(self._grad_w)
        watch.mark("forward_backward")
        self._w = w.detach()
        return watch.read()

    def finish(self) -> list[Measurement]:
        """Accuracy of the last call (`swbench.probes.accuracy`), what the solver promised, its operations and the bytes it moved to the host and back.

        `promised_error` bounds the relative error of W in float32 and is absent elsewhere; `flops` is of one forward call.
        """
        if self._w is None or self._cov.grad is None:
            return []
        found = accuracy(self._cov, self._w, self._grad_w, self._cov.grad)
        if self._cov.dtype == torch.float32 and self._solver.exact:
            found.append(Measurement("promised_error", "1", (self._solver.tolerance(self._kappa, self._group),)))
        found.append(Measurement("flops", "1", (self._solver.flops(self._group) * len(self._cov),)))
        moved = self._solver.transferred_bytes(self._cov)
        return [*found, Measurement("transferred_bytes", "B", (float(moved),))] if moved else found
