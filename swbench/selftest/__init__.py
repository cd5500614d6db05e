"""The self-test of swbench: simulated runs on a fake clock, spins and delays of known size, A/A,
overhead, invariants.
"""

from collections.abc import Callable, Iterator, Sequence

from swbench.plan import Plan
from swbench.result import CPU_TIME, FORWARD, FORWARD_BACKWARD, Round
from swbench.selftest import gpu, judging, plans
from swbench.selftest import simulation as replay
from swbench.selftest.judging import FAILED, INCONCLUSIVE, PASSED, SKIPPED, Outcome, overall
from swbench.selftest.measuring import Measure, measure, outcomes_of
from swbench.selftest.power import judge_power
from swbench.selftest.workloads import TRUTH
from swbench.stats.samples import noise_floor
from swbench.stats.stopping import Stopping

__all__ = ["FAILED", "INCONCLUSIVE", "PASSED", "SKIPPED", "Outcome", "overall", "selftest"]


def selftest(
    long: bool = False,
    power: bool = False,
    measure: Measure = measure,
    no_gpu: Callable[[], str] = gpu.no_gpu_reason,
    devices: Sequence[str] | None = None,
) -> Iterator[Outcome]:
    """The outcomes, each as soon as it is known. They take less than three minutes, about two more
    with `long`, which simulates 1000 runs of each kind, and about one more with a GPU.

    `power` adds the smallest differences that runs on this machine detect. `devices` (`cpu`,
    `cuda`, `cuda:1`) limits the checks to these devices; with None the CPU is checked, and a GPU
    where there is one. `no_gpu` returns why there is no GPU, or "". A measurement that the engine
    could not finish is a failed outcome, not an exception.
    """
    if devices is None or "cpu" in devices:
        yield from _cpu_checks(long, power, measure)
    if devices is not None:
        for device in devices:
            if device != "cpu":
                yield from gpu.checks(measure, device)
    elif reason := no_gpu():
        yield Outcome(
            "GPU", SKIPPED, reason, "a known cycle count, do_bench, A/A and delays, each within 1 %"
        )
    else:
        yield from gpu.checks(measure)


def _cpu_checks(long: bool, power: bool, measure: Measure) -> Iterator[Outcome]:
    """The checks that need no GPU."""
    yield from replays(1000 if long else 200, long)
    checks = (
        ("spins", plans.spins(), plans.SPIN_TARGET, judge_spins),
        ("delays", plans.delays(), plans.DELAY_TARGET, with_power if power else judge_delays),
    )
    yield from outcomes_of(measure, checks)


def replays(runs: int, long: bool) -> Iterator[Outcome]:
    """Outcomes of simulated runs. Fewer than 1000 `runs` estimate the coverage less precisely, so
    the bounds are two standard errors wider.
    """
    slack = 0.0 if runs >= 1000 else 2 * (0.95 * 0.05 / runs) ** 0.5
    experiment = replay.Experiment()
    yield judging.coverage(
        "replay, 5 processes",
        replay.simulate(experiment, runs=runs),
        0.93 - slack,
        min(1.0, 0.97 + slack),
    )
    targets = (0.02, 0.03, 0.05) if long else (0.03,)
    for target in targets:
        coverage = replay.simulate_stopping(experiment, Stopping(target), runs=runs)
        yield judging.coverage(f"replay, stopping at ±{target:.0%}", coverage, 0.93 - slack, 1.0)
    single = replay.simulate(experiment, runs=runs, analysis=replay.analyse_rounds_as_replicates)
    yield judging.overconfident("replay, one process taken for many", single)


def judge_spins(plan: Plan, rounds: Sequence[Round]) -> Iterator[Outcome]:
    """Outcomes of every spin, and of the empty call."""
    for length_s, case in zip(plans.SPINS_S, plan.groups[0].cases, strict=True):
        samples_by_round = [round_.samples[case.key] for round_ in rounds]
        if length_s:
            yield judging.spin(
                length_s, [(samples[TRUTH], samples[FORWARD]) for samples in samples_by_round]
            )
        else:
            yield judging.overhead(
                [samples[FORWARD] for samples in samples_by_round], min(filter(None, plans.SPINS_S))
            )


def with_power(plan: Plan, rounds: Sequence[Round]) -> Iterator[Outcome]:
    """Outcomes of the delays, and from the same rounds the power of runs on this machine."""
    yield from judge_delays(plan, rounds)
    yield from judge_power(plan, rounds)


def judge_delays(plan: Plan, rounds: Sequence[Round]) -> Iterator[Outcome]:
    """Outcomes of A/A, the delays and the invariants, for F and for F+B."""
    group = plan.groups[0]
    variants = group.cases[-len(plans.DELAYS) :]
    for metric, letters in ((FORWARD, "F"), (FORWARD_BACKWARD, "F+B")):
        yield judging.same(
            f"A/A {letters}",
            judging.ratios(plan, rounds, group.baselines[1], metric)[1],
        )
        noise_floor_interval = noise_floor(rounds, group, metric, estimator=plan.protocol.estimator)
        passes = [
            (
                round_.samples[group.baseline.key][metric],
                round_.samples[group.baseline.key].get(f"{metric[:-2]}{CPU_TIME}", 0.0),
            )
            for round_ in rounds
        ]
        contended = judging.contention(passes)
        for share, case in zip(plans.DELAYS, variants, strict=True):
            interval, strict = judging.ratios(plan, rounds, case.key, metric)
            if share:
                yield judging.delayed(
                    f"{letters} + {100 * share:g} %",
                    share,
                    interval,
                    strict,
                    noise_floor_interval,
                    share >= 0.05,
                    contended,
                )
            else:
                yield judging.same(f"{letters} + 0 %", strict)
    yield judging.invariants(rounds, threads=max(case.threads for case in group.cases))
