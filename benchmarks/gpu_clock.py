"""Is our reading of a GPU's time right? A known count of cycles, and a product of about a millisecond beside triton's do_bench, each within 1 %.

python benchmarks/gpu_clock.py [--device cuda]
"""

# ruff: noqa: T201  a script: it is run by hand, and what it prints is its result
import argparse
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from swbench.clock import EventStopwatch
from swbench.clock.cuda import CudaGpu, gpu_for
from swbench.probes.card import card_of
from swbench.probes.windows import Windows

CYCLES = 20_000_000
"""About 10 ms at 2 GHz: long beside a launch, short beside a change of clocks."""

SIDE = 8192
"""Rows and columns of the bfloat16 matrices that are multiplied: 1.1e12 operations, a millisecond or two on a large GPU."""


def cycles(gpu: CudaGpu) -> float:
    """Seconds read over seconds known: cycles divided by the multiprocessors' clock as NVML reads it while they count. NaN without NVML."""
    card, watch, ratios = card_of(gpu.uuid), EventStopwatch(gpu), []
    for _ in range(50):
        torch.cuda._sleep(CYCLES)  # clocks rise
    for _ in range(20):
        watch.start()
        torch.cuda._sleep(CYCLES)
        watch.mark("spin")
        hz = card.sm_hz()  # while it spins
        read_s = watch.read()["spin_s"]
        ratios += [read_s * hz / CYCLES] if hz else []
    return statistics.median(ratios) if ratios else float("nan")


def product(gpu: CudaGpu) -> tuple[float, float]:
    """Median seconds of one product, by our windows with the L2 flushed and by triton's do_bench, which flushes it too."""
    from triton.testing import do_bench

    a, b = (torch.randn(SIDE, SIDE, device=gpu.place, dtype=torch.bfloat16) for _ in range(2))
    out = torch.empty_like(a)

    def call() -> None:
        torch.mm(a, b, out=out)

    theirs_s = [do_bench(call, warmup=200, rep=500, return_mode="median") * 1e-3]
    windows = Windows(gpu, {"product": call}, graph=False, cold=True)
    for _ in range(30):
        windows.sample()
    ours_s = next(one.samples for one in windows.finish() if one.metric == "product_event_s")
    theirs_s.append(do_bench(call, warmup=200, rep=500, return_mode="median") * 1e-3)
    return statistics.median(ours_s), statistics.mean(theirs_s)


def main() -> int:
    """Both checks, a line each; 0 where both are within 1 %, 1 where one is not, 2 without the device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    gpu = gpu_for(parser.parse_args().device)
    if gpu is None:
        print("gpu_clock.py: torch sees no such device here", file=sys.stderr)
        return 2
    spun = cycles(gpu)
    print(f"{CYCLES} cycles: read/known {spun:.4f}")
    ours_s, theirs_s = product(gpu)
    print(f"product of {SIDE}: ours {ours_s * 1e3:.4f} ms, do_bench {theirs_s * 1e3:.4f} ms, ratio {ours_s / theirs_s:.4f}")
    return 0 if all(abs(ratio - 1) <= 0.01 for ratio in (spun, ours_s / theirs_s)) else 1


if __name__ == "__main__":
    sys.exit(main())
