"""Every pixel and channel belongs to one program of a plan, whatever the shape, and a plan fills
the chip without more parts than it must.
"""

import importlib.util
import itertools

import pytest
import torch

from swbench.norms.context import Call
from swbench.norms.kernels.torch_ops import TorchBackend
from swbench.norms.kernels.triton_kernels import backend as triton_backend
from swbench.norms.kernels.triton_kernels.backend import TritonBackend
from swbench.norms.kernels.triton_kernels.plan import MOST_PARTS, RESIDENT, SUM, plan_of
from swbench.norms.recipe import Recipe
from swbench.solvers.polar_triton import PolarTriton

SHAPES = [
    (1, 64, 12544),
    (32, 64, 12544),
    (1, 256, 196),
    (32, 512, 49),
    (2, 20, 1),
    (1, 64, 713 * 713),
    (3, 24, 1000),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("group", [1, 2, 4, 5, 10, 20, 16, 32, 64])
def test_programs_cover_every_pixel_and_channel_once(shape, last, group):
    images, channels, pixels = shape
    if channels % group:
        pytest.skip("does not divide")
    plan = plan_of(images, channels, pixels, group, last, 132, SUM)
    rows = plan.pack * plan.group
    assert plan.tiles * rows >= channels > (plan.tiles - 1) * rows
    assert plan.bundles * (plan.stack if last else 1) >= plan.tiles
    assert (
        plan.parts * plan.blocks * plan.block
        >= pixels
        > (plan.parts - 1) * plan.blocks * plan.block
    )
    assert plan.parts <= MOST_PARTS
    assert plan.parts == 1 or plan.sum_programs <= RESIDENT * 132
    assert pixels % plan.pixel_unit == channels % plan.channel_unit == 0
    assert plan.width >= 16
    assert plan.tile >= 16


def test_is_a_function_of_the_shape_alone():
    for shape, last in itertools.product(SHAPES[:3], (False, True)):
        assert plan_of(*shape, 16, last, 132, SUM) == plan_of.__wrapped__(
            *shape, 16, last, 132, SUM
        )


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("images", [1, 32])
def test_image_sizes_share_their_compiled_kernels(monkeypatch, images, last):
    """What Triton compiles for: the constants and options, which pointers are there, and integers
    that it may look into.
    """
    from swbench.norms.kernels.triton_kernels import fused_plan, layer_config

    monkeypatch.setattr(layer_config, "multiprocessors", lambda device: 132)
    recipe, dtypes = Recipe(("bw", "iw", "bn", "in", "ln"), 16, 1e-5), (torch.float32,) * 7

    def compiled_for(side):
        key = layer_config.Key(
            recipe,
            PolarTriton(),
            (images, 64, side, side),
            last,
            True,
            0.99,
            torch.device("cuda", 0),
            dtypes,
        )
        built = fused_plan.FusedPlan(key)
        kernels = []
        for item in (*built.forward, *built.backward[True]):
            numbers = item.kernel.params[len(item.names) : len(item.names) + len(item.sizes)]
            assert all(
                number.do_not_specialize or isinstance(size, float)
                for number, size in zip(numbers, item.sizes, strict=True)
            )
            kernels.append(
                (
                    item.kernel.__name__,
                    item.constants,
                    item.options,
                    [name is None for name in item.names],
                )
            )
        return kernels

    sizes = [compiled_for(side) for side in (112, 96, 64, 224)]
    assert sizes[0] == sizes[1] == sizes[2] == sizes[3]
    assert compiled_for(7) != sizes[0]


@pytest.fixture
def launches(monkeypatch):
    """`launches(images, side)` -> name and launch of an SW^b layer of 64 channels on an H100, those
    of the forward pass first.
    """
    pytest.importorskip("triton")
    from swbench.norms.kernels.triton_kernels import fused_plan, layer_config

    monkeypatch.setattr(layer_config, "multiprocessors", lambda device: 132)
    recipe = Recipe(("bw", "iw", "bn", "in", "ln"), 16, 1e-5)

    def launches(images, side, dtype=torch.float32):
        key = layer_config.Key(
            recipe,
            PolarTriton(),
            (images, 64, side, side),
            False,
            True,
            0.99,
            torch.device("cuda", 0),
            (dtype, *[torch.float32] * 6),
        )
        built = fused_plan.FusedPlan(key)
        both = (*built.forward, *built.backward[True])
        return [(item.kernel.__name__.removesuffix("_kernel"), item) for item in both]

    return launches


def test_a_batch_of_32_is_summed_in_one_iteration(launches):
    """Each turn waits for the one before: with 8 images a turn, merging took four."""
    by_name = dict(launches(32, 112))
    assert by_name["merge"].constants["IMAGES"] == 32
    assert by_name["merge"].constants["IMAGES"] * by_name["merge"].constants["FETCH"] <= 64
    assert by_name["gather"].constants["CHUNK"] >= 32
    assert by_name["gather"].constants["VECTORS"] >= 32
    assert by_name["gather"].constants["LEFT"] >= 32 * 4


def test_a_matrix_of_16_is_solved_by_two_warps(launches):
    by_name = dict(launches(1, 112))
    assert by_name["solve"].warps == by_name["small"].warps == 2


def test_all_programs_of_a_sum_are_resident_at_any_width(launches):
    """713×713 images are 357 and 179 pixels wide after two strides: odd, read one by one, for which
    the compiler takes registers of which three programs fit a multiprocessor.
    """
    for side in (357, 179, 112):
        for name, item in launches(16, side):
            if name == "sums":
                assert item.registers == 128
                fitting = 65536 // (128 * 32 * item.warps)
                assert item.programs <= 132 * fitting
    assert launches(16, 357, torch.bfloat16)[0][1].registers is None


def test_a_group_larger_than_a_tile_is_refused():
    with pytest.raises(ValueError, match="G up to 64, not 65"):
        plan_of(1, 65, 9, 65, False, 132, SUM)


def test_images_beyond_32_bit_offsets_run_on_torch_operations(monkeypatch):
    """Offsets within a tile are counted in 32 bits; over images and tiles in 64."""
    x = torch.empty(1, 64, 6000, 6000, device="meta")
    assert triton_backend.supports(x, 16)
    assert not triton_backend.supports(x, 64)
    assert not triton_backend.supports(x[:, :, :1, :1], 65)
    assert plan_of(1, 64, 6000**2, 16, False, 132, SUM).pixels == 6000**2
    with pytest.raises(
        ValueError,
        match=(
            r"fewer than 33554432 pixels at G = 64, not 36000000; set `kernels` to "
            r"'torch'"
        ),
    ):
        plan_of(1, 64, 6000**2, 64, False, 132, SUM)
    calls = []
    monkeypatch.setattr(TorchBackend, "apply", lambda self, call, x, given: calls.append(x.shape))
    call = Call(Recipe(("iw",), 64, 1e-5), PolarTriton(), None, True)
    TritonBackend().apply(call, x, (None,) * 4)
    for name, arguments in (
        ("moments", (x, None, 64)),
        ("products", (x, x, None, 64)),
        ("affine", (x, torch.zeros(1, 1, 64, 64), None)),
    ):
        monkeypatch.setattr(TorchBackend, name, lambda self, *given: calls.append(given[0].shape))
        getattr(TritonBackend(), name)(*arguments)
    assert calls == [x.shape] * 4
