"""Statistics and solves are in full float32 whatever products a process lets cuBLAS round: TF32 is
off inside, and allowed again after.
"""

import contextlib
from typing import ClassVar

import pytest
import torch

from swbench.norms import precision
from swbench.norms.layers import SwitchWhiten2d
from swbench.norms.precision import FULL, WITHOUT_TF32, allowed, full_precision
from swbench.solvers.eigh import Eigh

MATMUL = torch.backends.cuda.matmul
WAYS = {
    "high": lambda: torch.set_float32_matmul_precision("high"),
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "flag": lambda: setattr(MATMUL, "allow_tf32", True),
}
if precision.HAS_FP32_PRECISION:
    WAYS["newer"] = lambda: setattr(MATMUL, "fp32_precision", "tf32")
    WAYS["general"] = lambda: setattr(torch.backends, "fp32_precision", "tf32")


@pytest.fixture(autouse=True)
def settings():
    """The process's settings, put back."""
    yield
    torch.set_float32_matmul_precision("highest")
    if precision.HAS_FP32_PRECISION:
        for module in (torch.backends, MATMUL, torch.backends.mkldnn.matmul):
            module.fp32_precision = "none"


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param]


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Tensors on a CPU are treated as those are whose products cuBLAS makes."""
    monkeypatch.setattr(precision, "on_cublas", lambda x: True)


@pytest.mark.usefixtures("as_on_a_gpu")
def test_tf32_is_off_inside_and_restored_after(way):
    way()
    before = allowed()
    assert before not in FULL
    with full_precision(torch.zeros(1)):
        assert allowed() in FULL
    assert allowed() == before


@pytest.mark.parametrize("name", ["high", "medium"])
@pytest.mark.usefixtures("as_on_a_gpu")
def test_the_older_setting_is_readable_after(name):
    torch.set_float32_matmul_precision(name)
    with full_precision(torch.zeros(1)):
        pass
    assert torch.get_float32_matmul_precision() == name
    assert MATMUL.allow_tf32


READINGS = {
    "older": torch.get_float32_matmul_precision,
    "flag": lambda: MATMUL.allow_tf32,
    "newer": allowed,
}
if precision.HAS_FP32_PRECISION:
    READINGS["mkldnn"] = lambda: torch.backends.mkldnn.matmul.fp32_precision
    READINGS["general"] = lambda: torch.backends.fp32_precision


def readings():
    """What torch says of each setting; nothing where it raises, for two were mixed."""
    settings_read = {}
    for name, read in READINGS.items():
        with contextlib.suppress(RuntimeError):
            settings_read[name] = read()
    return settings_read


@pytest.mark.usefixtures("as_on_a_gpu")
def test_readable_settings_stay_readable_and_are_restored(way):
    way()
    before = readings()
    with full_precision(torch.zeros(1)):
        assert set(readings()) >= set(before)
    assert readings() == before


@pytest.mark.skipif(not precision.HAS_FP32_PRECISION, reason="this torch has one setting")
@pytest.mark.usefixtures("as_on_a_gpu")
def test_a_setting_that_followed_the_general_one_follows_it_again():
    torch.backends.fp32_precision = "tf32"
    with full_precision(torch.zeros(1)):
        pass
    torch.backends.fp32_precision = "ieee"
    assert allowed() == "ieee"


@pytest.mark.usefixtures("as_on_a_gpu")
def test_tf32_is_restored_after_an_exception(way):
    way()
    before = allowed()
    with pytest.raises(KeyError), full_precision(torch.zeros(1)):
        raise KeyError
    assert allowed() == before


def test_tf32_stays_off_until_the_last_thread_leaves(way):
    way()
    before = allowed()
    with WITHOUT_TF32:
        with WITHOUT_TF32:
            pass
        assert allowed() in FULL
    assert allowed() == before


def test_settings_without_tf32_are_not_changed(monkeypatch):
    monkeypatch.setattr(precision, "switch_off", lambda before: pytest.fail("switched off"))
    with WITHOUT_TF32:
        pass


class Watched(Eigh):
    """`eigh`, which says what products it could have been given."""

    seen: ClassVar[list[str]] = []

    def forward(self, cov):
        self.seen.append(allowed())
        return super().forward(cov)

    def gradient(self, saved, grad_w):
        self.seen.append(allowed())
        return super().gradient(saved, grad_w)


class Broken(Eigh):
    """Fails on the way back."""

    def gradient(self, saved, grad_w):
        raise KeyError


@pytest.mark.usefixtures("as_on_a_gpu")
def test_forward_and_backward_are_in_full_precision(way):
    way()
    before, x = allowed(), torch.randn(2, 8, 3, 3, requires_grad=True)
    Watched.seen.clear()
    y = SwitchWhiten2d(8, 4, solver=Watched(), kernels="torch")(x)
    assert allowed() == before
    y.sum().backward()
    assert allowed() == before
    assert len(Watched.seen) == 2
    assert set(Watched.seen) <= set(FULL)


@pytest.mark.usefixtures("as_on_a_gpu")
def test_a_failing_backward_leaves_the_setting_as_it_was(way):
    way()
    before = allowed()
    y = SwitchWhiten2d(8, 4, solver=Broken(), kernels="torch")(
        torch.randn(2, 8, 3, 3, requires_grad=True)
    )
    with pytest.raises(KeyError):
        y.sum().backward()
    assert allowed() == before


def test_no_setting_is_read_on_a_cpu(monkeypatch):
    monkeypatch.setattr(precision, "allowed", lambda: pytest.fail("asked"))
    SwitchWhiten2d(8, 4, kernels="torch")(
        torch.randn(2, 8, 3, 3, requires_grad=True)
    ).sum().backward()
