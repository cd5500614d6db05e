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
def test_is_off_inside_and_as_it_was_after(way):
    way()
    before = allowed()
    assert before not in FULL
    with full_precision(torch.zeros(1)):
        assert allowed() in FULL
    assert allowed() == before


@pytest.mark.parametrize("name", ["high", "medium"])
@pytest.mark.usefixtures("as_on_a_gpu")
def test_the_older_names_agree_again(name):
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
    found = {}
    for name, read in READINGS.items():
        with contextlib.suppress(RuntimeError):
            found[name] = read()
    return found


@pytest.mark.usefixtures("as_on_a_gpu")
def test_whatever_could_be_read_can_be_read_inside_and_is_the_same_after(way):
    way()
    before = readings()
    with full_precision(torch.zeros(1)):
        assert set(readings()) >= set(before)
    assert readings() == before


@pytest.mark.skipif(not precision.HAS_FP32_PRECISION, reason="this torch has one setting")
@pytest.mark.usefixtures("as_on_a_gpu")
def test_what_followed_from_a_general_setting_follows_from_it_again():
    torch.backends.fp32_precision = "tf32"
    with full_precision(torch.zeros(1)):
        pass
    torch.backends.fp32_precision = "ieee"
    assert allowed() == "ieee"


@pytest.mark.usefixtures("as_on_a_gpu")
def test_is_allowed_again_after_an_exception(way):
    way()
    before = allowed()
    with pytest.raises(KeyError), full_precision(torch.zeros(1)):
        raise KeyError
    assert allowed() == before


def test_the_first_to_leave_does_not_allow_it_to_those_inside(way):
    way()
    before = allowed()
    with WITHOUT_TF32:
        with WITHOUT_TF32:
            pass
        assert allowed() in FULL
    assert allowed() == before


def test_what_was_not_allowed_is_not_touched(monkeypatch):
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
def test_a_layer_is_in_full_precision_both_ways(way):
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


def test_nothing_is_asked_on_a_cpu(monkeypatch):
    monkeypatch.setattr(precision, "allowed", lambda: pytest.fail("asked"))
    SwitchWhiten2d(8, 4, kernels="torch")(
        torch.randn(2, 8, 3, 3, requires_grad=True)
    ).sum().backward()
