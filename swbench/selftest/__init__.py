"""How the instrument proves itself: replay on a fake clock, spins and delays of known size, A/A,
overhead, invariants.
"""

from collections.abc import Callable, Iterator, Sequence

from swbench.plan import Plan
from swbench.result import CPU_TIME, FORWARD, FORWARD_BACKWARD, Round
from swbench.selftest import gpu, judging, plans
from swbench.selftest import simulation as replay
from swbench.selftest.judging import FAILED, INCONCLUSIVE, PASSED, SKIPPED, Outcome, overall
from swbench.selftest.measuring import Measure, judged, measure
from swbench.selftest.power import judge_power
from swbench.selftest.workloads import TRUTH
from swbench.stats.samples import noise_floor
from swbench.stats.stopping import Stopping

__all__ = ["FAILED", "INCONCLUSIVE", "PASSED", "SKIPPED", "Outcome", "overall", "selftest"]


def selftest(
    long: bool = False,
    power: bool = False,
    measure: Measure = measure,
    no_gpu: Callable[[], str] = gpu.missing,
    devices: Sequence[str] | None = None,
) -> Iterator[Outcome]:
    """The outcomes, each as soon as it is known; under three minutes, and about two more with
    `long`, which replays 1000 runs of each kind. `power` adds what differences runs of this machine
    can see.

    A GPU takes about a minute more; `no_gpu` says why there is none, or nothing. `devices` (`cpu`,
    `cuda`, `cuda:1`) leaves out the checks that are not on one of them; with None the CPU is
    checked, and a GPU where there is one. A measurement that the engine could not finish is a
    failed outcome, not an exception.
    """
    if devices is None or "cpu" in devices:
        yield from _on_the_cpu(long, power, measure)
    if devices is not None:
        for device in devices:
            if device != "cpu":
                yield from gpu.checks(measure, device)
    elif why := no_gpu():
        yield Outcome(
            "GPU", SKIPPED, why, "a known cycle count, do_bench, A/A and delays, each within 1 %"
        )
    else:
        yield from gpu.checks(measure)


def _on_the_cpu(long: bool, power: bool, measure: Measure) -> Iterator[Outcome]:
    """Everything that asks nothing of a GPU."""
    yield from replays(1000 if long else 200, long)
    checks = (
        ("spins", plans.spins(), plans.SPIN_TARGET, judge_spins),
        ("delays", plans.delays(), plans.DELAY_TARGET, with_power if power else judge_delays),
    )
    yield from judged(measure, checks)


def replays(runs: int, long: bool) -> Iterator[Outcome]:
    """Simulated runs. With fewer than 1000 the coverage is known less well, so the bounds are two
    standard errors wider.
    """
    slack = 0.0 if runs >= 1000 else 2 * (0.95 * 0.05 / runs) ** 0.5
    experiment = replay.Experiment()
    yield judging.coverage(
        "replay, 5 processes",
        replay.replay(experiment, runs=runs),
        0.93 - slack,
        min(1.0, 0.97 + slack),
    )
    targets = (0.02, 0.03, 0.05) if long else (0.03,)
    for target in targets:
        found = replay.replay_stopping(experiment, Stopping(target), runs=runs)
        yield judging.coverage(f"replay, stopping at ±{target:.0%}", found, 0.93 - slack, 1.0)
    single = replay.replay(experiment, runs=runs, analysis=replay.of_one_process)
    yield judging.overconfident("replay, one process taken for many", single)


def judge_spins(plan: Plan, rounds: Sequence[Round]) -> Iterator[Outcome]:
    """Every spin, and the empty call."""
    for length_s, case in zip(plans.SPINS_S, plan.groups[0].cases, strict=True):
        read = [one.samples[case.key] for one in rounds]
        if length_s:
            yield judging.spin(length_s, [(samples[TRUTH], samples[FORWARD]) for samples in read])
        else:
            yield judging.overhead(
                [samples[FORWARD] for samples in read], min(filter(None, plans.SPINS_S))
            )


def with_power(plan: Plan, rounds: Sequence[Round]) -> Iterator[Outcome]:
    """The delays, and from the same rounds what this machine can see."""
    yield from judge_delays(plan, rounds)
    yield from judge_power(plan, rounds)


def judge_delays(plan: Plan, rounds: Sequence[Round]) -> Iterator[Outcome]:
    """A/A, the delays, and the invariants, for F and for F+B."""
    group = plan.groups[0]
    variants = group.cases[-len(plans.DELAYS) :]
    for metric, short in ((FORWARD, "F"), (FORWARD_BACKWARD, "F+B")):
        yield judging.same(
            f"A/A {short}",
            judging.ratios(plan, rounds, group.baselines[1], metric)[1],
        )
        floor = noise_floor(rounds, group, metric, estimator=plan.protocol.estimator)
        passes = [
            (
                one.samples[group.baseline.key][metric],
                one.samples[group.baseline.key].get(f"{metric[:-2]}{CPU_TIME}", 0.0),
            )
            for one in rounds
        ]
        contended = judging.contention(passes)
        for share, case in zip(plans.DELAYS, variants, strict=True):
            interval, strict = judging.ratios(plan, rounds, case.key, metric)
            if share:
                yield judging.delayed(
                    f"{short} + {100 * share:g} %",
                    share,
                    interval,
                    strict,
                    floor,
                    share >= 0.05,
                    contended,
                )
            else:
                yield judging.same(f"{short} + 0 %", strict)
    yield judging.invariants(rounds, threads=max(case.threads for case in group.cases))
