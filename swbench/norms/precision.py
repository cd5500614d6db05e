"""Statistics and solves in full float32, whatever a process allows elsewhere: autocast off, and
TF32 off where products are cuBLAS's.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Lock
from typing import NamedTuple

import torch
from torch import Tensor


class WithoutTF32:
    """TF32 switched off in cuBLAS while anybody is inside, and on again, if it was, when the last
    one has left.

    The setting is the process's, not a thread's, and autograd goes back on threads of its own: so
    those inside are counted. It is a number on the host that the next product's launch looks at,
    which nothing waits for, in a graph's capture neither. A setting that is changed by others
    meanwhile is lost; and one for products that said the same as the general one follows it from
    then on, for the two cannot be told apart.
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
"""Settings under which a product of float32 is one."""
HAS_FP32_PRECISION = hasattr(torch.backends.cuda.matmul, "fp32_precision")
"""Since torch 2.9 cuBLAS asks a setting of its own, `fp32_precision`; the older one is kept beside
it, and reading it raises where the two differ.
"""


class Settings(NamedTuple):
    """How products of float32 may be rounded, by the names torch has for it."""

    cublas: str
    older: str | None
    """None where it cannot be read, for the newer ones were set apart from it."""
    mkldnn: str
    """What the older setting carries along; empty before torch 2.9."""


def allowed() -> str:
    """How cuBLAS may multiply float32 now."""
    return (
        torch.backends.cuda.matmul.fp32_precision
        if HAS_FP32_PRECISION
        else torch.get_float32_matmul_precision()
    )


def settings() -> Settings:
    """All settings as they are now."""
    if not HAS_FP32_PRECISION:
        return Settings(allowed(), allowed(), "")
    try:
        older = torch.get_float32_matmul_precision()
    except RuntimeError:
        older = None
    return Settings(allowed(), older, torch.backends.mkldnn.matmul.fp32_precision)


def switch_off(before: Settings) -> None:
    """Let cuBLAS multiply in full. By the older setting where it can be read, which sets the newer
    ones too, so that it can still be read.
    """
    if before.older is None:
        torch.backends.cuda.matmul.fp32_precision = "ieee"
    else:
        torch.set_float32_matmul_precision("highest")


def restore(before: Settings) -> None:
    """Let products be rounded as they could be before; where that followed from a more general
    setting, it follows from it again.
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
    """Whether products beside `x` are cuBLAS's; on a CPU nothing is asked, for each call counts
    there.
    """
    return x.is_cuda


def full_precision(x: Tensor) -> AbstractContextManager:
    """Autocast and TF32 switched off for the device of `x`. The meta device, on which networks are
    counted, has no autocast of its own.
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
