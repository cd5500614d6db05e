"""A root is timed forward only, by the stopwatch, and its accuracy is that of the last call's
outputs.
"""

import pytest
import torch

from swbench.case import SolverCase
from swbench.probes import roots
from swbench.probes.roots import RootWorkload, matrices, solver_workload
from swbench.probes.solver import SolverWorkload
from swbench.probes.workload import Unsupported
from swbench.solvers.eigh import Eigh

FIELDS = {"solver": "eigh", "batch": 5, "group": 16, "spectrum": "power-law=1e4"}
PEAK = {"before": (1e9, 1e9), "after": (5e8, 2e9)}
"""FLOPs and bytes a second; the higher of both counts."""


class Ticks:
    """A stopwatch on which every mark is one second after the one before."""

    def start(self):
        self.names = []

    def mark(self, name):
        self.names.append(name)

    def read(self):
        return {f"{name}_s": float(at) for at, name in enumerate(self.names, 1)}


@pytest.fixture(autouse=True)
def peak(monkeypatch):
    monkeypatch.setattr(roots, "peak_rates", lambda device, dtype, stored, when: PEAK[when])


def workload(**fields):
    return RootWorkload(SolverCase(**FIELDS | {"root": 4, "gradient": False} | fields), Ticks())


def measured(load):
    load.call()
    return {measurement.metric: measurement.samples for measurement in load.finish()}


def test_a_case_without_a_gradient_has_its_own_workload():
    assert isinstance(solver_workload(SolverCase(**FIELDS, gradient=False)), RootWorkload)
    assert isinstance(solver_workload(SolverCase(**FIELDS)), SolverWorkload)


def test_only_the_forward_pass_is_timed():
    assert workload().call() == {"forward_s": 1.0}
    assert workload().finish() == []


@pytest.mark.parametrize("root", [2, 4])
@pytest.mark.parametrize("solver", ["eigh", "polar"])
def test_a_root_keeps_its_promised_error(solver, root):
    samples = measured(workload(solver=solver, root=root))
    (promised,) = samples["promised_error"]
    assert 0 < samples["w_error_median"][0] <= samples["w_error_worst"][0] < promised
    assert samples["preconditioned_error_worst"][0] < 1e-3
    assert samples["root_residual_worst"][0] < 0.1
    assert samples["w_nonfinite_share"] == (0.0,)


@pytest.mark.parametrize("root", [2, 4])
def test_a_wrong_root_shows_in_every_error(root, monkeypatch):
    inverse_root = Eigh.inverse_root
    monkeypatch.setattr(
        Eigh, "inverse_root", lambda self, cov, root: inverse_root(self, cov, 6 - root)
    )
    samples = measured(workload(root=root))
    assert samples["w_error_median"][0] > samples["promised_error"][0]
    assert samples["preconditioned_error_median"][0] > 0.5
    assert samples["root_residual_median"][0] > 1


def test_a_mixed_batch_is_one_call_with_one_accuracy(monkeypatch):
    samples = measured(workload(sizes=(8, 16)))
    inverse_root = Eigh.inverse_root

    def worse(self, cov, root):
        x = inverse_root(self, cov, root)
        return 1.5 * x if x.shape[-1] == 8 else x

    monkeypatch.setattr(Eigh, "inverse_root", worse)
    load = workload(sizes=(8, 16))
    spoilt = measured(load)
    assert [len(root) for root in load._roots] == [5, 5]
    assert spoilt["w_error_worst"][0] == pytest.approx(0.5, rel=1e-2)
    assert samples["w_error_worst"][0] < 1e-2
    assert samples["flops"][0] == 5 * sum(Eigh().root_flops(size, 4) for size in (8, 16))


def test_the_share_of_failed_matrices_is_measured(monkeypatch):
    inverse_root = Eigh.inverse_root

    def spoilt(self, cov, root):
        x = inverse_root(self, cov, root)
        x[0, 0, 0] = torch.nan
        return x

    monkeypatch.setattr(Eigh, "inverse_root", spoilt)
    samples = measured(workload())
    assert samples["w_nonfinite_share"][0] == pytest.approx(0.2)
    assert samples["w_error_worst"][0] < 1e-2


def test_the_floor_is_work_over_the_machines_peak():
    # 5 products of 2·16³ at 1e9 a second take longer than 2·5·16²·4 bytes at 2e9
    assert measured(workload())["floor_s"] == (pytest.approx(5 * 2 * 16**3 / 1e9),)
    # of 4×4 matrices the bytes take longer
    assert measured(workload(group=4))["floor_s"] == (
        pytest.approx(max(5 * 2 * 4**3 / 1e9, 2 * 5 * 4**2 * 4 / 2e9)),
    )


def test_two_solvers_share_the_matrices():
    first, second = workload(), workload(solver="polar")
    assert first._covs[0] is second._covs[0]
    assert torch.equal(matrices("power-law=1e4", 5, 16, "float32", "cpu"), first._covs[0])


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"solver": "newton5"}, "'newton5' gives roots 2, not 4"),
        ({"dtype": "bfloat16"}, "takes float32 and float64, not bfloat16"),
        ({"cache": "cold"}, "a cold cache needs a CUDA device"),
    ],
)
def test_a_case_that_cannot_run_here_is_unsupported_with_its_reason(fields, reason):
    with pytest.raises(Unsupported, match=reason):
        workload(**fields)


def test_a_batch_that_does_not_fit_is_out_of_memory():
    from swbench.result import OUT_OF_MEMORY
    from swbench.worker.session import cause

    with pytest.raises(RuntimeError) as caught:
        workload(batch=4_000_000, group=1024)
    assert cause(caught.value)[0] == OUT_OF_MEMORY
