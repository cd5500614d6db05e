"""What a whitening layer is made of: its settings, parameters and running statistics, with the
conventions of torch's own modules.
"""

import warnings
from functools import cache
from types import EllipsisType
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from swbench import solvers
from swbench.norms import kernels as kernel_sets
from swbench.norms.distributed_statistics import Group
from swbench.norms.kernels.backend import FusedCall
from swbench.norms.recipe import Recipe
from swbench.solvers.base import Solver
from swbench.solvers.choice import AUTO

DECAY = 0.99
"""Share of the old value in an update of running statistics, as in the public code."""


class LastCall(NamedTuple):
    """The last call of a layer, which most of the next are like."""

    settings: tuple
    """Those of the layer."""
    choice: tuple[str, str]
    """The names of its solver and backend."""
    fused: FusedCall


class LayerState(nn.Module):
    """The state of a whitening layer, without its forward pass; `Whiten2d` explains it."""

    statistics: ClassVar[tuple[str, ...]]
    track_running_stats = True  # of layers that an older version pickled
    _last: LastCall | None = None

    def __init__(
        self,
        num_features: int,
        num_pergroup: int = 16,
        solver: str | Solver = AUTO,
        eps: float = 1e-5,
        momentum: float | None = DECAY,
        affine: bool = True,
        kernels: str = AUTO,
        *,
        process_group: Group = None,
        statistics: tuple[str, ...] | None = None,
        running_decay: float | EllipsisType | None = ...,
        track_running_stats: bool = True,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if num_pergroup < 1 or num_features < 1 or num_features % num_pergroup:
            raise ValueError(
                f"{num_features} channels do not divide into groups of {num_pergroup}; "
                f"choose a group size that divides {num_features}"
            )
        self.num_features, self.num_pergroup = num_features, num_pergroup
        self.momentum = decay_of(momentum, running_decay)
        self._sizes = f"{num_features},{num_pergroup}"  # for `Description`
        self.recipe = Recipe(statistics or self.statistics, num_pergroup, eps)
        self.solver, self.kernels, self.process_group = solver, kernels, process_group
        self.track_running_stats = track_running_stats
        self.choice: tuple[str, str] | None = None
        if isinstance(solver, str) and solver != AUTO:
            solvers.get(solver)  # which refuses one that is none
        if kernels != AUTO:
            kernel_sets.TABLE.check(kernels)
        groups, factory = num_features // num_pergroup, {"device": device, "dtype": dtype}
        for name in ("weight", "bias"):
            parameter = nn.Parameter(torch.empty(num_features, **factory)) if affine else None
            self.register_parameter(name, parameter)
        if self.recipe.uses_batch:
            for name, size in (("running_mean", 1), ("running_cov", num_pergroup)):
                shape = groups, num_pergroup, size
                buffer = torch.empty(shape, **factory) if track_running_stats else None
                self.register_buffer(name, buffer)
            if track_running_stats and self.momentum is None:
                self._count_batches()
        self.reset_parameters()

    @property
    def running_decay(self) -> float | None:
        """The share of the old value in an update of the running statistics; None where they are
        the average over all batches. Another name of `momentum`.
        """
        return self.momentum

    @running_decay.setter
    def running_decay(self, value: float | None) -> None:
        self.momentum = decay_of(DECAY, value)

    def reset_running_stats(self) -> None:
        """Mean 0 and covariance I, of no batch so far."""
        with torch.no_grad():
            if getattr(self, "running_mean", None) is not None:
                self.running_mean.zero_()
                self.running_cov.zero_().diagonal(dim1=-2, dim2=-1).fill_(1)
            if "num_batches_tracked" in self._buffers:
                self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Everything as in a new layer: what a layer needs that was made on the meta device."""
        self.reset_running_stats()
        with torch.no_grad():
            for name in ("weight", "bias", "sw_mean_weight", "sw_var_weight"):
                parameter = getattr(self, name, None)
                if parameter is not None:
                    parameter.fill_(0 if name == "bias" else 1)

    def average_decay(self) -> float:
        """The share of the old value that makes the running statistics the average over all
        batches; in training counts one more. Reading the count waits for the device, as it does in
        `nn.BatchNorm2d`.
        """
        if not self.training:
            return 1.0
        if "num_batches_tracked" not in self._buffers:
            self._count_batches()
        self.num_batches_tracked.add_(1)
        return 1 - 1 / float(self.num_batches_tracked)

    def _count_batches(self) -> None:
        count = torch.zeros((), dtype=torch.long, device=self.running_mean.device)
        self.register_buffer("num_batches_tracked", count)

    def __getstate__(self) -> dict:
        """What is pickled and copied: all but `_last`, which holds addresses of this process."""
        return {name: value for name, value in self.__dict__.items() if name != "_last"}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """A count of batches is no mistake in a layer that needs none, nor its absence in one."""
        key, count = f"{prefix}num_batches_tracked", self._buffers.get("num_batches_tracked")
        if count is None:
            state_dict.pop(key, None)
        elif key not in state_dict:
            state_dict[key] = torch.zeros_like(count, device="cpu") if count.is_meta else count
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _logits(self) -> tuple[Tensor | None, Tensor | None]:
        """What the softmax makes weights of, for means and covariances."""
        return None, None

    @property
    def chosen(self) -> dict[str, str]:
        """What the last call ran on, `solver` and `kernels`; empty before the first one. Of a
        compiled layer, what was compiled.
        """
        return (
            {}
            if self.choice is None
            else dict(zip(("solver", "kernels"), self.choice, strict=True))
        )

    @property
    def solver_spec(self) -> str:
        """The solver as a word: `auto`, or what `swbench.solvers.get` takes."""
        return self.solver if isinstance(self.solver, str) else self.solver.spec

    def paper_flops(self, shape: tuple[int, ...]) -> int:
        """FLOPs of an input of `shape` (N, C, H, W) by the rule behind the paper's tables, inferred
        from their printed figures.

        2G + 3 per element, two more where a layer statistic enters, and G³ per whitening matrix of
        one image.
        """
        n, channels, height, width = shape
        group = self.num_pergroup
        per_element = 2 * group + (3 if self.recipe.layer_index is None else 5)
        return per_element * n * channels * height * width + n * (channels // group) * group**3

    def extra_repr(self) -> str:
        """The settings, as `repr` shows them."""
        solver = self.solver if isinstance(self.solver, str) else self.solver.name
        text = (
            f"{self.num_features}, num_pergroup={self.num_pergroup}, solver={solver}, "
            f"eps={self.recipe.eps}, momentum={self.momentum}, affine={self.weight is not None}"
        )
        return text if self.track_running_stats else f"{text}, track_running_stats=False"


def decay_of(momentum: float | None, running_decay: float | EllipsisType | None) -> float | None:
    """The share of the old value: `running_decay`, or `momentum` where that is not given. Raises
    ValueError where both are, or for one that is no share.
    """
    if running_decay is ...:
        if momentum is not None and momentum < 0.5:
            _warn_of_momentum(momentum)
        return momentum
    if momentum != DECAY:
        raise ValueError("momentum and running_decay are two names of one setting; give one")
    if running_decay is not None and not 0 <= running_decay <= 1:
        raise ValueError(f"running_decay must lie in [0, 1] or be None, not {running_decay}")
    return running_decay


@cache
def _warn_of_momentum(_first: float) -> None:
    warnings.warn(
        f"momentum={_first} of a whitening layer is the share of the OLD running statistics, as in "
        "the public Switchable Whitening code, and not of the new ones, as in nn.BatchNorm2d; for "
        f"what that calls momentum={_first} write running_decay={1 - _first:g}, and "
        f"running_decay={_first} if this is meant",
        stacklevel=4,
    )
