"""The self-test on a GPU: known numbers of cycles, events against the wall clock, agreement with
do_bench, A/A, and delays of known size.
"""

import math
import statistics
from collections.abc import Iterator, Sequence

from swbench.case import BASELINE, Case
from swbench.plan import FASTER_HALF, Group, Plan, Protocol
from swbench.result import FORWARD, FORWARD_BACKWARD, Round
from swbench.selftest import judging, plans
from swbench.selftest.judging import FAILED, INCONCLUSIVE, PASSED, SKIPPED, Outcome
from swbench.selftest.measuring import Measure, outcomes_of
from swbench.selftest.workloads import TRUTH
from swbench.stats.intervals import Interval
from swbench.stats.samples import noise_floor

WORKLOADS_MODULE = "swbench.selftest.gpu_workloads:"
CYCLES, SIDE = 40_000_000, 8192
"""Cycles of a spin, about 20 ms at 2 GHz; size of a bfloat16 product, 1.1e12 operations, a
millisecond or two on a large GPU.
"""

DELAYS = (0.02, 0.05)
REPLICATES, ROUNDS, BUDGET_S = 5, 8, 35.0
"""Few processes, because each takes seconds to start, and on a GPU they differ little."""

TOLERANCE = 0.01
QUIET_REMEDY = (
    "see that nothing else uses the GPU and that its clocks hold (`nvidia-smi -q -d "
    "PERFORMANCE,CLOCK`), then run it again"
)


def no_gpu_reason() -> str:
    """Why no GPU can be checked here; empty where one can."""
    from swbench.errors import DeviceError
    from swbench.machine import gpus
    from swbench.run.devices import torch_devices

    if reason := gpus.no_gpu_reason():
        return reason
    try:
        return "" if torch_devices()["devices"] else "torch sees no GPU"
    except DeviceError as problem:
        return str(problem)


def checks(measure: Measure, device: str = "cuda") -> Iterator[Outcome]:
    """The outcomes, each as soon as it is known; about a minute."""
    clock = _single_case_plan(device, f"cycles={CYCLES}", rounds=20)
    product = _single_case_plan(device, f"side={SIDE}", rounds=3, warmup_s=0.0)
    yield from outcomes_of(
        measure,
        (
            ("GPU clock", clock, f"{WORKLOADS_MODULE}CycleWorkload", judge_cycles),
            ("GPU against do_bench", product, f"{WORKLOADS_MODULE}ProductWorkload", judge_product),
            ("GPU delays", delays(device), f"{WORKLOADS_MODULE}DelayedGpuWorkload", judge_delays),
        ),
    )


def _single_case_plan(device: str, known: str, rounds: int, warmup_s: float = 0.5) -> Plan:
    """A plan of one process and one case, whose `solver` field holds the `known` value."""
    case = Case(model="known", device=device, threads=0, solver=known, role=BASELINE)
    protocol = Protocol(
        iterations=rounds, replicates=1, warmup_calls=1, warmup_s=warmup_s, warmup_cap_s=warmup_s
    )
    return plans.plan("selftest-gpu", Group(name="GPU", cases=(case,), rows=(known,)), protocol)


def delays(
    device: str, model: str = "resnet50", image: int = 224, batch: int = 32, classes: int = 1000
) -> Plan:
    """A network with BN that keeps the device busy, as baseline, control and delayed variants."""
    network = Case(
        model=model,
        classes=classes,
        image=(image, image),
        batch=batch,
        device=device,
        threads=0,
    )
    protocol = Protocol(
        iterations=REPLICATES * ROUNDS,
        replicates=REPLICATES,
        warmup_calls=3,
        warmup_s=0.3,
        warmup_cap_s=1.0,
        budget_s=BUDGET_S,
        estimator=FASTER_HALF,
    )
    group = plans.delayed("GPU delays", network, DELAYS)
    return plans.plan("selftest-gpu-delays", group, protocol)


def judge_cycles(plan: Plan, rounds: Sequence[Round]) -> Iterator[Outcome]:
    """Outcomes of events against the number of cycles and NVML's clock, and against the host's wall
    clock.
    """
    samples_by_round = _samples(plan, rounds)
    ratios = [sample[FORWARD] / sample[TRUTH] for sample in samples_by_round if TRUTH in sample]
    yield _near_one(
        "GPU: a known cycle count",
        ratios,
        ("NVML does not tell the clock; install nvidia-ml-py, and look outside of a container"),
    )
    yield _near_one(
        "GPU: events against the wall",
        [sample[FORWARD] / sample["forward_wall_s"] for sample in samples_by_round],
        QUIET_REMEDY,
    )


def judge_product(plan: Plan, rounds: Sequence[Round]) -> Iterator[Outcome]:
    """Outcome of a product's time by swbench's windows over its time by do_bench."""
    samples_by_round = _samples(plan, rounds)
    ratios = [sample[FORWARD] / sample[TRUTH] for sample in samples_by_round if TRUTH in sample]
    if not ratios:
        yield Outcome(
            "GPU: agreement with do_bench",
            SKIPPED,
            "triton is not installed",
            "within 1 % above 100 µs",
        )
    else:
        yield _near_one("GPU: agreement with do_bench", ratios, QUIET_REMEDY)


def judge_delays(plan: Plan, rounds: Sequence[Round]) -> Iterator[Outcome]:
    """Outcomes of A/A within 1 % and of the delays, for F and for F+B."""
    group = plan.groups[0]
    for metric, short in ((FORWARD, "F"), (FORWARD_BACKWARD, "F+B")):
        floor = noise_floor(rounds, group, metric, estimator=plan.protocol.estimator)
        aa_ratios = judging.ratios(plan, rounds, group.baselines[1], metric)
        yield same(f"GPU: A/A {short}", *aa_ratios)
        for share, case in zip(DELAYS, group.cases[2:], strict=True):
            interval, strict = judging.ratios(plan, rounds, case.key, metric)
            yield judging.delayed(
                f"GPU: {short} + {100 * share:g} %",
                share,
                interval,
                strict,
                floor,
                must_see=True,
                remedy=QUIET_REMEDY,
            )


def same(name: str, interval: Interval, strict: Interval) -> Outcome:
    """The outcome of two identical networks: passed if their interval lies within 1 %, failed if
    the strict interval lies outside of that, else inconclusive.
    """
    expected = f"the 95 % interval lies within ±{TOLERANCE:.0%}"
    if interval.known and (strict.low > math.exp(TOLERANCE) or strict.high < math.exp(-TOLERANCE)):
        return Outcome(name, FAILED, judging.shown(strict), expected)
    if (
        interval.known
        and math.exp(-TOLERANCE) <= interval.low
        and interval.high <= math.exp(TOLERANCE)
    ):
        return Outcome(name, PASSED, judging.shown(interval), expected)
    return Outcome(name, INCONCLUSIVE, judging.shown(interval), expected, QUIET_REMEDY)


def _samples(plan: Plan, rounds: Sequence[Round]) -> list[dict[str, float]]:
    key = plan.groups[0].cases[0].key
    return [round_.samples[key] for round_ in rounds]


def _near_one(name: str, ratios: Sequence[float], remedy: str) -> Outcome:
    """The outcome of `ratios` of readings to known values: passed if their median is 1 within 1 %,
    else failed, or inconclusive where their quartiles lie further apart than that.
    """
    expected = f"read over known 1 within {TOLERANCE:.0%}"
    if not ratios:
        return Outcome(name, INCONCLUSIVE, "nothing to compare with", expected, remedy)
    median, ordered = statistics.median(ratios), sorted(ratios)
    result = f"read over known {median:.4f}, of {len(ratios)}"
    if abs(median - 1) <= TOLERANCE:
        return Outcome(name, PASSED, result, expected)
    interquartile = ordered[3 * len(ordered) // 4] - ordered[len(ordered) // 4]
    if interquartile > TOLERANCE:
        return Outcome(
            name,
            INCONCLUSIVE,
            f"{result}, whose quarters lie {interquartile:.1%} apart",
            expected,
            remedy,
        )
    return Outcome(name, FAILED, result, expected)
