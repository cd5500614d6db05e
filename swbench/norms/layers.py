"""The whitening layers: batch, instance and switchable whitening (Pan et al., Switchable Whitening,
ICCV 2019).
"""

from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from swbench import solvers
from swbench.norms import kernels as kernel_sets
from swbench.norms.context import Call, Description, Given, Running
from swbench.norms.distributed_statistics import Group, ranks_of
from swbench.norms.kernels.backend import Backend
from swbench.norms.kernels.pass_by_pass import Absent, PassBackend
from swbench.norms.recipe import Recipe
from swbench.norms.solver_choice import AUTO, solver_for
from swbench.norms.tensors import abstract, checked, statistics_dtype
from swbench.norms.traced import record
from swbench.solvers.base import Solver
from swbench.solvers.tracing import tracing

SW_TYPES = {2: ("bw", "iw"), 3: ("bw", "iw", "ln"), 5: ("bw", "iw", "bn", "in", "ln")}
"""`sw_type` of the public code: 2 is SW^a, 5 is SW^b. Statistics in the order of the weights."""


class Whiten2d(nn.Module):
    """What all whitening layers share: `num_features` channels in groups of `num_pergroup`, each
    whitened by its own G×G matrix.

    `statistics` names what is mixed (`Recipe`). `solver` is a spec (`eigh`, `svd:backward=paper`),
    a `Solver`, or `auto`, decided by device and shape at each call. `momentum` is the share of the
    *old* value in the running batch statistics, as in the public code; running statistics start at
    mean 0 and covariance I, so that an untrained layer in eval mode changes little (the public code
    starts at 0, which blows activations up by ε^(-1/2) until enough updates have been made).

    With a `process_group` (or `"world"`, the default group of each call) the batch is what all its
    ranks are given together, and running statistics are alike on all of them. Ranks may have images
    in different numbers, also none. In training mode each call communicates once in the forward
    pass and once in the backward pass, in eval mode never. Gradients are those of the sum of the
    ranks' losses; DistributedDataParallel averages the parameters' over ranks, as it does for every
    layer.

    Input (N, C, H, W), N·H·W ≥ 1 (N ≥ 0 with a process group), float32, float64, bfloat16 or
    float16, contiguous or channels_last (kept); other layouts are copied. Statistics and matrices
    are float32, or float64 for a float64 input. Raises ValueError if G does not divide C.
    """

    statistics: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        num_features: int,
        num_pergroup: int = 16,
        solver: str | Solver = AUTO,
        eps: float = 1e-5,
        momentum: float = 0.99,
        affine: bool = True,
        kernels: str = AUTO,
        *,
        process_group: Group = None,
        statistics: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__()
        if num_pergroup < 1 or num_features < 1 or num_features % num_pergroup:
            raise ValueError(
                f"{num_features} channels do not divide into groups of {num_pergroup}; "
                f"choose a group size that divides {num_features}"
            )
        self.num_features, self.num_pergroup, self.momentum = num_features, num_pergroup, momentum
        self._sizes = f"{num_features},{num_pergroup}"  # for `Description`
        self.recipe = Recipe(statistics or self.statistics, num_pergroup, eps)
        self.solver, self.kernels, self.process_group = solver, kernels, process_group
        self.choice: tuple[str, str] | None = None
        if isinstance(solver, str) and solver != AUTO:
            solvers.get(solver)  # which refuses one that is none
        if kernels != AUTO:
            kernel_sets.TABLE.check(kernels)
        groups = num_features // num_pergroup
        self.register_parameter(
            "weight", nn.Parameter(torch.ones(num_features)) if affine else None
        )
        self.register_parameter("bias", nn.Parameter(torch.zeros(num_features)) if affine else None)
        if self.recipe.uses_batch:
            self.register_buffer("running_mean", torch.zeros(groups, num_pergroup, 1))
            self.register_buffer("running_cov", torch.eye(num_pergroup).repeat(groups, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """The whitened, scaled and shifted `x`, (N, C, H, W), in its dtype and layout. Raises
        ValueError for any other shape, of `x` or of the running statistics.
        """
        compiled = torch.compiler.is_compiling()
        if not compiled and tracing() is None:
            return self.call_eagerly(x)
        communicates = self.process_group is not None and self.training and self.recipe.uses_batch
        if compiled:
            from swbench.norms import custom_ops  # which takes seconds: it loads the compiler

            if communicates or (self.process_group is not None and x.shape[0] == 0):
                return custom_ops.over_ranks(self.call_eagerly, x)
            x = checked(x, self.num_features)
            y, self.choice = custom_ops.whiten(self.described(), x, *self._tensors())
            return y
        if communicates:
            raise RuntimeError(
                "a whitening layer with a process group communicates in training, "
                "which torch.jit.trace cannot record; trace it in eval mode"
            )
        y, self.choice = record(self.described(), x, *self._tensors())
        return y

    def call_eagerly(self, x: Tensor) -> Tensor:
        """The layer outside of compiled graphs and traces."""
        recipe, group = self.recipe, self.process_group
        x = checked(x, self.num_features, group is not None)
        if abstract(x):
            x = x.clone()
        parameters, running = self._tensors()
        matrices = self.num_features // recipe.group * (x.shape[0] if recipe.uses_image else 1)
        solver, backend, choice = (
            _runs_on(self.solver, self.kernels, recipe.group, matrices, x.dtype, x.device)
            if type(x) is Tensor
            else _found(self.solver, self.kernels, recipe.group, matrices, x)
        )
        if self.choice != choice:  # an assignment to a module costs more than to compare
            self.choice = choice
        if group is None:
            return backend.apply(Call(recipe, solver, running, self.training), x, parameters)
        ranks = ranks_of(group) if running is not None and self.training else None
        call = Call(recipe, solver, running, self.training, ranks)
        if x.shape[0] == 0:
            return Absent.apply(x, *parameters, call)
        return PassBackend.apply(backend, call, x, parameters)

    def _tensors(self) -> tuple[Given, Running | None]:
        """The parameters, and the running statistics with their momentum where there are any."""
        # As attributes, six tensors cost a tenth of a small layer's dispatch
        # (benchmarks/dispatch_cpu.py); a parametrised one is an attribute only.
        own, kept = self._parameters, self._buffers
        try:
            weight, bias = own["weight"], own["bias"]
        except KeyError:
            weight, bias = self.weight, self.bias
        parameters = (weight, bias, *self._logits())
        if not self.recipe.uses_batch:
            return parameters, None
        try:
            return parameters, Running(kept["running_mean"], kept["running_cov"], self.momentum)
        except KeyError:
            return parameters, Running(self.running_mean, self.running_cov, self.momentum)

    def _logits(self) -> tuple[Tensor | None, Tensor | None]:
        """What the softmax makes weights of, for means and covariances."""
        return None, None

    def described(self) -> Description:
        """The layer as it is now, without its tensors."""
        return Description(
            self.recipe,
            self.num_features,
            self._sizes,
            self.solver,
            self.kernels,
            self.momentum,
            self.training,
        )

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
        solver = self.solver if isinstance(self.solver, str) else self.solver.name
        affine = self.weight is not None
        return (
            f"{self.num_features}, num_pergroup={self.num_pergroup}, solver={solver}, "
            f"eps={self.recipe.eps}, momentum={self.momentum}, affine={affine}"
        )


RunsOn = tuple[Solver, Backend, tuple[str, str]]
"""A solver, a backend, and their names."""


@lru_cache(maxsize=4096)
def _runs_on(
    solver: str | Solver,
    kernels: str,
    group: int,
    matrices: int,
    dtype: torch.dtype,
    device: torch.device,
) -> RunsOn:
    """What a layer runs on for plain tensors of `dtype` on `device`."""
    with _disable_current_modes():  # a fake tensor would not be taken by kernels
        like = torch.empty(0, dtype=dtype, device=device)
        return _found(solver, kernels, group, matrices, like)


def _found(solver: str | Solver, kernels: str, group: int, matrices: int, x: Tensor) -> RunsOn:
    found, name = solver_for(solver, group, matrices, statistics_dtype(x), x.device)
    backend = kernel_sets.kernels_for(x, kernels)
    return found, backend, (name, backend.name)


class BatchWhiten2d(Whiten2d):
    """Batch whitening: one mean and covariance a group over the whole batch; running ones in eval
    mode.
    """

    statistics = ("bw",)


class InstanceWhiten2d(Whiten2d):
    """Instance whitening: mean and covariance of each image, in training and eval mode alike."""

    statistics = ("iw",)


class SwitchWhiten2d(Whiten2d):
    """Switchable whitening: statistics mixed by learnt weights, softmax of `sw_mean_weight` and
    `sw_var_weight` kept apart.

    `sw_type` 2 is SW^a {BW, IW}, 3 {BW, IW, LN}, 5 SW^b {BW, IW, BN, IN, LN}. `tie_weight` lets the
    mean's weights serve the covariance too (then there is no `sw_var_weight`). Loads the state
    dicts of the public SwitchWhiten2d. Raises ValueError for any other `sw_type`.
    """

    def __init__(
        self,
        num_features: int,
        num_pergroup: int = 16,
        sw_type: int = 2,
        solver: str | Solver = AUTO,
        tie_weight: bool = False,
        eps: float = 1e-5,
        momentum: float = 0.99,
        affine: bool = True,
        kernels: str = AUTO,
        *,
        process_group: Group = None,
    ) -> None:
        if sw_type not in SW_TYPES:
            raise ValueError(
                f"sw_type must be one of {', '.join(map(str, SW_TYPES))}, not {sw_type!r}"
            )
        super().__init__(
            num_features,
            num_pergroup,
            solver,
            eps,
            momentum,
            affine,
            kernels,
            process_group=process_group,
            statistics=SW_TYPES[sw_type],
        )
        self.sw_type, self.tie_weight = sw_type, tie_weight
        count = len(self.recipe.statistics)
        self.sw_mean_weight = nn.Parameter(torch.ones(count))
        self.register_parameter(
            "sw_var_weight", None if tie_weight else nn.Parameter(torch.ones(count))
        )

    def _logits(self) -> tuple[Tensor, Tensor]:
        own = self._parameters
        try:
            mean = own["sw_mean_weight"]
            return mean, mean if self.tie_weight else own["sw_var_weight"]
        except KeyError:
            mean = self.sw_mean_weight
            return mean, mean if self.tie_weight else self.sw_var_weight

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, sw_type={self.sw_type}, tie_weight={self.tie_weight}"
