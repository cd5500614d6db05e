"""Is our reading of a GPU's time right? The self-test's part on a GPU alone: cycles, the wall, do_bench, A/A and known delays.

python benchmarks/gpu_clock.py [--device cuda]
"""

# ruff: noqa: T201  a script: it is run by hand, and what it prints is its result
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from swbench.engine.selftest import FAILED, gpu, overall
from swbench.engine.selftest.measuring import measure


def main() -> int:
    """The checks, a line each; 0 where none failed, 1 where one did, 2 without a device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    if why := gpu.missing():
        print(f"gpu_clock.py: {why}", file=sys.stderr)
        return 2
    outcomes = []
    for one in gpu.checks(measure, options.device):
        outcomes.append(one)
        print(f"{one.verdict:12s} {one.name}: {one.found} (asked: {one.asked}) {one.remedy}", flush=True)
    return 1 if overall(outcomes) == FAILED else 0


if __name__ == "__main__":
    sys.exit(main())
