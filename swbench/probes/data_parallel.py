"""A network and its batch on one rank of several: synchronised normalisation and data-parallel
gradients.
"""

import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from swbench.case import Case, device_kind
from swbench.norms.communication import traffic
from swbench.norms.layers import Whiten2d
from swbench.norms.sync_convert import convert_sync_whitening
from swbench.probes import communication
from swbench.probes.workload import Unsupported
from swbench.result import Measurement

_BUFFERS = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel.__init__).parameters
    else "broadcast_buffers"
)
"""The argument, by torch's version, that turns off the broadcast of rank 0's buffers before each
forward pass. Synchronised statistics are equal on all ranks already.
"""


class DataParallel:
    """One rank of a case with several processes: its shard of the batch, its copy of the model, and
    the times of all ranks.

    Raises Unsupported where torch.distributed does not run with `case.world` ranks, or where a rank
    would have no image.
    """

    def __init__(self, case: Case) -> None:
        initialised = distributed.is_available() and distributed.is_initialized()
        if not initialised or distributed.get_world_size() != case.world:
            raise Unsupported(
                f"a case of {case.world} processes needs as many ranks of "
                f"torch.distributed; run it with --nproc {case.world}"
            )
        if case.batch < case.world:
            raise Unsupported(
                f"a batch of {case.batch} cannot be spread over {case.world} "
                f"processes; choose --batch {case.world} or more"
            )
        self.rank, self.world, self._on_gpu = (
            distributed.get_rank(),
            case.world,
            device_kind(case.device) == "cuda",
        )
        self.device = (
            f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % max(1, torch.cuda.device_count())}"
            if self._on_gpu
            else case.device
        )
        sizes = [
            case.batch // case.world + (rank < case.batch % case.world)
            for rank in range(case.world)
        ]
        self._batch, self._shard = (
            case.batch,
            slice(sum(sizes[: self.rank]), sum(sizes[: self.rank + 1])),
        )

    def shard(self, batch: Tensor) -> Tensor:
        """A copy of this rank's images from `batch`, (N, …)."""
        return batch[self._shard].clone(memory_format=torch.preserve_format)

    def global_shape(self, shard_shape: torch.Size) -> tuple[int, ...]:
        """The shape of the full batch's output, from `shard_shape` of this rank's output."""
        return self._batch, *shard_shape[1:]

    def wrap(self, model: nn.Module) -> nn.Module:
        """`model` with statistics of the full batch, where the device allows it, and with gradients
        averaged over ranks (DistributedDataParallel).
        """
        model = convert_sync_whitening(model)
        if self._on_gpu:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        devices = [torch.device(self.device).index] if self._on_gpu else None
        self._model = DistributedDataParallel(model, device_ids=devices, **{_BUFFERS: False})
        return self._model

    def slowest(self, sample: dict[str, float]) -> dict[str, float]:
        """The largest value of each time over all ranks, so that every rank decides the same from
        it. A collective: every rank must call it with the same metrics.
        """
        times = torch.tensor(list(sample.values()), dtype=torch.float64, device=self.device)
        distributed.all_reduce(times, op=distributed.ReduceOp.MAX)
        return dict(zip(sample, times.tolist(), strict=True))

    @contextmanager
    def without_communication(self) -> Iterator[None]:
        """A context in which the model sends nothing: statistics are those of the rank's own
        images, and gradients are not averaged. SyncBatchNorm still communicates.
        """
        layers = [
            (layer, layer.process_group)
            for layer in self._model.modules()
            if isinstance(layer, Whiten2d)
        ]
        try:
            for layer, _ in layers:
                layer.process_group = None
            with self._model.no_sync():
                yield
        finally:
            for layer, group in layers:
                layer.process_group = group

    def measurements(
        self,
        call: Callable[[], dict[str, float]],
        step: Callable[[], object],
        dtype: torch.dtype,
        collectives: bool,
    ) -> list[Measurement]:
        """Measurements of communication: bytes by layer from the shapes, calls and bytes as the
        profiler counts them, times with and without communication, and with `collectives` the times
        of single collectives.

        `call` is a timed call (on a GPU, a block), `step` one iteration.
        """
        layers = traffic(self._model, dtype)
        measurements = [
            Measurement("gather_bytes", "B", tuple(float(layer.gather_bytes) for layer in layers)),
            Measurement("reduce_bytes", "B", tuple(float(layer.reduce_bytes) for layer in layers)),
        ]
        measurements += communication.profiled_collectives(
            step
        ) + communication.exposed_communication(call, self.without_communication)
        return measurements + (communication.timed_collectives(self.device) if collectives else [])

    @property
    def chosen(self) -> dict[str, str]:
        """The normalisation in place of BN, and the backend of torch.distributed."""
        if not self._on_gpu:
            return {
                "batch_norm": (
                    "BatchNorm2d of each rank's own images: torch's SyncBatchNorm needs CUDA"
                ),
                "backend": distributed.get_backend(),
            }
        nvml_note = "utilisation and energy are not observed of several processes"
        return {
            "batch_norm": "SyncBatchNorm",
            "backend": distributed.get_backend(),
            "nvml": nvml_note,
        }
