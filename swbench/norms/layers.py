"""The whitening layers: batch, instance and switchable whitening (Pan et al., Switchable Whitening,
ICCV 2019).
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from swbench import solvers
from swbench.norms import kernels as kernel_sets
from swbench.norms.auto import choose
from swbench.norms.kernels.base import abstract, concrete, dense, on_one_device, statistics_dtype
from swbench.norms.ranks import Absent, Group, ranks_of
from swbench.norms.ready import KINDS, Ready
from swbench.norms.recipe import Recipe
from swbench.norms.recorded import record
from swbench.norms.whitening import Call, Running, Whitening
from swbench.solvers.base import Solver
from swbench.solvers.tracing import tracing

AUTO = "auto"
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
    _last: Ready | None = None  # of the class too, for layers pickled before there was one

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
        self._sizes = f"{num_features},{num_pergroup}"  # for `norms.operator`
        self.recipe = Recipe(statistics or self.statistics, num_pergroup, eps)
        self.solver, self.kernels, self.process_group = solver, kernels, process_group
        self.choice: tuple[str, str] | None = None
        self._ready: dict[tuple, Ready] = {}
        self._given: tuple[str, ...] = ("weight", "bias")
        self._padding: tuple[None, ...] = (None, None)
        self._solvers: dict[str, Solver] = {}
        if isinstance(solver, str) and solver != AUTO:
            self._named(solver)
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
        ValueError for any other shape.
        """
        if torch.compiler.is_compiling():
            from swbench.norms import operator

            spread = self.process_group is not None and (
                x.shape[0] == 0 or (self.training and self.recipe.uses_batch)
            )
            return (
                operator.over_ranks(self, x) if spread else operator.whiten(self, self.checked(x))
            )
        if tracing() is not None:
            return record(self, x)
        return self.call_eagerly(x)

    def call_eagerly(self, x: Tensor, given: list[Tensor | None] | None = None) -> Tensor:
        """The layer outside of any compiled graph, with its parameters or those `given`.

        What one kind of call needs is found once, and kept until something it rests on changes.
        """
        parameters, buffers, last = self._parameters, self._buffers, self._last
        if given is None:
            # Not by attribute, which costs as much again as all of this; but a parametrised one is
            # an attribute only.
            given = [
                parameters[name] if name in parameters else getattr(self, name)
                for name in self._given
            ]
        settings = (
            self.training,
            self.solver,
            self.kernels,
            self.momentum,
            self.process_group,
            self.recipe,
        )
        if (
            last is not None
            and settings == last.settings
            and (last.running is None or last.running.is_of(buffers))
        ):
            y = last.again(x, *given, *self._padding)
            if y is not None:
                if self.choice is not last.choice:
                    self.choice = last.choice
                return y
        kind = (x.shape, x.stride(), x.dtype, x.device, type(x), abstract(x), settings)
        ready = self._ready.get(kind)
        if ready is None or not ready.holds(buffers):
            ready = self._prepare(x, kind)
            if ready is None:
                return self.call_eagerly(concrete(x).contiguous(), given)
        last = None if ready.again is None else ready
        if self._last is not last:  # an assignment to a module is many times as dear
            self._last = last
        if self.choice is not ready.choice:
            self.choice = ready.choice
        return ready.bound(x, *given, *self._padding)

    def _prepare(self, x: Tensor, kind: tuple) -> Ready | None:
        """What calls with such an `x` need; None where its layout needs a copy first.

        Raises ValueError for a wrong shape, of `x` or of the running statistics, RuntimeError where
        not all is on one device.
        """
        if self.checked(x) is not x or abstract(x):
            return None
        if self.recipe.uses_batch:
            groups, group = self.num_features // self.num_pergroup, self.num_pergroup
            for name, shape in (
                ("running_mean", (groups, group, 1)),
                ("running_cov", (groups, group, group)),
            ):
                if getattr(self, name).shape != shape:
                    raise ValueError(
                        f"{name} must have the shape {shape}, not "
                        f"{tuple(getattr(self, name).shape)}"
                    )
        on_one_device(x, (*(getattr(self, name) for name in self._given), *self._buffers.values()))
        running = (
            Running(self.running_mean, self.running_cov, self.momentum)
            if self.recipe.uses_batch
            else None
        )
        ranks = ranks_of(self.process_group) if running is not None and self.training else None
        (solver, spec), kernels = self.solver_for(x), kernel_sets.kernels_for(x, self.kernels)
        call = Call(self.recipe, solver, kernels, running, self.training, ranks)
        choice, laid = (spec, kernels.name), None if running is None else running.laid
        # never kept, for ranks may come and go; what a kernel set does in one piece leaves them no
        # place to join
        if self.process_group is not None:
            function = Absent if x.shape[0] == 0 else Whitening
            return Ready(
                lambda *given: function.apply(*given, call), None, running, laid, choice, kind[-1]
            )
        bound = kernels.bind(call, x)
        ready = Ready(bound, getattr(bound, "again", None), running, laid, choice, kind[-1])
        if len(self._ready) >= KINDS:
            self._ready.clear()
        self._ready[kind] = ready
        return ready

    def checked(self, x: Tensor) -> Tensor:
        """`x`, dense. Raises ValueError for a shape that no layer of this kind takes."""
        if x.dim() != 4 or x.shape[1] != self.num_features:
            raise ValueError(
                f"expected an input of shape (N, {self.num_features}, H, W), not {tuple(x.shape)}"
            )
        if x.numel() == 0 and not (x.shape[0] == 0 and self.process_group is not None):
            raise ValueError(
                f"an input of shape {tuple(x.shape)} holds no pixels to take statistics from"
            )
        return dense(x)

    def __getstate__(self) -> dict:
        """What is pickled and copied: all but what was made ready for calls, which holds
        addresses.
        """
        return self.__dict__ | {"_ready": {}, "_last": None}

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

    def _logits(self) -> tuple[Tensor | None, Tensor | None]:
        """What the weights of means and of covariances are the softmax of; None where a layer mixes
        nothing.
        """
        return tuple(getattr(self, name) for name in self._given[2:]) or (None, None)

    def _named(self, spec: str) -> Solver:
        if spec not in self._solvers:
            self._solvers[spec] = solvers.get(spec)
        return self._solvers[spec]

    def solver_for(self, x: Tensor) -> tuple[Solver, str]:
        """The solver for an input like `x`, and what it is called."""
        spec = self.solver
        if isinstance(spec, Solver):
            return spec, spec.name
        if spec == AUTO:
            images = x.shape[0] if self.recipe.uses_image else 1
            spec = choose(
                x.device,
                self.num_pergroup,
                images * (self.num_features // self.num_pergroup),
                statistics_dtype(x),
            )
        return self._named(spec), spec


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
        self._given, self._padding = (
            (
                "weight",
                "bias",
                "sw_mean_weight",
                "sw_mean_weight" if tie_weight else "sw_var_weight",
            ),
            (),
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, sw_type={self.sw_type}, tie_weight={self.tie_weight}"
