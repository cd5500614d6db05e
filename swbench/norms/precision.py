"""Statistics and solves in full float32, whatever the settings of the process: without autocast,
and without TF32 in products of cuBLAS.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Lock
from typing import NamedTuple

import torch
from torch import Tensor


class WithoutTF32:
    """A reentrant context manager that switches TF32 off in cuBLAS, and restores the setting when
    the last thread has left.

    The setting belongs to the process, and autograd runs backward on its own threads, so entries
    are counted. It is a host variable that the launch of a product reads: changing it never
    synchronises, nor disturbs a graph capture. If other code changes the setting meanwhile, that
    change is lost. A setting for products that equals the general one follows the general one from
    then on, because torch does not tell the two cases apart.
    """

    def __init__(self) -> None:
        self._lock, self._inside = Lock(), 0
        self._before: Settings | None = None

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0 and allowed() not in FULL:
                self._before = settings()
                switch_off(self._before)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._before is not None:
                restore(self._before)
                self._before = None


FULL = ("ieee", "none", "highest")
"""Settings with which float32 products are computed in full precision."""
HAS_FP32_PRECISION = hasattr(torch.backends.cuda.matmul, "fp32_precision")
"""Whether cuBLAS has its own setting `fp32_precision` (torch 2.9). The older setting still exists,
and reading it raises where the two disagree.
"""


class Settings(NamedTuple):
    """The precision of float32 products, as torch names it."""

    cublas: str
    older: str | None
    """None where it cannot be read because the newer settings disagree with it."""
    mkldnn: str
    """Setting the older one sets this too; empty before torch 2.9."""


def allowed() -> str:
    """The current precision of float32 products in cuBLAS."""
    return (
        torch.backends.cuda.matmul.fp32_precision
        if HAS_FP32_PRECISION
        else torch.get_float32_matmul_precision()
    )


def settings() -> Settings:
    """Read the current settings."""
    if not HAS_FP32_PRECISION:
        return Settings(allowed(), allowed(), "")
    try:
        older = torch.get_float32_matmul_precision()
    except RuntimeError:
        older = None
    return Settings(allowed(), older, torch.backends.mkldnn.matmul.fp32_precision)


def switch_off(before: Settings) -> None:
    """Switch TF32 off in cuBLAS: by the older setting where that can be read, which sets the newer
    ones too, so that it stays readable.
    """
    if before.older is None:
        torch.backends.cuda.matmul.fp32_precision = "ieee"
    else:
        torch.set_float32_matmul_precision("highest")


def restore(before: Settings) -> None:
    """Restore the settings `before`. A setting that followed a more general one follows
    it again.
    """
    if before.older is not None:
        torch.set_float32_matmul_precision(before.older)
    if not HAS_FP32_PRECISION:
        return
    for where, precision in (
        (torch.backends.cuda.matmul, before.cublas),
        (torch.backends.mkldnn.matmul, before.mkldnn),
    ):
        if before.older is None or where.fp32_precision != precision:
            where.fp32_precision = "none"
        if where.fp32_precision != precision:
            where.fp32_precision = precision


WITHOUT_TF32 = WithoutTF32()


def on_cublas(x: Tensor) -> bool:
    """Whether products on the device of `x` use cuBLAS. Checks nothing else, because every call
    costs on a CPU.
    """
    return x.is_cuda


def full_precision(x: Tensor) -> AbstractContextManager:
    """A context without autocast and TF32 for the device of `x`. The meta device, on which FLOPs
    are counted, has no autocast.
    """
    device = "cpu" if x.is_meta else x.device.type
    plain = (
        torch.autocast(device, enabled=False)
        if torch.is_autocast_enabled(device)
        else nullcontext()
    )
    return _without_autocast_and_tf32(plain) if on_cublas(x) else plain


@contextmanager
def _without_autocast_and_tf32(plain: AbstractContextManager) -> Iterator[None]:
    with plain, WITHOUT_TF32:
        yield
