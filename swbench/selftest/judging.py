"""Verdicts on measurements whose true value is known. Pure functions of rounds and intervals: no
clock, no process.
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
"""Verdicts of a check. `inconclusive` means too noisy to tell, which is no failure."""

STRICT = 0.999
"""Confidence of the strict intervals, at which a check may fail: a correct instrument then fails
one self-test in hundreds, not one in ten.
"""

LARGEST_HALF_WIDTH = 0.03
"""A strict A/A interval with a larger half-width cannot show that an instrument is correct.
Heuristic: the least effect of interest in Table 1 is 2 %.
"""

FEWEST_PROCESSES = 16
"""Least number of processes for a strict interval to mean something (A/A needs 16). There are fewer
where the budget ended the run.
"""

CONTENDED = 1.1
"""Median ratio of wall time to CPU time of a pass, above which the core was taken away too often to
judge a delay. Heuristic: it is 1.00 on a quiet machine, and a delay of 5 % must be distinguished
from 4.5 %.
"""

QUIET_REMEDY = (
    "end other programs or wait until they are done, then run it again; "
    f"`{program.command()} doctor` names what is in the way"
)

SPIN_SHARE, SPIN_S = 0.002, 20e-6
SAMPLE_SHARE, SAMPLE_S = 0.001, 2e-6


@dataclass(frozen=True)
class Outcome:
    """One check: its `result` and what was `expected`, each as text with figures. `remedy` says
    what to do where it is inconclusive.
    """

    name: str
    verdict: str
    result: str
    expected: str
    remedy: str = ""


def overall(outcomes: Sequence[Outcome]) -> str:
    """Failed if any check failed, else inconclusive if any was, else passed. Skipped checks decide
    nothing.
    """
    verdicts = {outcome.verdict for outcome in outcomes}
    return next((verdict for verdict in (FAILED, INCONCLUSIVE) if verdict in verdicts), PASSED)


def shown(interval: Interval) -> str:
    """A ratio with its interval, as text."""
    if not interval.known:
        return f"{interval.estimate:.4f}"
    return (
        f"{interval.estimate:.4f} [{interval.low:.4f}, {interval.high:.4f}] at "
        f"{100 * interval.confidence:g} %, {interval.replicates} processes"
    )


def same(name: str, strict: Interval) -> Outcome:
    """The outcome of two identical cases: their strict interval has to hold 1. It passes only if it
    is narrow and comes from enough processes.
    """
    expected = (
        f"holds 1, half-width at most {100 * LARGEST_HALF_WIDTH:g} % from "
        f"{FEWEST_PROCESSES} processes"
    )
    if not strict.known:
        return Outcome(name, INCONCLUSIVE, shown(strict), expected, QUIET_REMEDY)
    if not strict.holds(1.0):
        return Outcome(name, FAILED, shown(strict), expected)
    if strict.half_width <= LARGEST_HALF_WIDTH and strict.replicates >= FEWEST_PROCESSES:
        return Outcome(name, PASSED, shown(strict), expected)
    return Outcome(name, INCONCLUSIVE, shown(strict), expected, QUIET_REMEDY)


def contention(passes: Sequence[tuple[float, float]]) -> float:
    """Median ratio of wall time to CPU time of `passes`, (wall, CPU) seconds; 1 where CPU time was
    not read.
    """
    return statistics.median([wall_s / busy_s for wall_s, busy_s in passes if busy_s > 0] or [1.0])


def ratios(plan: Plan, rounds: Sequence[Round], key: str, metric: str) -> tuple[Interval, Interval]:
    """The ratio of a case key to the baseline of the plan's only group: with the interval that a
    table shows, and with the strict one.
    """
    estimator, replicates = plan.protocol.estimator, by_replicate(rounds)
    pairs = ratio_pairs(replicates, plan.groups[0].baselines, key, metric, estimator)
    return log_ratio(pairs, estimator=estimator), log_ratio(pairs, STRICT, estimator)


def delayed(
    name: str,
    share: float,
    interval: Interval,
    strict: Interval,
    floor: Interval,
    must_see: bool,
    contended: float = 1.0,
    remedy: str = QUIET_REMEDY,
) -> Outcome:
    """A variant slowed by `share`: the strict interval has to hold the truth, and the ordinary
    verdict has to be `slower`.

    `interval` and `floor` (the A/A interval) have the ordinary confidence. The check passes only
    with an interval narrower than the delay itself, because an interval that holds everything shows
    nothing. A delay that is not detected fails only if `must_see` and if interval and floor are
    narrow; else it is inconclusive. It is inconclusive too where the core was taken away for so
    much of a pass (`contended`, wall time over CPU time) that a delay in CPU time is another share
    of the wall time.
    """
    truth, expected = (
        1.0 + share,
        f"holds {1.0 + share:g} at {100 * STRICT:g} %, and is called slower",
    )
    called = verdict(interval, floor)
    result = f"{shown(interval)}: {called}"
    if contended > CONTENDED:
        return Outcome(
            name,
            INCONCLUSIVE,
            (f"{result}; a pass took {contended:.2f} times its CPU time, too busy to tell"),
            expected,
            remedy,
        )
    if not strict.holds(truth):
        return Outcome(name, FAILED, f"{shown(strict)}: {called}", expected)
    if called == SLOWER and interval.half_width <= share:
        return Outcome(name, PASSED, result, expected)
    if not must_see or called == SLOWER or interval.half_width + floor.half_width > share / 2:
        return Outcome(name, INCONCLUSIVE, f"{result}, too noisy to tell", expected, remedy)
    return Outcome(name, FAILED, result, expected)


def spin(length_s: float, samples: Sequence[tuple[float, float]]) -> Outcome:
    """A spin of about `length_s`: over (truth, reading), the median error has to be within 0.2 % +
    20 µs.
    """
    error_s = statistics.median([read_s - true_s for true_s, read_s in samples])
    allowed_s = SPIN_SHARE * length_s + SPIN_S
    passed = abs(error_s) <= allowed_s
    result = (
        f"read {1e3 * statistics.median([read_s for _, read_s in samples]):.4f} ms, off by "
        f"{1e6 * error_s:+.1f} µs"
    )
    return Outcome(
        f"spin of {1e3 * length_s:g} ms",
        PASSED if passed else FAILED,
        result,
        f"within {1e6 * allowed_s:.0f} µs",
    )


def overhead(empty: Sequence[float], shortest_s: float) -> Outcome:
    """The outcome for the stopwatch's own time: the median reading of a call that does nothing."""
    read_s, allowed_s = statistics.median(empty), max(SAMPLE_S, SAMPLE_SHARE * shortest_s)
    return Outcome(
        "overhead a sample",
        PASSED if read_s <= allowed_s else FAILED,
        f"{1e6 * read_s:.2f} µs",
        f"at most {1e6 * allowed_s:.2g} µs",
    )


def invariants(rounds: Sequence[Round], threads: int) -> Outcome:
    """The outcome for two invariants: F ≤ F+B in every sample, and no more CPU time than `threads`
    cores can give (plus 1 ms for that clock's resolution).
    """
    checked, violations = 0, []
    for round_ in rounds:
        for samples in round_.samples.values():
            checked += 1
            forward, both = samples.get(FORWARD, 0.0), samples.get(FORWARD_BACKWARD)
            if both is not None and forward > both:
                violations.append(f"F {forward:.6f} s > F+B {both:.6f} s")
            wall, cpu = (
                both if both is not None else forward,
                samples.get("forward_backward_cpu_s", samples.get("forward_cpu_s", 0.0)),
            )
            if cpu > threads * wall * 1.01 + 1e-3:
                violations.append(f"{cpu:.6f} s of CPU time in {wall:.6f} s on {threads} threads")
    result = f"{len(violations)} of {checked} samples break one" + (
        f": {violations[0]}" if violations else ""
    )
    return Outcome(
        "invariants",
        FAILED if violations or not checked else PASSED,
        result,
        "F ≤ F+B, CPU time ≤ wall time × threads",
    )


def coverage(name: str, measured: Coverage, low: float, high: float) -> Outcome:
    """The outcome of simulated runs: a bias of at most 0.3 %, and coverage between `low` and
    `high`.
    """
    passed = abs(measured.bias) <= 0.003 and low <= measured.covered <= high
    words = (
        f"bias {100 * measured.bias:+.2f} %, coverage {100 * measured.covered:.1f} % of "
        f"{measured.runs} runs, {measured.replicates:.3g} replicates each"
    )
    return Outcome(
        name,
        PASSED if passed else FAILED,
        words,
        f"bias within 0.3 %, coverage {100 * low:.3g}-{100 * high:.3g} %",
    )


def overconfident(name: str, measured: Coverage) -> Outcome:
    """The outcome of simulated runs with a wrong analysis, whose coverage must be too low: a
    simulation that does not show this proves nothing.
    """
    passed = measured.covered < 0.93
    return Outcome(
        name,
        PASSED if passed else FAILED,
        f"coverage {100 * measured.covered:.1f} % of {measured.runs} runs",
        "below 93 %: processes differ, rounds do not tell",
    )
