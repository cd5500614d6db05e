"""The whitening layers: batch, instance and switchable whitening (Pan et al., Switchable Whitening,
ICCV 2019).
"""

from types import EllipsisType

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from swbench.norms import resolve
from swbench.norms.composed import composed
from swbench.norms.context import Call, Description, ParameterTensors, Running, RunningTensors
from swbench.norms.distributed_statistics import Group, ranks_of
from swbench.norms.kernels.backend import UnsupportedTensors
from swbench.norms.kernels.pass_by_pass import EmptyRank, PassBackend
from swbench.norms.layer_state import DECAY, LastCall, LayerState
from swbench.norms.tensors import abstract, check_shape, checked, statistics_dtype, suggested
from swbench.norms.traced import record
from swbench.solvers.base import Solver
from swbench.solvers.choice import AUTO, solver_for
from swbench.solvers.tracing import tracing, transforming

SW_TYPES = {2: ("bw", "iw"), 3: ("bw", "iw", "ln"), 5: ("bw", "iw", "bn", "in", "ln")}
"""`sw_type` of the public code: 2 is SW^a, 5 is SW^b. Statistics in the order of the weights."""


class Whiten2d(LayerState):
    """What all whitening layers share: `num_features` channels in groups of `num_pergroup`, each
    whitened by its own G×G matrix.

    `statistics` names what is mixed (`Recipe`). `solver` is a spec (`eigh`, `svd:backward=paper`),
    a `Solver`, or `auto`, decided by device and shape at each call. `running_decay` is the share of
    the *old* value in the running batch statistics, None for the average over all batches;
    `momentum` is the same by the name that the public code has for it (`nn.BatchNorm2d` calls the
    share of the new value so). Running statistics start at mean 0 and covariance I, so that an
    untrained layer in eval mode changes little (the public code starts at 0, which blows
    activations up by ε^(-1/2) until enough updates have been made). Without them
    (`track_running_stats=False`) the batch's are used in eval mode too. `device` and `dtype` are of
    the parameters and buffers.

    With a `process_group` (or `"world"`, the default group of each call) the batch is what all its
    ranks are given together, and running statistics are alike on all of them. Ranks may have images
    in different numbers, also none. In training mode each call communicates once in the forward
    pass and once in the backward pass, in eval mode never. Gradients are those of the sum of the
    ranks' losses; DistributedDataParallel averages the parameters' over ranks, as it does for every
    layer.

    Input (N, C, H, W), N·H·W ≥ 1 (N ≥ 0 with a process group), float32, float64, bfloat16 or
    float16, contiguous or channels_last (kept); other layouts are copied. Statistics and matrices
    are float32, or float64 for a float64 input. Raises ValueError if G does not divide C.

    Differentiable as often as one likes, in both modes, and under the transforms of `torch.func`;
    in training, running statistics then have to be among what is transformed, or be absent, as for
    `nn.BatchNorm2d`. Over a process group it is differentiable once.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The whitened, scaled and shifted `x`, (N, C, H, W), in its dtype and layout. Raises
        ValueError for any other shape, of `x` or of the running statistics.
        """
        compiled = torch.compiler.is_compiling()
        if not compiled and tracing() is None:
            return self.call_eagerly(x)
        if compiled:
            from swbench.norms import custom_ops  # which takes seconds: it loads the compiler

            if self._communicates() or (self.process_group is not None and x.shape[0] == 0):
                return custom_ops.over_ranks(self.call_eagerly, x)
            x = checked(x, self.num_features)
            layer, (parameters, running) = self.described(), self._tensors()
            running = running or self._temporary_running_stats(x)
            y, self.choice = custom_ops.whiten(layer, x, parameters, running)
            return y
        if self._communicates():
            raise RuntimeError(
                "a whitening layer with a process group communicates in training, "
                "which torch.jit.trace cannot record; trace it in eval mode"
            )
        y, self.choice = record(self.described(), x, *self._tensors())
        return y

    def call_eagerly(self, x: Tensor) -> Tensor:
        """The layer outside of compiled graphs and traces."""
        if transforming() or forward_ad._current_level >= 0:
            return self._transformed(x)
        last_call, (parameters, running_stats) = self._last, self._parameters_and_stats()
        if last_call is not None and last_call.settings == self._settings():
            try:
                y = last_call.fused.apply(x, parameters, running_stats)
            except UnsupportedTensors:
                pass
            else:
                if self.choice is not last_call.choice:
                    self.choice = last_call.choice
                return y
        return self._resolve_and_apply(x, parameters, running_stats)

    def _resolve_and_apply(
        self, x: Tensor, parameters: ParameterTensors, running_stats: RunningTensors | None
    ) -> Tensor:
        """The layer on what it finds that it runs on. Where that has a `FusedCall` for calls like
        this one, the next ones are tried on it first.
        """
        recipe, group, training = self.recipe, self.process_group, self.training
        x = checked(x, self.num_features, group is not None)
        if abstract(x):
            x = x.clone()
        x = torch._C._functorch.unwrap_if_dead(x)  # what a transform left behind has no memory
        running = self._running(running_stats)
        if running is None and recipe.uses_batch:
            training, running = True, self._temporary_running_stats(x)
        matrices = self.num_features // recipe.group * (x.shape[0] if recipe.uses_image else 1)
        solver, backend, choice = (
            resolve.resolve_cached(
                self.solver, self.kernels, recipe.group, matrices, x.dtype, x.device
            )
            if type(x) is Tensor
            else resolve.resolve(self.solver, self.kernels, recipe.group, matrices, x)
        )
        if self.choice != choice:  # an assignment to a module costs more than to compare
            self.choice = choice
        if group is not None:
            ranks = ranks_of(group) if running is not None and training else None
            call = Call(recipe, solver, running, training, ranks)
            if x.shape[0] == 0:
                return EmptyRank.apply(x, *parameters, call)
            return PassBackend.apply(backend, call, x, parameters)
        call = Call(recipe, solver, running, training)
        fused = backend.fused(call, x)
        if fused is None:
            return backend.apply(call, x, parameters)
        try:
            y = fused.apply(x, parameters, running and running[:2])
        except UnsupportedTensors:
            return backend.apply(call, x, parameters)
        # The momentum of an average is another each time, and so are statistics that are not kept.
        if self.momentum is not None and (running_stats is not None or not recipe.uses_batch):
            self._last = LastCall(self._settings(), choice, fused)
        return y

    def _transformed(self, x: Tensor) -> Tensor:
        """The layer in operations that `torch.func` and forward-mode differentiation take apart;
        kernels that write through addresses have no part in them.
        """
        if self._communicates():
            raise RuntimeError(
                "a whitening layer with a process group communicates in training, which "
                "torch.func and forward-mode differentiation cannot follow; call it in eval mode"
            )
        recipe, layer = self.recipe, self.described()
        check_shape(x, self.num_features)
        parameters, running = self._tensors()
        matrices = self.num_features // recipe.group * (x.shape[0] if recipe.uses_image else 1)
        solver, name = solver_for(
            self.solver, recipe.group, matrices, statistics_dtype(x), x.device
        )
        self.choice = name, "torch"
        call = Call(recipe, solver, running, layer.training)
        y = composed(call, solver.differentiable, x, parameters)
        # vmap does not say how memory lies
        return y if transforming() else y.contiguous(memory_format=suggested(x))

    def _settings(self) -> tuple:
        """What a call depends on beside its tensors."""
        return (
            self.training,
            self.solver,
            self.kernels,
            self.momentum,
            self.process_group,
            self.recipe,
        )

    def _parameters_and_stats(self) -> tuple[ParameterTensors, RunningTensors | None]:
        """The parameters, and the running statistics where there are any."""
        # As attributes, six tensors cost a tenth of a small layer's dispatch
        # (benchmarks/dispatch_cpu.py); a parametrised one is an attribute only.
        params, buffers = self._parameters, self._buffers
        try:
            weight, bias = params["weight"], params["bias"]
        except KeyError:
            weight, bias = self.weight, self.bias
        parameters = (weight, bias, *self._logits())
        if not self.recipe.uses_batch:
            return parameters, None
        try:
            mean, cov = buffers["running_mean"], buffers["running_cov"]
        except KeyError:
            mean, cov = self.running_mean, self.running_cov
        return parameters, None if mean is None else (mean, cov)

    def _tensors(self) -> tuple[ParameterTensors, Running | None]:
        parameters, running_stats = self._parameters_and_stats()
        return parameters, self._running(running_stats)

    def _running(self, running_stats: RunningTensors | None) -> Running | None:
        """`running_stats` with the momentum of this call."""
        if running_stats is None:
            return None
        return Running(
            *running_stats, self.average_decay() if self.momentum is None else self.momentum
        )

    def _communicates(self) -> bool:
        return (
            self.process_group is not None
            and self.recipe.uses_batch
            and self._uses_batch_statistics()
        )

    def _uses_batch_statistics(self) -> bool:
        """Whether batch statistics are those of the batch, and not the running ones."""
        return self.training or (self.recipe.uses_batch and self.running_mean is None)

    def _temporary_running_stats(self, x: Tensor) -> Running | None:
        """Workspace for running statistics, which kernels write to, where a layer keeps none."""
        if not self.recipe.uses_batch:
            return None
        group = self.num_pergroup
        shape, dtype = (self.num_features // group, group), statistics_dtype(x)
        return Running(
            x.new_zeros(*shape, 1, dtype=dtype), x.new_zeros(*shape, group, dtype=dtype), 1.0
        )

    def described(self) -> Description:
        """The layer as it is now, without its tensors."""
        return Description(
            self.recipe,
            self.num_features,
            self._sizes,
            self.solver,
            self.kernels,
            self._uses_batch_statistics(),
        )


class BatchWhiten2d(Whiten2d):
    """Batch whitening: one mean and covariance a group over the whole batch; running ones in eval
    mode.
    """

    statistics = ("bw",)


class InstanceWhiten2d(Whiten2d):
    """Instance whitening: mean and covariance of each image, in training and eval mode alike. As
    `nn.InstanceNorm2d` it also takes one image alone, (C, H, W).
    """

    statistics = ("iw",)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 3 and x.shape[0] == self.num_features:
            return super().forward(x.unsqueeze(0)).squeeze(0)
        return super().forward(x)


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
        momentum: float | None = DECAY,
        affine: bool = True,
        kernels: str = AUTO,
        *,
        process_group: Group = None,
        running_decay: float | EllipsisType | None = ...,
        track_running_stats: bool = True,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
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
            running_decay=running_decay,
            track_running_stats=track_running_stats,
            device=device,
            dtype=dtype,
        )
        self.sw_type, self.tie_weight = sw_type, tie_weight
        count = len(self.recipe.statistics)

        def logits() -> nn.Parameter:
            return nn.Parameter(torch.ones(count, device=device, dtype=dtype))

        self.sw_mean_weight = logits()
        self.register_parameter("sw_var_weight", None if tie_weight else logits())

    def _logits(self) -> tuple[Tensor, Tensor]:
        params = self._parameters
        try:
            mean = params["sw_mean_weight"]
            return mean, mean if self.tie_weight else params["sw_var_weight"]
        except KeyError:
            mean = self.sw_mean_weight
            return mean, mean if self.tie_weight else self.sw_var_weight

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, sw_type={self.sw_type}, tie_weight={self.tie_weight}"
