"""Out of device memory, told with what was in use and what there is."""

import contextlib
from collections.abc import Iterator

import torch

from swbench.clock.events import Gpu


@contextlib.contextmanager
def told(gpu: Gpu | None) -> Iterator[None]:
    """Turns torch's out-of-memory error into a MemoryError with the peak of this process and the
    memory of the device, in GiB.
    """
    try:
        yield
    except torch.OutOfMemoryError as problem:
        if gpu is None:
            raise
        peak, total = (size / (1 << 30) for size in gpu.memory())
        wanted = " ".join(str(problem).split()).partition(" GPU ")[0][:200]
        raise MemoryError(f"peak {peak:.2f} GiB of {total:.2f} GiB; {wanted}") from None
