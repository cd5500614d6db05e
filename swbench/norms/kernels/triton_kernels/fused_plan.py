"""A complete whitening layer as lists of launches, one forward and one backward, planned once for a
shape: three launches each for one image.
"""

from functools import lru_cache

import torch
from torch import Tensor

from swbench.norms.kernels.triton_kernels.launch import Launch, launch
from swbench.norms.kernels.triton_kernels.layer_config import Key, LayerConfig
from swbench.norms.kernels.triton_kernels.maps import UNMIXED, map_kernel
from swbench.norms.kernels.triton_kernels.merge import merge_kernel, total_kernel
from swbench.norms.kernels.triton_kernels.plan import (
    ALL,
    FETCHED,
    FETCHED_BESIDE,
    SUM_REGISTERS,
    Plan,
    arguments,
    fetched,
    power,
)
from swbench.norms.kernels.triton_kernels.small_gradients import gather_kernel, small_kernel
from swbench.norms.kernels.triton_kernels.solve import ALONE, MERGED, solve_kernel
from swbench.norms.kernels.triton_kernels.sums import sums_kernel
from swbench.norms.kernels.triton_kernels.workspace import Workspace
from swbench.solvers.iterative import gradient_quintics, quintics
from swbench.solvers.minimax import CUBIC
from swbench.solvers.polar_triton import product_precision
from swbench.solvers.triton_kernels import warps_of
from swbench.solvers.triton_kernels.polar import flat

MOST_IMAGES, MOST_VECTORS, MOST_LEFT = 32, 64, 256
"""The most images that `merge` and `total` process at once, vectors that they and `gather` fetch,
and rows of numbers that `gather` fetches: as many as four warps have registers for
(docs/gpu-kernels.md).
"""


@lru_cache(maxsize=1024)
def fused_plan(key: Key) -> "FusedPlan":
    """The plan for `key`, cached."""
    return FusedPlan(key)


class FusedPlan:
    """The launches forward and backward of a layer with one `config`."""

    def __init__(self, key: Key) -> None:
        self.key, self.config = key, LayerConfig(key)
        self.forward = self._forward()
        self.backward = self._backward()

    def _launch(
        self,
        kernel,
        programs: int,
        sizes: tuple[float, ...],
        constants: dict[str, object],
        warps: int,
        names: dict[str, str | None],
        registers: int | None = None,
    ) -> Launch:
        """A launch with `names` for tensors whose name differs from the kernel's argument; None for
        those that the layer does not have.
        """
        missing = self.config.missing_tensors
        count = len(kernel.arg_names) - len(sizes) - len(constants)
        tensor_names = (names.get(name, name) for name in kernel.arg_names[:count])
        return Launch(
            kernel,
            programs,
            sizes,
            constants,
            warps,
            tuple(None if name in missing else name for name in tensor_names),
            registers,
        )

    def _tile(self, chunk: int) -> dict[str, int]:
        """The constants of a small kernel's tile, and `chunk`, the number of tiles that it fetches
        at once to sum them.
        """
        plan = self.config.sum_plan
        return {"G": plan.group, "TILE": plan.tile, "PACK": plan.pack, "CHUNK": chunk}

    def _parts_at_once(self) -> int:
        """The parts fetched at once: as many as a thread has registers for, or one. No number
        between, because each needs its own compilation.
        """
        tile, group = self.config.sum_plan.tile, self.config.sum_plan.group
        if self.config.sum_plan.parts == 1:
            return 1
        # what is read entry by entry needs registers for addresses and masks as well
        registers = FETCHED if group == tile else FETCHED // 2
        return fetched(tile * tile, warps_of(tile), registers if tile == 16 else FETCHED_BESIDE)

    def _solver(self, backward: bool) -> dict[str, object]:
        solver, group = self.key.solver, self.key.recipe.group
        steps = (
            (*gradient_quintics(torch.float32, group), CUBIC)
            if backward
            else quintics(torch.float32, solver.low, solver.steps)
        )
        return {"STEPS": flat(steps), "PRECISION": product_precision(solver.precision, group)}

    def _sum(self, pair: bool) -> Launch:
        plan = self.config.sum_plan
        sizes = (
            self.config.centre,
            plan.channels // plan.channel_unit,
            plan.pixels // plan.pixel_unit,
            plan.parts,
            plan.blocks,
        )
        names = {"left": "dy" if pair else None, "shift": None}
        bounded = plan.tile == 16 and plan.pack == 1 and not plan.last
        bounded = bounded and self.key.dtypes[0] is torch.float32
        return self._launch(
            sums_kernel,
            plan.sum_programs,
            sizes,
            {"PAIR": pair, **arguments(plan)},
            plan.warps,
            names,
            SUM_REGISTERS if bounded else plan.registers,
        )

    def _over_batch(self, kernel, *more: float) -> Launch:
        """A launch of a kernel that sums over a batch, some rows of a matrix a program."""
        plan = self.config.sum_plan
        side = power(plan.group)
        slab, images = min(4, side), min(MOST_IMAGES, power(plan.images))
        constants = {
            "G": plan.group,
            "LAST": plan.last,
            "SLAB": slab,
            "SIDE": side,
            "IMAGES": images,
            "FETCH": 1 if plan.parts == 1 else min(8, MOST_VECTORS // images),
            "CHUNK": fetched(slab * side, 4),
        }
        sizes = (self.config.centre, plan.images, plan.channels, plan.pixels, plan.parts, *more)
        return self._launch(
            kernel, plan.channels // plan.group * -(-plan.group // slab), sizes, constants, 4, {}
        )

    def _map(self, plan: Plan, names: dict[str, str | None], transposed: bool) -> Launch:
        config = self.config
        mixed = (
            {
                "ALONE": config.batch == ALONE.value,
                "KINDS": config.kinds,
                "TILES": power(plan.tiles),
            }
            if transposed and config.kinds
            else UNMIXED
        )
        constants = {"TRANSPOSED": transposed, **mixed, **arguments(plan)}
        sizes = (
            plan.channels // plan.channel_unit,
            plan.pixels // plan.pixel_unit,
            int(config.sets > 1),
        )
        return self._launch(
            map_kernel, plan.map_programs, sizes, constants, plan.warps, names, plan.registers
        )

    def _forward(self) -> list[Launch]:
        config, key, plan = self.config, self.key, self.config.sum_plan
        fresh, warps, wide, chunk = (
            1 - key.momentum,
            warps_of(plan.tile),
            power(plan.channels),
            self._parts_at_once(),
        )
        launches = [self._sum(False)] if config.sums_forward else []
        if config.batch == MERGED.value:
            launches.append(self._over_batch(merge_kernel, fresh))
        constants = {
            "IMAGE": key.recipe.uses_image or config.batch == ALONE.value,
            "BATCH": config.batch,
            "KINDS": config.kinds,
            **self._solver(False),
            **self._tile(chunk),
            "LAST": plan.last,
            "WIDE": wide,
            "LAYER_CHUNK": min(chunk, max(1, 512 * warps // wide)),
        }
        sizes = (config.centre, plan.channels, plan.pixels, plan.parts, key.recipe.eps, fresh)
        launches.append(
            self._launch(solve_kernel, config.sets * plan.tiles, sizes, constants, warps, {}, ALL)
        )
        unused = dict.fromkeys(
            (
                "x",
                "b",
                "batch_b",
                "batch_c",
                "batch_mean",
                "layer",
                "weights",
                "scalars",
                "grad_mean_logits",
                "grad_cov_logits",
            )
        )
        launches.append(
            self._map(
                config.map_plan,
                {**unused, "source": "x", "out": "y", "c": "offset", "near": "mean"},
                False,
            )
        )
        return launches

    def _backward(self) -> dict[bool, list[Launch]]:
        """The launches by whether dx is wanted."""
        config, plan, names = self.config, self.config.sum_plan, {}
        launches = [self._sum(True)]
        if config.shared:
            launches.append(self._over_batch(total_kernel))
            names = {"second": "m", "first": "s"}
        if config.gathers:
            names |= {"grad_gamma": "gammas", "grad_beta": "betas"}
        parts, chunk = (1, 1) if config.shared else (plan.parts, self._parts_at_once())
        sizes = (
            config.centre,
            plan.channels,
            plan.pixels,
            parts,
            1 / (plan.pixels * (plan.images if config.shared else 1)),
        )
        constants = {
            "SUMMED": config.shared,
            "FLOW": config.flow,
            "BATCH": config.batch,
            "KINDS": config.kinds,
            **self._solver(True),
        }
        constants |= {**self._tile(chunk), "LAST": plan.last}
        launches.append(
            self._launch(
                small_kernel,
                config.sets * plan.tiles,
                sizes,
                constants,
                warps_of(plan.tile),
                names,
                ALL,
            )
        )
        gather = [self._gather()]
        launches += gather if config.gathers else []
        return {
            True: [*launches, self._combine()],
            False: launches + (gather if config.kinds and not config.gathers else []),
        }

    def _gather(self) -> Launch:
        config, plan = self.config, self.config.sum_plan
        chunk = min(power(plan.images), fetched(plan.tile * plan.tile, 4))
        constants = {
            "BATCH": config.batch,
            "KINDS": config.kinds,
            **self._tile(chunk),
            "VECTORS": min(MOST_VECTORS, power(plan.images)),
            "LEFT": min(MOST_LEFT, power(plan.images * plan.tiles)),
        }
        names = {"grad_b": "batch_b", "grad_c": "batch_c"}
        return self._launch(
            gather_kernel,
            plan.tiles,
            (plan.images, plan.channels, 1 / (plan.images * plan.pixels)),
            constants,
            4,
            names,
        )

    def _combine(self) -> Launch:
        config, names = self.config, {"source": "dy", "out": "dx"}
        weights = dict.fromkeys(("grad_mean_logits", "grad_cov_logits"))
        unused = dict.fromkeys(("batch_mean", "layer", "weights", "scalars")) | weights
        if not config.flow:
            return self._map(
                config.map_plan,
                {
                    **names,
                    **unused,
                    **dict.fromkeys(("x", "b", "c", "near", "batch_b", "batch_c")),
                },
                True,
            )
        names |= (weights if config.gathers else {}) if config.kinds else unused
        names |= {"b": "grad_b", "c": "grad_c", "near": "image_mean" if config.kinds else "mean"}
        return self._map(config.combine_plan, names, True)

    def run(
        self,
        launches: list[Launch],
        tensors: dict[str, Tensor | None],
        *workspaces: tuple[Workspace, Tensor],
    ) -> None:
        """Launch with `tensors` and `workspaces` (and the memory of each)."""
        launch(launches, tensors, workspaces, self.key.device)
