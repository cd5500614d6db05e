"""Do two independent runs on a busy machine agree? Starts a competing one-core load, runs `run
imagenet --threads 1 --target-ci 2%` twice, and compares.

python benchmarks/agreement.py [--budget 510s] [--within 0.02] [--results DIR] [--out FILE]
[--no-load] [--suite imagenet] [-- further options of bench.py run]

Asked: the ratios to BN within 2 % in each cell; at least 90 % of the workers' time past warm-up
timed; under 1 % of a core used by the parent meanwhile. At most about ten minutes a run. Killed,
the same command goes on; a run that is complete is not measured again.
"""

# ruff: noqa: T201  a script: it is run by hand, and what it prints is its result
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import observed
from neighbour import competing
from observed import Account, Cell, bench, ratios

LEAST_TIMED, MOST_PARENT = 0.9, 0.01


def compare(
    first: Mapping[Cell, Mapping[str, Any]], second: Mapping[Cell, Mapping[str, Any]], within: float
) -> list[dict[str, Any]]:
    """A line for each cell of either run: both intervals, how far apart the ratios are (log scale),
    and whether that is `within`; a cell of one run is not.
    """
    lines = []
    for cell in sorted(first.keys() | second.keys()):
        run_a, run_b = first.get(cell), second.get(cell)
        difference = (
            abs(math.log(run_a["estimate"] / run_b["estimate"])) if run_a and run_b else None
        )
        line = dict(zip(("group", "row", "metric"), cell, strict=True))
        lines.append(
            {
                **line,
                "apart": difference,
                "agree": difference is not None and difference <= within,
                "first": run_a,
                "second": run_b,
            }
        )
    return lines


def faults(lines: list[dict[str, Any]], accounts: list[Account]) -> list[str]:
    """What falls short of what is asked; empty where nothing does."""
    shortfalls = [
        f"{line['row']} {line['metric']}: the runs do not agree"
        for line in lines
        if not line["agree"]
    ]
    shortfalls += [] if lines else ["no cell was measured"]
    for number, run_a in enumerate(accounts, 1):
        if run_a.failed:
            shortfalls.append(
                f"run {number}: {run_a.failed} cell{'s' if run_a.failed > 1 else ''} failed"
            )
        if run_a.timed_share is None or run_a.timed_share < LEAST_TIMED:
            shortfalls.append(f"run {number}: less than {LEAST_TIMED:.0%} of its time was timed")
        if run_a.parent_cores is not None and run_a.parent_cores >= MOST_PARENT:
            shortfalls.append(f"run {number}: its parent used {MOST_PARENT:.0%} of a core or more")
    return shortfalls


def say(lines: list[dict[str, Any]], accounts: list[Account]) -> None:
    """Print what was found."""
    for line in lines:
        sides = "   ".join(map(_shown, (line["first"], line["second"])))
        difference = (
            "in one run only"
            if line["apart"] is None
            else (f"apart {100 * line['apart']:.2f} %  {'agree' if line['agree'] else 'DISAGREE'}")
        )
        print(f"{line['group']:<22} {line['row']:<24} {line['metric']:<20} {sides}   {difference}")
    for number, run_a in enumerate(accounts, 1):
        shares = {
            "timed": run_a.timed_share,
            "of a core: parent": run_a.parent_cores,
            "competing load": run_a.competing_cores,
        }
        shares_text = ", ".join(
            f"{name} {'not seen' if value is None else f'{100 * value:.2f} %'}"
            for name, value in shares.items()
        )
        print(
            f"run {number}: {run_a.seconds:.0f} s, {run_a.reason}; {shares_text}; {run_a.quietness}"
        )


def _shown(run_a: Mapping[str, Any] | None) -> str:
    if run_a is None:
        return "–"
    bounds = f" [{run_a['low']:.4f}, {run_a['high']:.4f}]" if run_a["low"] else ""
    return f"{run_a['estimate']:.4f}{bounds} ({run_a['replicates']})"


def main() -> int:
    """Two runs, one comparison; 0 where all that is asked holds, 1 where it does not."""
    parser = observed.parser(__doc__, "agreement")
    parser.add_argument("--target-ci", default="2%")
    parser.add_argument(
        "--budget",
        default="510s",
        help="of each run; the replicate that is running then is finished",
    )
    parser.add_argument(
        "--within", type=float, default=0.02, help="how far apart ratios may be (log scale)"
    )
    parser.add_argument("rest", nargs="*", help="further options of bench.py run, after --")
    options = parser.parse_args()
    arguments = [
        options.suite,
        "--device",
        "cpu",
        "--threads",
        "1",
        "--target-ci",
        options.target_ci,
        "--budget",
        options.budget,
        *options.rest,
    ]
    with competing(not options.no_load) as neighbour:
        shortfalls = [
            bench(arguments, options.results.resolve() / f"run-{number}", neighbour)
            for number in (1, 2)
        ]
    accounts = [account for _, account in shortfalls]
    lines = compare(*(ratios(run) for run, _ in shortfalls), options.within)
    shortfalls_text = faults(lines, accounts)
    say(lines, accounts)
    print("\n".join(shortfalls_text) or "all that is asked holds")
    requirements = {
        "within": options.within,
        "least_timed_share": LEAST_TIMED,
        "most_parent_cores": MOST_PARENT,
    }
    runs = list(map(asdict, accounts))
    data = {"asked": requirements, "short": shortfalls_text, "runs": runs, "cells": lines}
    out = observed.report(options, "agreement", shortfalls[0][0], data)
    print(f"written: {out}")
    return 1 if shortfalls_text else 0


if __name__ == "__main__":
    sys.exit(main())
