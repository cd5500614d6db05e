"""No tensor that is kept on a device is made while a CUDA graph is captured, and none is made
twice.
"""

import pytest
import torch

from swbench.norms.kernels import algebra
from swbench.norms.kernels.algebra import basis
from swbench.norms.layers import SwitchWhiten2d
from swbench.norms.recipe import Recipe
from swbench.solvers import cuda_capture, jacobi
from swbench.solvers.cuda_capture import capturing, refuse_in_capture

GPU = torch.device("cuda", 0)


@pytest.fixture
def captured(monkeypatch):
    """Whatever is done now is done while a graph is captured, on a CPU too."""
    monkeypatch.setattr(cuda_capture, "capturing", lambda device: True)
    monkeypatch.setattr(algebra, "capturing", lambda device: True)


@pytest.mark.parametrize("now", [True, False])
def test_capturing_is_false_on_a_cpu(monkeypatch, now):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: now)
    assert capturing(GPU) is now
    assert not capturing(torch.device("cpu"))


def test_host_copies_in_a_capture_are_refused_with_a_remedy(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    refuse_in_capture(torch.device("cpu"), "a table")
    with pytest.raises(
        RuntimeError,
        match=(
            "a table cannot be copied to cuda:0 while a CUDA graph is captured; "
            "make one call of this shape before"
        ),
    ):
        refuse_in_capture(GPU, "a table")


def test_constants_are_cached_but_not_from_a_capture(request):
    mine, like = Recipe(("bw", "iw"), 4, 1e-5), torch.zeros(1, dtype=torch.float64)
    algebra._BASES.pop((mine, 2, like.dtype, like.device), None)
    request.getfixturevalue("captured")
    inside = basis(mine, 2, like)
    assert basis(mine, 2, like).eye is not inside.eye
    request.getfixturevalue("monkeypatch").undo()
    first = basis(mine, 2, like)
    assert basis(mine, 2, like) is first
    assert all(torch.equal(a, b) for a, b in zip(first, inside, strict=True))


def test_constants_made_before_a_capture_are_used_in_it(request):
    mine, like = Recipe(("bw", "iw"), 4, 1e-5), torch.zeros(1)
    first, turn = basis(mine, 2, like), jacobi._turn(3)
    request.getfixturevalue("captured")
    assert basis(mine, 2, like) is first
    assert jacobi._turn(3) is turn


@pytest.mark.usefixtures("captured")
def test_rotation_orders_are_not_copied_in_a_capture():
    jacobi._turn.cache_clear()
    with pytest.raises(RuntimeError, match="the line-ups of the rotations cannot be copied"):
        jacobi._turn(5)


def test_a_compiled_layer_makes_its_constants_when_its_workspace_is_measured():
    """Before anything runs, for one image and for several."""
    from swbench.norms import custom_ops

    layer = SwitchWhiten2d(8, 4, solver="eigh", kernels="torch", eps=0.0123)  # no other test's
    custom_ops.arguments(layer.described(), torch.randn(2, 8, 3, 3), *layer._tensors())
    built = set(algebra._BASES)
    for images in (1, 2):
        layer(torch.randn(images, 8, 3, 3, requires_grad=True)).sum().backward()
    assert set(algebra._BASES) == built
