"""A network and its batch on one of several ranks: synchronised normalisation and data-parallel
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
"""What turns off sending rank 0's buffers to all before each forward pass, by torch's version:
synchronised statistics are alike already.
"""


class Spread:
    """The place of this rank among those that a case is spread over.

    Raises Unsupported where torch.distributed does not run with as many ranks as the case wants, or
    some would have no image.
    """

    def __init__(self, case: Case) -> None:
        started = distributed.is_available() and distributed.is_initialized()
        if not started or distributed.get_world_size() != case.world:
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
        self._batch, self._own = (
            case.batch,
            slice(sum(sizes[: self.rank]), sum(sizes[: self.rank + 1])),
        )

    def own(self, batch: Tensor) -> Tensor:
        """The images of this rank, a copy."""
        return batch[self._own].clone(memory_format=torch.preserve_format)

    def whole(self, own: torch.Size) -> tuple[int, ...]:
        """The shape of the whole batch's output from that of this rank's."""
        return self._batch, *own[1:]

    def model(self, model: nn.Module) -> nn.Module:
        """`model` with statistics of the whole batch, wherever the device allows it, and gradients
        averaged over ranks.
        """
        model = convert_sync_whitening(model)
        if self._on_gpu:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        devices = [torch.device(self.device).index] if self._on_gpu else None
        self._model = DistributedDataParallel(model, device_ids=devices, **{_BUFFERS: False})
        return self._model

    def slowest(self, sample: dict[str, float]) -> dict[str, float]:
        """The largest of each time over ranks, so that all decide alike what follows from it. Every
        rank must ask, with the same metrics.
        """
        times = torch.tensor(list(sample.values()), dtype=torch.float64, device=self.device)
        distributed.all_reduce(times, op=distributed.ReduceOp.MAX)
        return dict(zip(sample, times.tolist(), strict=True))

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """The same model, with nothing sent: each rank's own batch statistics, no gradient
        averaged. SyncBatchNorm still communicates.
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
        """The account of communication: analytic bytes by layer, counted calls and bytes, times
        with and without; single `collectives` if asked for.

        `call` is timed (on a GPU, a block), `step` is one iteration.
        """
        layers = traffic(self._model, dtype)
        found = [
            Measurement("gather_bytes", "B", tuple(float(one.gather_bytes) for one in layers)),
            Measurement("reduce_bytes", "B", tuple(float(one.reduce_bytes) for one in layers)),
        ]
        found += communication.sent(step) + communication.exposed(call, self.quiet)
        return found + (communication.collectives(self.device) if collectives else [])

    @property
    def chosen(self) -> dict[str, str]:
        """The normalisation that stands for BN, and what ranks communicate by."""
        if not self._on_gpu:
            return {
                "batch_norm": (
                    "BatchNorm2d of each rank's own images: torch's SyncBatchNorm needs CUDA"
                ),
                "backend": distributed.get_backend(),
            }
        unseen = "utilisation and energy are not observed of several processes"
        return {"batch_norm": "SyncBatchNorm", "backend": distributed.get_backend(), "nvml": unseen}
