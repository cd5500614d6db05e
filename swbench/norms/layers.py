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
"""Statistics by `sw_type` of the public code, in the order of the weights. 2 is SW^a, 5 is SW^b."""


class Whiten2d(LayerState):
    """The base of all whitening layers: `num_features` channels in groups of `num_pergroup`, each
    whitened by its own G×G matrix.

    `statistics` names the statistics that are mixed (`Recipe`). `solver` is a spec (`eigh`,
    `svd:backward=paper`), a `Solver`, or `auto`: chosen by device and shape at each call.
    `running_decay` is the weight of the *old* value in the running batch statistics, or None for
    the average over all batches. `momentum` is the public code's name for it; give one of the two.
    (The momentum of `nn.BatchNorm2d` is the opposite, the weight of the new value.) Running
    statistics start at mean 0 and covariance I, so that an untrained layer in eval mode changes
    little (in the public code they start at 0, which scales activations by up to ε^(-1/2) until
    enough updates have been made). Without them (`track_running_stats=False`) eval mode uses the
    statistics of its batch. `device` and `dtype` are those of the parameters and buffers.

    With a `process_group` statistics are taken over the batches of all its ranks, and running
    statistics are equal on all ranks. `"world"` is the default group, looked up at each call. Ranks
    may have different numbers of images, or none. In training mode each call communicates once in
    the forward pass and once in the backward pass, in eval mode never. Gradients are those of the
    sum of the ranks' losses; DistributedDataParallel averages those of parameters over ranks, as
    for every layer.

    Input (N, C, H, W), N·H·W ≥ 1 (N ≥ 0 with a process group), float32, float64, bfloat16 or
    float16, contiguous or channels_last (kept); other layouts are copied. Statistics and matrices
    are float32, or float64 for a float64 input. Raises ValueError if G does not divide C.

    Differentiable any number of times, in both modes, and under the transforms of `torch.func`. In
    training, pass the running statistics to the transforms as inputs (`functional_call`), or use
    `track_running_stats=False`, as for `nn.BatchNorm2d`. With a process group the layer is
    differentiable once.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The whitened, scaled and shifted `x`, (N, C, H, W), in its dtype and layout. Raises
        ValueError for any other shape, of `x` or of the running statistics.
        """
        compiled = torch.compiler.is_compiling()
        if not compiled and tracing() is None:
            return self.call_eagerly(x)
        if compiled:
            from swbench.norms import custom_ops  # takes seconds: it loads the compiler

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
        """Compute the layer outside of compiled graphs and traces."""
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
        """Choose solver and backend, and compute the layer. A `FusedCall` of the backend is cached
        for the next calls, which try it first.
        """
        recipe, group, training = self.recipe, self.process_group, self.training
        x = checked(x, self.num_features, group is not None)
        if abstract(x):
            x = x.clone()
        x = torch._C._functorch.unwrap_if_dead(x)  # a tensor of an ended transform has no memory
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
        # Do not remember a call that averages all batches, nor one with temporary statistics: both
        # change in each call.
        if self.momentum is not None and (running_stats is not None or not recipe.uses_batch):
            self._last = LastCall(self._settings(), choice, fused)
        return y

    def _transformed(self, x: Tensor) -> Tensor:
        """Compute the layer in operations that `torch.func` and forward-mode differentiation
        support, as kernels in C or Triton do not.
        """
        if self._communicates():
            raise RuntimeError(
                "a whitening layer with a process group communicates in training, which "
                "torch.func and forward-mode differentiation do not support; call it in eval mode"
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
        # under vmap the memory format is unknown
        return y if transforming() else y.contiguous(memory_format=suggested(x))

    def _settings(self) -> tuple:
        """The settings that a call depends on."""
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
        # Reading six tensors by nn.Module's __getattr__ takes a tenth of a small layer's dispatch
        # time (benchmarks/dispatch_cpu.py), so the dicts are read. A parametrised tensor exists
        # only as an attribute.
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
        """Whether batch statistics are taken from the batch, and not from the running ones."""
        return self.training or (self.recipe.uses_batch and self.running_mean is None)

    def _temporary_running_stats(self, x: Tensor) -> Running | None:
        """Running statistics for kernels to write to, where the layer tracks none."""
        if not self.recipe.uses_batch:
            return None
        group = self.num_pergroup
        shape, dtype = (self.num_features // group, group), statistics_dtype(x)
        return Running(
            x.new_zeros(*shape, 1, dtype=dtype), x.new_zeros(*shape, group, dtype=dtype), 1.0
        )

    def described(self) -> Description:
        """A description of the layer at this moment, without its tensors."""
        return Description(
            self.recipe,
            self.num_features,
            self._sizes,
            self.solver,
            self.kernels,
            self._uses_batch_statistics(),
        )


class BatchWhiten2d(Whiten2d):
    """Batch whitening: for each group one mean and covariance of the whole batch; the running ones
    in eval mode.
    """

    statistics = ("bw",)


class InstanceWhiten2d(Whiten2d):
    """Instance whitening: mean and covariance of each image, in both modes. Also takes a single
    image (C, H, W), as `nn.InstanceNorm2d` does.
    """

    statistics = ("iw",)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 3 and x.shape[0] == self.num_features:
            return super().forward(x.unsqueeze(0)).squeeze(0)
        return super().forward(x)


class SwitchWhiten2d(Whiten2d):
    """Switchable whitening: statistics mixed by learnt weights, the softmax of `sw_mean_weight` for
    means and of `sw_var_weight` for covariances.

    `sw_type` 2 is SW^a {BW, IW}, 3 {BW, IW, LN}, 5 SW^b {BW, IW, BN, IN, LN}. With `tie_weight` the
    weights of the mean are those of the covariance too (and there is no `sw_var_weight`). Loads the
    state dicts of the public SwitchWhiten2d. Raises ValueError for any other `sw_type`.
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
