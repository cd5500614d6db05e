"""The arithmetic rate and the bandwidth that this machine reaches now, with these threads and this
dtype: no time can be shorter than work divided by them.
"""

from collections.abc import Callable
from time import perf_counter

import torch

PRODUCT_SIDES = {"cpu": (512, 1024), "cuda": (4096, 8192)}
"""Sizes of the square matrices that are multiplied. Heuristic: the larger reaches the peak of many
cores, the smaller fits between two interruptions of a core.
"""
COPY_BYTES = {"cpu": 128 << 20, "cuda": 1 << 30}
"""Buffer of the copy, several times most last-level caches; heuristic."""
WINDOW_S = 0.25
"""Seconds in which each rate takes its best call, of at least 3: a peak is what the machine can do,
not its average.
"""


def rates(
    device: torch.device,
    dtype: torch.dtype,
    sides: tuple[int, ...] = (),
    copy_bytes: int | None = None,
) -> tuple[float, float]:
    """(FLOP/s, byte/s) for `dtype` on `device` with the present number of threads: of a product of
    square matrices of `sides`, and of a copy of `copy_bytes`, read and written. Takes about a
    second.
    """
    product_rates = [
        _product_rate(side, device, dtype) for side in sides or PRODUCT_SIDES[device.type]
    ]
    source = torch.ones((copy_bytes or COPY_BYTES[device.type]) // 4, device=device)
    target = torch.zeros_like(source)
    copy_s = _best_s(lambda: target.copy_(source), device)
    return max(product_rates), 2 * source.numel() * 4 / copy_s


def _product_rate(side: int, device: torch.device, dtype: torch.dtype) -> float:
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(left)
    return 2 * side**3 / _best_s(lambda: torch.mm(left, right, out=product), device)


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
