"""The layers on native kernels and solver agree with the same layers in float64 on torch
operations: outputs, gradients, running statistics.
"""

import copy

import pytest
import torch

from swbench.native import library
from swbench.norms import build
from swbench.norms.kernels.native import NativeBackend
from swbench.norms.layers import SwitchWhiten2d

pytestmark = pytest.mark.skipif(library.missing() is not None, reason=str(library.missing()))

NORMS = ["iw", "bw", "swa", "swb", "sw3", "tied"]


def layer_of(norm, channels, group, solver, kernels):
    options = {"group": group, "solver": solver, "kernels": kernels}
    if norm in ("sw3", "tied"):
        return SwitchWhiten2d(
            channels, group, sw_type=3, solver=solver, kernels=kernels, tie_weight=norm == "tied"
        )
    return build(norm, channels, **options)


def pair(norm, channels, group, train, solver="polar-native"):
    """The layer on native kernels in float32, and its float64 twin on torch operations, with random
    parameters and running statistics.
    """
    layer = layer_of(norm, channels, group, solver, "native")
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(0.3 * torch.randn_like(p))
        for name, buffer in layer.named_buffers():
            buffer.add_(0.05 if name == "running_cov" else 0.3)
    reference = layer_of(norm, channels, group, "eigh", "torch").double()
    reference.load_state_dict({k: v.double() for k, v in copy.deepcopy(layer.state_dict()).items()})
    return layer.train(train), reference.train(train)


def results(layer, x, dy):
    x = x.detach().requires_grad_()
    y = layer(x)
    expected_values = [x, *layer.parameters()]
    return {
        "y": y,
        **dict(
            zip(
                ("x", *(n for n, _ in layer.named_parameters())),
                torch.autograd.grad(y, expected_values, dy),
                strict=True,
            )
        ),
        **dict(layer.named_buffers()),
    }


def compare(actual, expected, tolerance):
    for name, right in expected.items():
        scale = max(1.0, right.abs().max().item())
        torch.testing.assert_close(
            actual[name].double() / scale,
            right.detach() / scale,
            rtol=tolerance,
            atol=tolerance,
            msg=lambda m, n=name: f"{n}: {m}",
        )


@pytest.mark.parametrize("shape", [(1, 32, 9, 11), (3, 32, 7, 5), (2, 64, 33, 31)])
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("group", [16, 8])
def test_agrees_with_float64(norm, train, shape, group):
    layer, reference = pair(norm, shape[1], group, train)
    mixing = torch.eye(shape[1]) + 0.3 * torch.randn(shape[1], shape[1])
    x = torch.einsum("dc,nchw->ndhw", mixing, torch.randn(shape)) + 5
    dy = torch.randn(shape)
    compare(results(layer, x, dy), results(reference, x.double(), dy.double()), 2e-4)
    assert layer.chosen == {"solver": "polar-native", "kernels": "native"}


@pytest.mark.parametrize("saved_layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("norm", ["bw", "swb"])
def test_any_layout_of_x_and_of_the_saved_x_is_taken(norm, layout, saved_layout):
    """Saved tensors that go through a hook (offloading to the host, say) can come back in another
    layout.
    """
    layer, reference = pair(norm, 32, 16, True)
    x, dy = torch.randn(2, 32, 9, 7).contiguous(memory_format=layout), torch.randn(2, 32, 9, 7)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: t.clone(memory_format=saved_layout) if t.dim() == 4 else t, lambda t: t
    ):
        actual = results(layer, x, dy)
    compare(actual, results(reference, x.double(), dy.double()), 2e-4)
    assert actual["y"].is_contiguous(memory_format=layout)


@pytest.mark.parametrize("norm", NORMS)
def test_agrees_with_another_solver_without_fusion(norm):
    layer, reference = pair(norm, 32, 16, True, solver="eigh")
    x, dy = torch.randn(2, 32, 13, 12), torch.randn(2, 32, 13, 12)
    compare(results(layer, x, dy), results(reference, x.double(), dy.double()), 2e-4)


def test_groups_larger_than_the_kernels_take_run_on_torch_operations():
    layer, reference = pair("swa", 80, 80, True, solver="eigh")
    x, dy = torch.randn(2, 80, 13, 12), torch.randn(2, 80, 13, 12)
    compare(results(layer, x, dy), results(reference, x.double(), dy.double()), 2e-4)


def test_tensors_that_c_would_misread_are_refused():
    layer = layer_of("swa", 32, 16, "auto", "native")
    with pytest.raises(ValueError, match=r"'native' does not take torch.float64 on cpu"):
        layer(torch.randn(2, 32, 8, 8, dtype=torch.float64))


def test_does_not_depend_on_the_number_of_threads():
    layer, _ = pair("swb", 32, 16, False)
    # large enough that every pass wakes the team (threads.c)
    x, dy = torch.randn(2, 32, 72, 65), torch.randn(2, 32, 72, 65)
    before, all_results = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        all_results.append(results(layer, x, dy))
    torch.set_num_threads(before)
    for expected in all_results[1:]:
        for name, value in all_results[0].items():
            assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("pixel", [(1, 2, 2), (0, 4, 4)], ids=["second", "centre of the first"])
@pytest.mark.parametrize("kernels", ["native", "torch"])
def test_a_nonfinite_image_affects_only_its_own_result(kernels, pixel):
    layer, _ = pair("iw", 32, 16, True)
    layer.kernels, (bad, *at) = kernels, pixel
    good = [n for n in range(3) if n != bad]
    x, dy = torch.randn(3, 32, 8, 8), torch.randn(3, 32, 8, 8)
    clean = results(layer, x, dy)
    x[(bad, 3, *at)] = torch.nan
    affected = results(layer, x, dy)
    for name in ("y", "x"):
        assert affected[name][bad, :16].isnan().all()
        assert torch.equal(affected[name][good], clean[name][good])
        assert torch.equal(affected[name][bad, 16:], clean[name][bad, 16:])


def test_reduced_gradients_are_those_of_the_torch_operations():
    """A reduction over ranks is not fused: what was fused forward is picked up by the torch
    operations.
    """
    from swbench import solvers
    from swbench.norms.kernels.algebra import Parameters
    from swbench.norms.recipe import Recipe
    from swbench.norms.statistics import Statistics, merge

    recipe, solver, kernels = (
        Recipe(("bw", "iw", "bn", "in", "ln"), 16, 1e-5),
        solvers.get("polar-native"),
        NativeBackend(),
    )
    x, dy, shift = torch.randn(3, 32, 9, 9), torch.randn(3, 32, 9, 9), torch.zeros(3, 32)
    mean, cov = kernels.moments(x, shift, 16)
    stats = Statistics(mean, cov, *merge(mean, cov), share=1 / 3)
    parameters = Parameters(torch.rand(32), torch.rand(32), torch.randn(5), torch.randn(5))
    solved = kernels.mix_and_solve(recipe, solver, stats, parameters)
    sums = kernels.products(dy, x, shift, 16)
    fused = kernels.small_gradients(recipe, solver, stats, parameters, solved, *sums, shift, 81)
    reduced = kernels.small_gradients(
        recipe, solver, stats, parameters, solved, *sums, shift, 81, reduce=lambda a, b: (a, b)
    )
    for actual, expected in zip(fused, reduced, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("called", [True, False])
@pytest.mark.parametrize(
    "abstract",
    [
        lambda: torch._efficientzerotensor((2, 8, 4, 5)),
        lambda: torch._neg_view(torch.full((2, 8, 4, 5), 2.0)),
    ],
    ids=["zero", "opposite"],
)
def test_tensors_whose_memory_differs_from_their_value_are_not_read(abstract, called):
    """A zero tensor of forward-mode differentiation has no memory at all: reading it would end the
    process.
    """
    layer, concrete = (
        SwitchWhiten2d(8, 4, solver="polar-native", kernels="native").eval(),
        abstract().clone(),
    )
    x = torch.randn(2, 8, 4, 5, requires_grad=True)
    if called:
        layer(x)
    assert torch.equal(layer(abstract()), layer(concrete))
    given, expected_values = [
        torch.autograd.grad(layer(x), [x, *layer.parameters()], dy) for dy in (abstract(), concrete)
    ]
    for actual, expected in zip(given, expected_values, strict=True):
        assert torch.equal(actual, expected)


def test_negated_views_as_parameters_and_statistics_are_read_by_value():
    layer, x = (
        SwitchWhiten2d(8, 4, solver="polar-native", kernels="native").eval(),
        torch.randn(2, 8, 4, 5),
    )
    mean, weight = torch.randn(2, 4, 1), torch.rand(8)
    layer.running_mean = mean.clone()
    expected = torch.func.functional_call(layer, {"weight": weight}, x)
    layer.running_mean = torch._neg_view(-mean)
    assert torch.equal(
        torch.func.functional_call(layer, {"weight": torch._neg_view(-weight)}, x), expected
    )
    nothing = torch.func.functional_call(layer, {"weight": torch.zeros(8)}, x)
    assert torch.equal(
        torch.func.functional_call(layer, {"weight": torch._efficientzerotensor((8,))}, x), nothing
    )
