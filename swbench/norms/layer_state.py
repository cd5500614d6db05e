"""The state of a whitening layer: settings, parameters and running statistics, by the conventions
of torch's own modules.
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
"""Weight of the old value in an update of running statistics, as in the public code."""


class LastCall(NamedTuple):
    """The last call of a layer, cached because the next is usually like it."""

    settings: tuple
    """The settings of the layer at that call."""
    choice: tuple[str, str]
    """The names of solver and backend."""
    fused: FusedCall


class LayerState(nn.Module):
    """The state of a whitening layer, without its forward pass. `Whiten2d` documents the
    arguments.
    """

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
            solvers.get(solver)  # raises for an unknown solver
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
        """The weight of the old value in an update of the running statistics; None where they are
        the average over all batches. Another name of `momentum`.
        """
        return self.momentum

    @running_decay.setter
    def running_decay(self, value: float | None) -> None:
        self.momentum = decay_of(DECAY, value)

    def reset_running_stats(self) -> None:
        """Reset the running statistics to mean 0 and covariance I, and the count of
        batches to 0.
        """
        with torch.no_grad():
            if getattr(self, "running_mean", None) is not None:
                self.running_mean.zero_()
                self.running_cov.zero_().diagonal(dim1=-2, dim2=-1).fill_(1)
            if "num_batches_tracked" in self._buffers:
                self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Reset parameters and statistics to those of a new layer, as after construction on the
        meta device.
        """
        self.reset_running_stats()
        with torch.no_grad():
            for name in ("weight", "bias", "sw_mean_weight", "sw_var_weight"):
                parameter = getattr(self, name, None)
                if parameter is not None:
                    parameter.fill_(0 if name == "bias" else 1)

    def average_decay(self) -> float:
        """The weight of the old value with which running statistics are the average over all
        batches. In training counts one batch more. Reading the count synchronises with the device,
        as in `nn.BatchNorm2d`.
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
        """The state to pickle and copy: all but `_last`, which holds addresses of this process."""
        return {name: value for name, value in self.__dict__.items() if name != "_last"}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Load a state with or without a count of batches, whether this layer has one or not."""
        key, count = f"{prefix}num_batches_tracked", self._buffers.get("num_batches_tracked")
        if count is None:
            state_dict.pop(key, None)
        elif key not in state_dict:
            state_dict[key] = torch.zeros_like(count, device="cpu") if count.is_meta else count
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _logits(self) -> tuple[Tensor | None, Tensor | None]:
        """The logits of the weights of means and covariances."""
        return None, None

    @property
    def chosen(self) -> dict[str, str]:
        """The `solver` and `kernels` (backend) of the last call, or of the compiled graph; empty
        before the first call.
        """
        return (
            {}
            if self.choice is None
            else dict(zip(("solver", "kernels"), self.choice, strict=True))
        )

    @property
    def solver_spec(self) -> str:
        """The solver as text: `auto`, or a spec for `swbench.solvers.get`."""
        return self.solver if isinstance(self.solver, str) else self.solver.spec

    def paper_flops(self, shape: tuple[int, ...]) -> int:
        """FLOPs for an input of `shape` (N, C, H, W) by the rule of the paper's tables, as inferred
        from their figures: 2G + 3 per element (2G + 5 with a layer statistic), and G³ per matrix of
        each image.
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
    """The weight of the old value: `running_decay`, or `momentum` where that is not given. Raises
    ValueError where both are given, or for a value outside [0, 1].
    """
    if running_decay is ...:
        if momentum is not None and momentum < 0.5:
            _warn_of_momentum(momentum)
        return momentum
    if momentum != DECAY:
        raise ValueError(
            "momentum and running_decay are two names of the same setting; give only one"
        )
    if running_decay is not None and not 0 <= running_decay <= 1:
        raise ValueError(f"running_decay must lie in [0, 1] or be None, not {running_decay}")
    return running_decay


@cache
def _warn_of_momentum(_first: float) -> None:
    warnings.warn(
        f"momentum={_first} of a whitening layer is the weight of the OLD running statistics, as "
        "in the public Switchable Whitening code, and not of the new ones, as in nn.BatchNorm2d; "
        f"for momentum={_first} in the sense of nn.BatchNorm2d write "
        f"running_decay={1 - _first:g}, and "
        f"running_decay={_first} if this is meant",
        stacklevel=4,
    )
