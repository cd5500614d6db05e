"""The roof over a profile: the arithmetic rate and the bandwidth that this machine reaches now,
with these threads and this dtype.
"""

from collections.abc import Callable
from time import perf_counter

import torch

from swbench.profile.types import Roof

PRODUCT_SIDES = {"cpu": (512, 1024), "cuda": (4096, 8192)}
"""Sides of the square products; heuristic: the larger reaches the peak of many cores, the smaller
fits between two interruptions of one.
"""
COPY_BYTES = {"cpu": 128 << 20, "cuda": 1 << 30}
"""Buffer of the copy, several times most last-level caches; heuristic."""
WINDOW_S = 0.25
"""Each rate is the best call within this window, and at least 3 calls: the roof is what the machine
can do, not what it does on average.
"""


def calibrate(
    device: torch.device,
    dtype: torch.dtype,
    sides: tuple[int, ...] = (),
    copy_bytes: int | None = None,
) -> Roof:
    """The roof for `dtype` on `device` with the present thread count. Takes about a second."""
    rates = [_product_rate(side, device, dtype) for side in sides or PRODUCT_SIDES[device.type]]
    source = torch.ones((copy_bytes or COPY_BYTES[device.type]) // 4, device=device)
    target = torch.zeros_like(source)
    copy_s = _best_s(lambda: target.copy_(source), device)
    return Roof(flops_per_s=max(rates), bytes_per_s=2 * source.numel() * 4 / copy_s)


def _product_rate(side: int, device: torch.device, dtype: torch.dtype) -> float:
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(left)
    return 2 * side**3 / _best_s(lambda: torch.mm(left, right, out=product), device)


def higher(one: Roof, other: Roof) -> Roof:
    """The higher of both rates: what two calibrations, before and after, found possible."""
    return Roof(
        flops_per_s=max(one.flops_per_s, other.flops_per_s),
        bytes_per_s=max(one.bytes_per_s, other.bytes_per_s),
    )


def _best_s(call: Callable[[], object], device: torch.device) -> float:
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    call()
    samples: list[float] = []
    end = perf_counter() + WINDOW_S
    while len(samples) < 3 or perf_counter() < end:
        wait()
        start = perf_counter()
        call()
        wait()
        samples.append(perf_counter() - start)
    return min(samples)
