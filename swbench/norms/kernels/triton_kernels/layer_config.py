"""The configuration of a whitening layer of one shape in Triton: its plans, its mixture, its
gradient flow, and the workspaces that its launches share.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from swbench.norms.context import Running
from swbench.norms.kernels.triton_kernels.mixture import FIELDS
from swbench.norms.kernels.triton_kernels.plan import MAP, MAP_TWO, SUM, multiprocessors, plan_of
from swbench.norms.kernels.triton_kernels.solve import ALONE, MERGED, NONE, RUNNING
from swbench.norms.kernels.triton_kernels.workspace import Workspace
from swbench.norms.recipe import Recipe
from swbench.solvers.polar_triton import PolarTriton


class Key(NamedTuple):
    """Everything that the launches of a layer depend on."""

    recipe: Recipe
    solver: PolarTriton
    shape: tuple[int, ...]
    last: bool
    training: bool
    momentum: float
    device: torch.device
    dtypes: tuple[torch.dtype | None, ...]
    """Of x, γ, β, both sets of logits and both running statistics."""


class LayerConfig:
    """The decisions that follow from a `key`, and the workspaces: `saved` is saved for backward,
    `forward_workspace` and `backward_workspace` are freed after their pass.
    """

    def __init__(self, key: Key) -> None:
        recipe, (images, channels, height, width) = key.recipe, key.shape
        self.key, group, pixels = key, recipe.group, height * width
        self.sum_plan, self.map_plan, self.combine_plan = (
            plan_of(images, channels, pixels, group, key.last, multiprocessors(key.device), n)
            for n in (SUM, MAP, MAP_TWO)
        )
        self.centre = height // 2 * width + width // 2
        batch = (ALONE if images == 1 else MERGED) if key.training else RUNNING
        self.batch: int = batch.value if recipe.uses_batch else NONE.value
        """The kind of the batch's statistics: one of the constants in `solve`."""
        count = len(recipe.statistics)
        self.kinds = 0 if count == 1 or (self.batch == ALONE.value and recipe.all_full) else count
        """The number of statistics that are mixed; 0 where all are equal."""
        self.shared = images > 1 and not recipe.uses_image
        """Whether several images share one matrix for each group."""
        self.sets = images if recipe.uses_image else 1
        """The number of matrices for each group."""
        self.sums_forward = self.batch != RUNNING.value or recipe.uses_image
        self.flow = recipe.uses_image or key.training
        """Whether gradients flow through statistics."""
        self.gathers = images > 1 and not self.shared and (self.kinds > 0 or any(key.dtypes[1:3]))
        """Whether a separate kernel sums over images in the backward pass."""
        self.saved, self.forward_workspace, self.backward_workspace = (
            self._saved_tensors(),
            Workspace(**(self._parts() if self.sums_forward else dict.fromkeys(self._parts(), 0))),
            self._backward_tensors(),
        )
        self.missing_tensors = self._missing()

    @property
    def _sizes(self) -> tuple[int, int, int]:
        plan = self.sum_plan
        return plan.images, plan.channels, plan.channels * plan.group

    def _parts(self) -> dict[str, int]:
        images, vector, matrix = self._sizes
        return {
            "second": images * self.sum_plan.parts * matrix,
            "first": images * self.sum_plan.parts * vector,
        }

    def _saved_tensors(self) -> Workspace:
        images, vector, matrix = self._sizes
        sets, mixes = self.sets, self.kinds > 0
        batch = self.batch in (MERGED.value, RUNNING.value)
        return Workspace(
            a=sets * matrix,
            w=sets * matrix,
            offset=sets * vector,
            mean=sets * vector,
            image_mean=mixes * images * vector,
            image_cov=mixes * images * matrix,
            batch_mean=batch * vector,
            batch_cov=batch * matrix,
            layer=(mixes and self.key.recipe.layer_index is not None) * 2 * images,
            weights=mixes * 16,
        )

    def constants(self, saved: Tensor) -> tuple[Tensor | None, Tensor | None, Running | None]:
        """The values of the forward pass that filled `saved`: both sets of logits, up to a constant
        that cancels in softmax (None where nothing was mixed, so that nothing depends on them), and
        the running statistics where they were constants.
        """
        tensors, group = self.saved.tensors(saved), self.key.recipe.group
        logits = (None, None)
        if self.kinds:
            logits = tensors["weights"].view(2, -1)[:, : self.kinds].log().unbind()
        running = None
        if self.batch == RUNNING.value:
            mean, cov = tensors["batch_mean"], tensors["batch_cov"]
            running = Running(mean.view(-1, group, 1), cov.view(-1, group, group), 1.0)
        return *logits, running

    def _backward_tensors(self) -> Workspace:
        images, vector, matrix = self._sizes
        gamma, beta = (dtype is not None for dtype in self.key.dtypes[1:3])
        batch = self.kinds > 0 and self.batch == MERGED.value
        return Workspace(
            **self._parts(),
            m=self.shared * matrix,
            s=self.shared * vector,
            grad_b=self.flow * self.sets * matrix,
            grad_c=self.flow * self.sets * vector,
            gammas=(self.gathers and gamma) * images * vector,
            betas=(self.gathers and beta) * images * vector,
            d_cov=batch * images * matrix,
            d_mean=batch * images * vector,
            batch_b=batch * matrix,
            batch_c=batch * vector,
            scalars=(self.kinds > 0) * images * self.sum_plan.tiles * FIELDS.value,
        )

    def _missing(self) -> set[str | None]:
        """The names of tensors that this layer does not have."""
        named = ("gamma", "beta", "mean_logits", "cov_logits")
        missing_tensors = {
            name for name, dtype in zip(named, self.key.dtypes[1:5], strict=True) if dtype is None
        }
        missing_tensors |= {f"grad_{name}" for name in missing_tensors}
        missing_tensors |= {"running_mean", "running_cov"} if self.key.dtypes[5] is None else set()
        return (
            missing_tensors
            | {
                name
                for workspace in (self.saved, self.backward_workspace)
                for name, _, size in workspace.places
                if not size
            }
            | {None}
        )
