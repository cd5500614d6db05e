"""Is nothing seen where nothing is? Ten short A/A runs beside a competing one-core load: BN against
an identical BN, and whether each interval holds 1.

python benchmarks/aa.py [--runs 10] [--replicates 4] [--iterations 24] [--results DIR] [--out FILE]
[--no-load] [--suite imagenet]

Asked: at least eight of ten intervals hold 1, for F and for F+B alike. About a minute and a half a
run. Killed, the same command goes on; runs that are complete are not measured again.
"""

# ruff: noqa: T201  a script: it is run by hand, and what it prints is its result
import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import observed
from neighbour import competing
from observed import bench, floors

LEAST_HELD = 0.8


def counts(lines: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Metric -> how many intervals hold 1."""
    held: dict[str, int] = {}
    for line in lines:
        held[line["metric"]] = held.get(line["metric"], 0) + line["holds"]
    return held


def holds(interval: dict[str, Any]) -> bool:
    """Whether an interval holds 1; one that is unknown proves nothing, and does not."""
    return interval["low"] is not None and interval["low"] <= 1.0 <= interval["high"]


def main() -> int:
    """The runs, a line each; 0 where enough intervals hold 1."""
    parser = observed.parser(__doc__, "aa")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--replicates", default="4")
    parser.add_argument("--iterations", default="24", help="rounds in all")
    options = parser.parse_args()
    if options.runs < 1:
        print(f"aa.py: --runs {options.runs} measures nothing; give 1 or more", file=sys.stderr)
        return 2
    arguments = [
        options.suite,
        "--device",
        "cpu",
        "--threads",
        "1",
        "--only",
        "bn",
        "--metrics",
        "time",
    ]
    arguments += ["--replicates", options.replicates, "--iterations", options.iterations]
    lines: list[dict[str, Any]] = []
    accounts = []
    with competing(not options.no_load) as neighbour:
        for number in range(1, options.runs + 1):
            run, account = bench(arguments, options.results.resolve() / f"run-{number}", neighbour)
            accounts.append(asdict(account))
            for (group, row, metric), interval in sorted(floors(run).items()):
                lines.append(
                    {
                        "run": number,
                        "group": group,
                        "row": row,
                        "metric": metric,
                        "holds": holds(interval),
                        **interval,
                    }
                )
                text = (
                    (f"{interval['estimate']:.4f} [{interval['low']:.4f}, {interval['high']:.4f}]")
                    if interval["low"]
                    else "no interval"
                )
                print(
                    (
                        f"run {number:2} {group} {metric:<20} {text}  "
                        f"{'holds 1' if holds(interval) else 'MISSES 1'}   {account.quietness}"
                    ),
                    flush=True,
                )
    held = counts(lines)
    for metric, count in held.items():
        print(f"{metric}: {count} of {options.runs} intervals hold 1")
    enough = bool(held) and min(held.values()) >= LEAST_HELD * options.runs
    requirements = {"least_held": LEAST_HELD, "runs": options.runs}
    data = {
        "asked": requirements,
        "passed": enough,
        "held": held,
        "runs": accounts,
        "intervals": lines,
    }
    out = observed.report(options, "aa", run, data)
    print(f"written: {out}")
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())
