"""A solver case is timed by the stopwatch, and its accuracy is that of the last call's outputs."""

import pytest
import torch

from swbench import solvers
from swbench.case import SolverCase
from swbench.probes.solver import SolverWorkload
from swbench.probes.workload import Unsupported
from swbench.solvers.eigh import Eigh
from swbench.solvers.polar_native import PolarNative


class Ticks:
    """A stopwatch on which every mark is one second after the one before."""

    def start(self):
        self.names = []

    def mark(self, name):
        self.names.append(name)

    def read(self):
        return {f"{name}_s": float(at) for at, name in enumerate(self.names, 1)}


def workload(**fields):
    return SolverWorkload(
        SolverCase(**{"solver": "eigh", "batch": 5, "group": 8, "spectrum": "kappa=1e2"} | fields),
        Ticks(),
    )


def measured(load):
    load.call()
    return {m.metric: m.samples for m in load.finish()}


def test_forward_and_forward_backward_come_from_one_call():
    assert workload().call() == {"forward_s": 1.0, "forward_backward_s": 2.0}


def test_an_exact_solver_keeps_its_promised_error():
    samples = measured(workload())
    (promised,) = samples["promised_error"]
    assert samples["w_error_median"][0] <= samples["w_error_worst"][0] < promised
    assert samples["gradient_error_median"][0] <= samples["gradient_error_worst"][0] < 10 * promised
    assert 0 < samples["whitening_residual_worst"][0] < 1e-3
    assert samples["w_nonfinite_share"] == samples["gradient_nonfinite_share"] == (0.0,)
    assert samples["flops"] == (5 * solvers.get("eigh").flops(8),)


@pytest.mark.parametrize("fields", [{"group": 65}, {"dtype": "float64"}])
def test_a_solver_that_would_hand_over_to_another_is_unsupported(fields, monkeypatch):
    monkeypatch.setattr(PolarNative, "available", lambda self, device: None)
    with pytest.raises(Unsupported, match=r"'polar-native' does not solve .* itself"):
        workload(solver="polar-native", **fields)


def test_the_papers_backward_is_seen_to_fail_where_eigenvalues_meet():
    samples = measured(workload(solver="eigh:backward=paper", spectrum="identity"))
    assert samples["w_nonfinite_share"] == (0.0,)
    (share,) = samples["gradient_nonfinite_share"]
    assert share > 0.5  # some LAPACKs find eigenvalues of the identity that differ in the last bit
    assert (samples["gradient_error_worst"] == ()) == (share == 1.0)


def test_cholesky_whitens_but_is_far_from_zca():
    load = workload(solver="cholesky")
    samples = measured(load)
    assert samples["whitening_residual_worst"][0] < 1e-3
    assert samples["w_error_worst"][0] > 0.1
    assert "promised_error" not in samples
    assert load.chosen["exact"] == "no: whitens, but is not ZCA"


def test_the_output_of_the_last_timed_call_is_judged(monkeypatch):
    load = workload()
    good = measured(load)["w_error_worst"][0]
    forward = Eigh.forward

    def worse(self, cov):
        w, saved = forward(self, cov)
        w[3] *= 1.5
        return w, saved

    monkeypatch.setattr(Eigh, "forward", worse)
    samples = measured(load)
    assert samples["w_error_worst"][0] == pytest.approx(0.5, rel=1e-3)
    assert samples["w_error_median"][0] < 2 * good + 1e-6


def test_the_share_of_failed_matrices_is_measured(monkeypatch):
    load = workload()
    with torch.no_grad():
        load._cov[0, 0, 0] = torch.nan
    monkeypatch.setattr("torch.linalg.eigh", _safe_eigh(torch.linalg.eigh))
    samples = measured(load)
    assert samples["w_nonfinite_share"][0] == pytest.approx(0.2)
    assert len(samples["w_error_worst"]) == 1


def _safe_eigh(eigh):
    return lambda a: eigh(a.nan_to_num(1.0))


def test_nothing_is_judged_before_a_call():
    assert workload().finish() == []


def test_two_solvers_see_the_same_matrices():
    first, second = workload(), workload(solver="polar")
    assert torch.equal(first._cov, second._cov)
    assert torch.equal(first._grad_w, second._grad_w)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"dtype": "bfloat16"}, "takes float32 and float64, not bfloat16"),
        ({"mode": "graph"}, "mode graph with a hot cache needs a CUDA device"),
        ({"mode": "compile"}, "mode 'compile'"),
        ({"cache": "cold"}, "a cold cache needs a CUDA device"),
        ({"solver": "svd:driver=gesvdj"}, "belongs to cuSOLVER"),
    ],
)
def test_a_case_that_cannot_run_here_is_unsupported_with_its_reason(fields, reason):
    with pytest.raises(Unsupported, match=reason):
        workload(**fields)


def test_float64_is_judged_too_without_a_promise():
    samples = measured(workload(dtype="float64", solver="polar"))
    assert samples["w_error_worst"][0] < 1e-11
    assert "promised_error" not in samples
