"""Do two independent runs on a busy machine agree? Starts a competing one-core load, runs `run imagenet` twice, and compares the ratios to BN.

python benchmarks/agreement.py [--suite imagenet] [--target-ci 2%] [--budget 20m] [--results DIR] [--no-load]
"""

# ruff: noqa: T201  a script: it is run by hand, and what it prints is its result
import argparse
import contextlib
import math
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from runs import Finished, bench, ratios


def compete() -> None:
    """Keep one core busy, as a neighbour would: arithmetic and memory traffic, for ever."""
    block = bytearray(8 << 20)
    while True:
        block = bytes(byte ^ 1 for byte in block[:4096]) + block[4096:]


@contextlib.contextmanager
def competing(wanted: bool) -> Iterator[None]:
    """A process that computes on one core for as long as the block lasts."""
    if not wanted:
        yield
        return
    neighbour = multiprocessing.get_context("spawn").Process(target=compete, daemon=True)
    neighbour.start()
    try:
        time.sleep(1.0)
        yield
    finally:
        neighbour.terminate()
        neighbour.join()


def report(first: Finished, second: Finished, within: float) -> bool:
    """Print both ratios of every cell, and whether they differ by at most `within`; True where all do."""
    one, other = ratios(first.run), ratios(second.run)
    agree = True
    for cell in sorted(one.keys() & other.keys()):
        a, b = one[cell], other[cell]
        apart = abs(math.log(a.estimate / b.estimate))
        agree &= apart <= within
        print(
            f"{cell[0]:<32} {cell[1]:<12} {cell[2]:<20} {a.estimate:.4f} ±{100 * a.half_width:.2f} % ({a.replicates})   "
            f"{b.estimate:.4f} ±{100 * b.half_width:.2f} % ({b.replicates})   apart {100 * apart:.2f} %  {'agree' if apart <= within else 'DISAGREE'}"
        )
    if missing := one.keys() ^ other.keys():
        print(f"in one run only: {sorted(missing)}")
    return agree and bool(one) and not missing


def main() -> int:
    """Two runs, one comparison; 0 where every cell agrees."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="imagenet")
    parser.add_argument("--target-ci", default="2%")
    parser.add_argument("--budget", default="20m", help="of each run")
    parser.add_argument("--within", type=float, default=0.02, help="share by which ratios may differ")
    parser.add_argument("--results", type=Path, help="keep the runs here (default: a temporary folder)")
    parser.add_argument("--no-load", action="store_true", help="without the competing load")
    options = parser.parse_args()
    arguments = [options.suite, "--device", "cpu", "--threads", "1", "--target-ci", options.target_ci, "--budget", options.budget]
    with tempfile.TemporaryDirectory() as temporary, competing(not options.no_load):
        found = [bench(arguments, options.results or Path(temporary)) for _ in range(2)]
    for number, one in enumerate(found, 1):
        print(f"run {number}: {one.wall_s:.0f} s, timed share {100 * one.timed_share:.1f} %, parent {100 * one.parent_share:.2f} % of a core; {one.quietness}")
    return 0 if report(*found, options.within) else 1


if __name__ == "__main__":
    sys.exit(main())
