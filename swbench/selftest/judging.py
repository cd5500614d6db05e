"""Verdicts on what the instrument read of things whose truth is known. Pure functions of rounds and
intervals: no clock, no process.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from swbench import program
from swbench.plan import Plan
from swbench.result import FORWARD, FORWARD_BACKWARD, Round
from swbench.selftest.simulation import Coverage
from swbench.stats.intervals import Interval, log_ratio
from swbench.stats.samples import by_replicate, ratio_pairs
from swbench.stats.verdict import SLOWER, verdict

PASSED, FAILED, INCONCLUSIVE, SKIPPED = "passed", "failed", "inconclusive", "skipped"
"""Inconclusive is too noisy to tell, which is no failure."""

STRICT = 0.999
"""Confidence at which a check may call the instrument wrong, so that a sound one fails one run in
hundreds, not one in ten.
"""

TELLING = 0.03
"""A strict A/A interval wider than this half-width cannot show that an instrument is sound.
Heuristic: the least effect of interest in Table 1 is 2 %.
"""

LEAST_PROCESSES = 16
"""Fewer, because the time was up, are too few for a strict interval to mean much (A/A needs 16
processes).
"""

CONTENDED = 1.1
"""Wall time over CPU time of an undisturbed pass, at the median, from which the core was taken away
too often to judge a delay by. Heuristic: it is 1.00 on a quiet machine, and a delay of 5 % is to be
told from one of 4.5 %.
"""

CALM = (
    "end other programs or wait until they are done, then run it again; "
    f"`{program.command()} doctor` names what is in the way"
)

SPIN_SHARE, SPIN_S = 0.002, 20e-6
SAMPLE_SHARE, SAMPLE_S = 0.001, 2e-6


@dataclass(frozen=True)
class Outcome:
    """One check: what was found, and what was asked of it, each as words with their figures;
    `remedy` is what to do where it is inconclusive.
    """

    name: str
    verdict: str
    found: str
    asked: str
    remedy: str = ""


def overall(outcomes: Sequence[Outcome]) -> str:
    """Failed if any check failed, else inconclusive if any was, else passed. Skipped checks decide
    nothing.
    """
    verdicts = {outcome.verdict for outcome in outcomes}
    return next((verdict for verdict in (FAILED, INCONCLUSIVE) if verdict in verdicts), PASSED)


def shown(interval: Interval) -> str:
    """A ratio with its interval, in words."""
    if not interval.known:
        return f"{interval.estimate:.4f}"
    return (
        f"{interval.estimate:.4f} [{interval.low:.4f}, {interval.high:.4f}] at "
        f"{100 * interval.confidence:g} %, {interval.replicates} processes"
    )


def same(name: str, strict: Interval) -> Outcome:
    """Two identical things: their strict interval has to hold 1, and be narrow enough, from
    processes enough, to mean something.
    """
    asked = f"holds 1, half-width at most {100 * TELLING:g} % from {LEAST_PROCESSES} processes"
    if not strict.known:
        return Outcome(name, INCONCLUSIVE, shown(strict), asked, CALM)
    if not strict.holds(1.0):
        return Outcome(name, FAILED, shown(strict), asked)
    if strict.half_width <= TELLING and strict.replicates >= LEAST_PROCESSES:
        return Outcome(name, PASSED, shown(strict), asked)
    return Outcome(name, INCONCLUSIVE, shown(strict), asked, CALM)


def contention(passes: Sequence[tuple[float, float]]) -> float:
    """Wall time over CPU time of a pass at the median, of (wall, CPU) seconds; 1 where CPU time was
    not read.
    """
    return statistics.median([wall_s / busy_s for wall_s, busy_s in passes if busy_s > 0] or [1.0])


def ratios(plan: Plan, rounds: Sequence[Round], key: str, metric: str) -> tuple[Interval, Interval]:
    """The ratio of a case key to the baseline of the plan's one group, as a table shows it, and at
    the strict confidence.
    """
    estimator, replicates = plan.protocol.estimator, by_replicate(rounds)
    found = ratio_pairs(replicates, plan.groups[0].baselines, key, metric, estimator)
    return log_ratio(found, estimator=estimator), log_ratio(found, STRICT, estimator)


def delayed(
    name: str,
    share: float,
    interval: Interval,
    strict: Interval,
    floor: Interval,
    must_see: bool,
    contended: float = 1.0,
    remedy: str = CALM,
) -> Outcome:
    """A variant slowed by `share`: the strict interval has to hold the truth, and the ordinary
    verdict has to be `slower`.

    `interval` and `floor` (the A/A interval) have the ordinary confidence. Only an interval
    narrower than the delay itself is a pass: one that holds everything has recovered nothing. A
    delay that is not seen fails the instrument only if `must_see` and neither the interval nor the
    floor is wide enough to excuse it; else the row was too noisy to tell. Nor is anything shown
    where the core was taken away for so much of a pass (`contended`, wall time over CPU time) that
    a delay measured in CPU time is not that share of the wall time.
    """
    truth, asked = 1.0 + share, f"holds {1.0 + share:g} at {100 * STRICT:g} %, and is called slower"
    said = verdict(interval, floor)
    found = f"{shown(interval)}: {said}"
    if contended > CONTENDED:
        return Outcome(
            name,
            INCONCLUSIVE,
            (f"{found}; a pass took {contended:.2f} times its CPU time, too busy to tell"),
            asked,
            remedy,
        )
    if not strict.holds(truth):
        return Outcome(name, FAILED, f"{shown(strict)}: {said}", asked)
    if said == SLOWER and interval.half_width <= share:
        return Outcome(name, PASSED, found, asked)
    if not must_see or said == SLOWER or interval.half_width + floor.half_width > share / 2:
        return Outcome(name, INCONCLUSIVE, f"{found}, too noisy to tell", asked, remedy)
    return Outcome(name, FAILED, found, asked)


def spin(length_s: float, samples: Sequence[tuple[float, float]]) -> Outcome:
    """A spin of about `length_s`: over (truth, reading), the median error has to be within 0.2 % +
    20 µs.
    """
    error_s = statistics.median([read_s - true_s for true_s, read_s in samples])
    allowed_s = SPIN_SHARE * length_s + SPIN_S
    fine = abs(error_s) <= allowed_s
    found = (
        f"read {1e3 * statistics.median([read_s for _, read_s in samples]):.4f} ms, off by "
        f"{1e6 * error_s:+.1f} µs"
    )
    return Outcome(
        f"spin of {1e3 * length_s:g} ms",
        PASSED if fine else FAILED,
        found,
        f"within {1e6 * allowed_s:.0f} µs",
    )


def overhead(empty: Sequence[float], shortest_s: float) -> Outcome:
    """What the stopwatch adds to a sample: the median reading of a call that does nothing."""
    read_s, allowed_s = statistics.median(empty), max(SAMPLE_S, SAMPLE_SHARE * shortest_s)
    return Outcome(
        "overhead a sample",
        PASSED if read_s <= allowed_s else FAILED,
        f"{1e6 * read_s:.2f} µs",
        f"at most {1e6 * allowed_s:.2g} µs",
    )


def invariants(rounds: Sequence[Round], threads: int) -> Outcome:
    """F ≤ F+B in every sample, and never more CPU time than `threads` cores could give (with 1 ms
    for the grain of that clock).
    """
    checked, broken = 0, []
    for one in rounds:
        for samples in one.samples.values():
            checked += 1
            forward, both = samples.get(FORWARD, 0.0), samples.get(FORWARD_BACKWARD)
            if both is not None and forward > both:
                broken.append(f"F {forward:.6f} s > F+B {both:.6f} s")
            wall, busy = (
                both if both is not None else forward,
                samples.get("forward_backward_cpu_s", samples.get("forward_cpu_s", 0.0)),
            )
            if busy > threads * wall * 1.01 + 1e-3:
                broken.append(f"{busy:.6f} s of CPU time in {wall:.6f} s on {threads} threads")
    found = f"{len(broken)} of {checked} samples break one" + (f": {broken[0]}" if broken else "")
    return Outcome(
        "invariants",
        FAILED if broken or not checked else PASSED,
        found,
        "F ≤ F+B, CPU time ≤ wall time × threads",
    )


def coverage(name: str, found: Coverage, low: float, high: float) -> Outcome:
    """A replay: bias of at most 0.3 %, coverage between `low` and `high`."""
    fine = abs(found.bias) <= 0.003 and low <= found.covered <= high
    words = (
        f"bias {100 * found.bias:+.2f} %, coverage {100 * found.covered:.1f} % of "
        f"{found.runs} runs, {found.replicates:.3g} replicates each"
    )
    return Outcome(
        name,
        PASSED if fine else FAILED,
        words,
        f"bias within 0.3 %, coverage {100 * low:.3g}-{100 * high:.3g} %",
    )


def overconfident(name: str, found: Coverage) -> Outcome:
    """A replay analysed as it should not be: an instrument whose replay cannot show that failure
    proves nothing.
    """
    fine = found.covered < 0.93
    return Outcome(
        name,
        PASSED if fine else FAILED,
        f"coverage {100 * found.covered:.1f} % of {found.runs} runs",
        "below 93 %: processes differ, rounds do not tell",
    )
