"""A network and its batch on one of several ranks: synchronised normalisation and data-parallel gradients."""

import os

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from swbench.case import Case
from swbench.norms import convert_sync_whitening
from swbench.probes.workload import Unsupported


class Spread:
    """The place of this rank among those that a case is spread over.

    Raises Unsupported where torch.distributed does not run with as many ranks as the case wants, or some would have no image.
    """

    def __init__(self, case: Case) -> None:
        started = distributed.is_available() and distributed.is_initialized()
        if not started or distributed.get_world_size() != case.world:
            raise Unsupported(f"a case of {case.world} processes needs as many ranks of torch.distributed; run it with --nproc {case.world}")
        if case.batch < case.world:
            raise Unsupported(f"a batch of {case.batch} cannot be spread over {case.world} processes; choose --batch {case.world} or more")
        self.rank, self.world = distributed.get_rank(), case.world
        self.device = f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}" if case.device == "cuda" else case.device
        sizes = [case.batch // case.world + (rank < case.batch % case.world) for rank in range(case.world)]
        self._batch, self._own = case.batch, slice(sum(sizes[: self.rank]), sum(sizes[: self.rank + 1]))

    def own(self, batch: Tensor) -> Tensor:
        """The images of this rank, a copy."""
        return batch[self._own].clone(memory_format=torch.preserve_format)

    def whole(self, own: torch.Size) -> tuple[int, ...]:
        """The shape of the whole batch's output from that of this rank's."""
        return self._batch, *own[1:]

    def model(self, model: nn.Module) -> nn.Module:
        """`model` with statistics of the whole batch, wherever the device allows it, and gradients averaged over ranks."""
        model = convert_sync_whitening(model)
        on_gpu = torch.device(self.device).type == "cuda"
        if on_gpu:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        devices = [torch.device(self.device).index] if on_gpu else None
        return DistributedDataParallel(model, device_ids=devices, broadcast_buffers=False)  # synchronised statistics are alike already

    @property
    def chosen(self) -> dict[str, str]:
        """The normalisation that stands for BN, and what ranks communicate by."""
        synchronised = torch.device(self.device).type == "cuda"
        batch_norm = "SyncBatchNorm" if synchronised else "BatchNorm2d of each rank's own images: torch's SyncBatchNorm needs CUDA"
        return {"batch_norm": batch_norm, "backend": distributed.get_backend()}
