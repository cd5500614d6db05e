"""Is nothing seen where nothing is? Short A/A runs: BN against an identical BN, each with its interval and whether it holds 1.

python benchmarks/aa.py [--runs 10] [--replicates 5] [--iterations 50] [--suite imagenet] [--results DIR]
"""

# ruff: noqa: T201  a script: it is run by hand, and what it prints is its result
import argparse
import sys
import tempfile
from pathlib import Path

from runs import bench, floors


def main() -> int:
    """The runs, a line each; 0 where at most a fifth of the intervals miss 1, for F and for F+B alike."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--replicates", default="5")
    parser.add_argument("--iterations", default="50")
    parser.add_argument("--suite", default="imagenet")
    parser.add_argument("--results", type=Path, help="keep the runs here (default: a temporary folder)")
    options = parser.parse_args()
    arguments = [options.suite, "--device", "cpu", "--threads", "1", "--only", "bn", "--replicates", options.replicates, "--iterations", options.iterations]
    held: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(1, options.runs + 1):
            found = bench(arguments, options.results or Path(temporary))
            for (group, metric), interval in sorted(floors(found.run).items()):
                held[metric] = held.get(metric, 0) + interval.holds(1.0)
                print(
                    f"run {number:2} {group:<28} {metric:<20} {interval.estimate:.4f} [{interval.low:.4f}, {interval.high:.4f}]  "
                    f"{'holds 1' if interval.holds(1.0) else 'MISSES 1'}   {found.quietness}",
                    flush=True,
                )
    for metric, count in held.items():
        print(f"{metric}: {count} of {options.runs} intervals hold 1")
    return 0 if held and min(held.values()) >= 0.8 * options.runs else 1


if __name__ == "__main__":
    sys.exit(main())
