"""A whole whitening layer as a list of launches each way, decided once for a shape: three forward and three backward for one image."""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from swbench.norms.kernels.triton_kernels.launch import Launch, launch
from swbench.norms.kernels.triton_kernels.maps import map_kernel
from swbench.norms.kernels.triton_kernels.merge import merge_kernel, total_kernel
from swbench.norms.kernels.triton_kernels.mixture import FIELDS
from swbench.norms.kernels.triton_kernels.plan import MAP, MAP_TWO, SUM, Plan, plan_of, power
from swbench.norms.kernels.triton_kernels.room import Room
from swbench.norms.kernels.triton_kernels.set import arguments, multiprocessors
from swbench.norms.kernels.triton_kernels.small import gather_kernel, small_kernel
from swbench.norms.kernels.triton_kernels.solve import ALONE, MERGED, NONE, RUNNING, solve_kernel
from swbench.norms.kernels.triton_kernels.sums import sums_kernel
from swbench.norms.recipe import Recipe
from swbench.solvers.iterative import quintics
from swbench.solvers.minimax import Step
from swbench.solvers.polar_triton import PolarTriton, product_precision
from swbench.solvers.triton_kernels import warps_of
from swbench.solvers.triton_kernels.polar import table_on


class Key(NamedTuple):
    """All that a layer's launches depend on."""

    recipe: Recipe
    solver: PolarTriton
    shape: tuple[int, ...]
    last: bool
    training: bool
    momentum: float
    device: torch.device
    dtypes: tuple[torch.dtype | None, ...]
    """Of x, γ, β, both sets of logits and both running statistics."""


def steps_of(solver: PolarTriton) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """The polynomials there and back."""
    return quintics(torch.float32, solver.low, solver.steps), quintics(torch.float32)


@lru_cache(maxsize=1024)
def whole_of(key: Key) -> "Whole":
    """The launches for `key`, kept."""
    return Whole(key)


class Whole:
    """The launches of both ways, and the rooms they share: `kept` is saved for the way back, the others are dropped at once."""

    def __init__(self, key: Key) -> None:
        recipe, (images, channels, height, width) = key.recipe, key.shape
        self.key, group, pixels = key, recipe.group, height * width
        self.sums, self.one, self.two = (plan_of(images, channels, pixels, group, key.last, multiprocessors(key.device), n) for n in (SUM, MAP, MAP_TWO))
        self.centre = height // 2 * width + width // 2
        batch = (ALONE if images == 1 else MERGED) if key.training else RUNNING
        self.batch = batch.value if recipe.uses_batch else NONE.value
        self.mix = len(recipe.statistics) > 1 and not (self.batch == ALONE.value and recipe.all_full)
        self.shared = images > 1 and not recipe.uses_image
        self.flow = recipe.uses_image or key.training
        self.gathers = images > 1 and not self.shared and (self.mix or any(key.dtypes[1:3]))
        self.sets = images if recipe.uses_image else 1
        self._set_rooms()
        self.absent = self._absent()
        self.forward = self._forward()
        self.backward = self._backward()

    def _set_rooms(self) -> None:
        key, plan, sets = self.key, self.sums, self.sets
        images, vector, matrix = plan.images, plan.channels, plan.channels * plan.group
        batch = self.batch == MERGED.value or (self.batch == RUNNING.value and self.mix)
        layer = self.mix and key.recipe.layer_index is not None
        self.kept = Room(
            a=sets * matrix,
            w=sets * matrix,
            offset=sets * vector,
            mean=sets * vector,
            image_mean=self.mix * images * vector,
            image_cov=self.mix * images * matrix,
            batch_mean=batch * vector,
            batch_cov=batch * matrix,
            layer=layer * 2 * images,
            weights=self.mix * 16,
        )
        parts = {"second": images * plan.parts * matrix, "first": images * plan.parts * vector}
        self.there = Room(**(parts if self._sums_forward else dict.fromkeys(parts, 0)))
        gamma, beta = (dtype is not None for dtype in key.dtypes[1:3])
        batch = self.mix and self.batch == MERGED.value
        self.back = Room(
            **parts,
            m=self.shared * matrix,
            s=self.shared * vector,
            grad_b=self.flow * sets * matrix,
            grad_c=self.flow * sets * vector,
            gammas=(self.gathers and gamma) * images * vector,
            betas=(self.gathers and beta) * images * vector,
            d_cov=batch * images * matrix,
            d_mean=batch * images * vector,
            batch_b=batch * matrix,
            batch_c=batch * vector,
            scalars=self.mix * images * plan.tiles * FIELDS.value,
        )

    def _absent(self) -> set[str | None]:
        """The names of tensors that this layer does not have."""
        named = ("gamma", "beta", "mean_logits", "cov_logits")
        absent = {name for name, dtype in zip(named, self.key.dtypes[1:5], strict=True) if dtype is None}
        absent |= {f"grad_{name}" for name in absent}
        absent |= {"running_mean", "running_cov"} if self.key.dtypes[5] is None else set()
        return absent | {name for room in (self.kept, self.back) for name, _, size in room.places if not size} | {None}

    @property
    def _sums_forward(self) -> bool:
        return self.batch != RUNNING.value or self.key.recipe.uses_image

    def _mixture(self) -> dict[str, int]:
        statistics = self.key.recipe.statistics
        where = {name.upper(): statistics.index(name) if self.mix and name in statistics else -1 for name in ("bw", "iw", "bn", "in", "ln")}
        return {**where, "COUNT": len(statistics)}

    def _tiles(self, items: int, most: int) -> dict[str, int]:
        """How a small kernel holds its tile, and how it fetches `items` tiles to add up, `most` at once."""
        plan = self.sums
        chunk = min(power(items), max(1, most // plan.tile))
        return {"G": plan.group, "TILE": plan.tile, "PACK": plan.pack, "CHUNK": chunk, "ROUNDS": -(-items // chunk)}

    def _solver(self) -> dict[str, object]:
        return {"STEPS": len(steps_of(self.key.solver)[0]), "PRECISION": product_precision(self.key.solver.precision, self.sums.group)}

    def _rows(self) -> dict[str, object]:
        """How a kernel that adds over a batch works on some rows of a matrix."""
        plan = self.sums
        side, items = power(plan.group), plan.images * plan.parts
        slab, images, fetch = min(4, side), min(8, power(plan.images)), min(8, power(plan.parts))
        chunk = min(power(items), 4096 // (slab * side))
        return {
            "G": plan.group,
            "LAST": plan.last,
            "SLAB": slab,
            "SIDE": side,
            "IMAGES": images,
            "IMAGE_ROUNDS": -(-plan.images // images),
            "FETCH": fetch,
            "FETCH_ROUNDS": -(-plan.parts // fetch),
            "CHUNK": chunk,
            "ROUNDS": -(-items // chunk),
        }

    def _launch(self, kernel, programs: int, sizes: tuple[float, ...], constants: dict[str, object], warps: int, names: dict[str, str | None]) -> Launch:
        """A launch whose `names` are those of tensors that are there."""
        gone = self.absent
        count = len(kernel.arg_names) - len(sizes) - len(constants)
        found = (names.get(name, name) for name in kernel.arg_names[:count])
        return Launch(kernel, programs, sizes, constants, warps, tuple(None if name in gone else name for name in found))

    def _sum(self, pair: bool) -> Launch:
        plan = self.sums
        sizes = (self.centre, plan.channels // plan.channel_unit, plan.pixels // plan.pixel_unit, plan.parts)
        names = {"left": "dy" if pair else None, "shift": None}
        return self._launch(sums_kernel, plan.sum_programs, sizes, {"BLOCKS": plan.blocks, "PAIR": pair, **arguments(plan)}, plan.warps, names)

    def _map(self, plan: Plan, names: dict[str, str | None], transposed: bool, finish: bool = False) -> Launch:
        tiles = plan.tiles
        constants = {
            "TRANSPOSED": transposed,
            "FINISH": finish,
            "ALONE": self.batch == ALONE.value,
            **self._mixture(),
            "TILES": power(tiles),
            "FIELD_ROUNDS": -(-tiles // 32),
            **arguments(plan),
        }
        constants["LN"] = constants["LN"] if transposed else -1
        sizes = (plan.channels // plan.channel_unit, plan.pixels // plan.pixel_unit, int(self.sets > 1))
        return self._launch(map_kernel, plan.map_programs, sizes, constants, plan.warps, names)

    def _forward(self) -> list[Launch]:
        plan, key = self.sums, self.key
        shape, fresh = (plan.channels, plan.pixels, plan.parts), 1 - key.momentum
        launches = [self._sum(False)] if self._sums_forward else []
        if self.batch == MERGED.value:
            rows = self._rows()
            programs = plan.channels // plan.group * -(-plan.group // rows["SLAB"])
            launches.append(self._launch(merge_kernel, programs, (self.centre, plan.images, *shape, fresh), rows, 4, {}))
        warps, wide, tiles = warps_of(plan.tile), power(plan.channels), self._tiles(plan.parts, 128)
        chunk = min(tiles["CHUNK"], max(1, 512 * warps // wide))
        constants = {
            "IMAGE": key.recipe.uses_image or self.batch == ALONE.value,
            "BATCH": self.batch,
            "MIX": self.mix,
            **self._mixture(),
            **self._solver(),
            **tiles,
            "LAST": plan.last,
            "WIDE": wide,
            "LAYER_CHUNK": chunk,
            "LAYER_ROUNDS": -(-plan.parts // chunk),
        }
        launches.append(self._launch(solve_kernel, self.sets * plan.tiles, (self.centre, *shape, key.recipe.eps, fresh), constants, warps, {}))
        nothing = dict.fromkeys(("x", "b", "batch_b", "batch_c", "batch_mean", "layer", "weights", "scalars", "grad_mean_logits", "grad_cov_logits"))
        launches.append(self._map(self.one, {**nothing, "source": "x", "out": "y", "c": "offset", "near": "mean"}, False))
        return launches

    def _backward(self) -> dict[bool, list[Launch]]:
        """The launches with and without dx."""
        plan, names = self.sums, {}
        shape = (plan.channels, plan.pixels, plan.parts)
        launches = [self._sum(True)]
        if self.shared:
            rows = self._rows()
            programs = plan.channels // plan.group * -(-plan.group // rows["SLAB"])
            launches.append(self._launch(total_kernel, programs, (self.centre, plan.images, *shape), rows, 4, {}))
            names = {"second": "m", "first": "s"}
        if self.gathers:
            names |= {"grad_gamma": "gammas", "grad_beta": "betas"}
        per_pixel = 1 / (plan.pixels * (plan.images if self.shared else 1))
        sizes = (self.centre, plan.channels, plan.pixels, 1 if self.shared else plan.parts, per_pixel)
        constants = {"SUMMED": self.shared, "FLOW": self.flow, "BATCH": self.batch, "MIX": self.mix, **self._mixture(), **self._solver()}
        constants |= {"STEPS": len(steps_of(self.key.solver)[1]), **self._tiles(1 if self.shared else plan.parts, 128), "LAST": plan.last}
        launches.append(self._launch(small_kernel, self.sets * plan.tiles, sizes, constants, warps_of(plan.tile), names))
        gather = [self._gather()]
        launches += gather if self.gathers else []
        return {True: [*launches, self._combine()], False: launches + (gather if self.mix and not self.gathers else [])}

    def _gather(self) -> Launch:
        plan = self.sums
        constants = {"BATCH": self.batch, "MIX": self.mix, **self._mixture(), **self._tiles(plan.images, 512)}
        constants |= {"VECTOR_ROUNDS": -(-plan.images // 16), "FIELD_ROUNDS": -(-plan.images * plan.tiles // 32)}
        names = {"grad_b": "batch_b", "grad_c": "batch_c"}
        return self._launch(gather_kernel, plan.tiles, (plan.images, plan.channels, 1 / (plan.images * plan.pixels)), constants, 4, names)

    def _combine(self) -> Launch:
        names = {"source": "dy", "out": "dx"}
        nothing = dict.fromkeys(("batch_mean", "layer", "weights", "scalars", "grad_mean_logits", "grad_cov_logits"))
        if not self.flow:
            return self._map(self.one, {**names, **nothing, **dict.fromkeys(("x", "b", "c", "near", "batch_b", "batch_c"))}, True)
        names |= {} if self.mix else nothing
        names |= {"b": "grad_b", "c": "grad_c", "near": "image_mean" if self.mix else "mean"}
        return self._map(self.two, names, True, self.mix and not self.gathers)

    def coefficients(self, back: bool) -> Tensor:
        """The polynomials' table on the device."""
        return table_on(steps_of(self.key.solver)[back], self.key.device)

    def run(self, launches: list[Launch], tensors: dict[str, Tensor | None], *rooms: tuple[Room, Tensor]) -> None:
        """Launch with `tensors` and `rooms`."""
        launch(launches, tensors, rooms, self.key.device)
