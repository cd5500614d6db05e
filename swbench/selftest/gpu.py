"""The self-test's part on a GPU: cycles of a known number, events against the wall, agreement with
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
from swbench.selftest.measuring import Measure, judged
from swbench.selftest.workloads import TRUTH
from swbench.stats.intervals import Interval
from swbench.stats.samples import noise_floor

ROOM = "swbench.selftest.gpu_workloads:"
CYCLES, SIDE = 40_000_000, 8192
"""About 20 ms at 2 GHz; a bfloat16 product of 1.1e12 operations, a millisecond or two on a large
GPU.
"""

DELAYS = (0.02, 0.05)
REPLICATES, ROUNDS, BUDGET_S = 5, 8, 35.0
"""Few processes, for each takes seconds to start, and on a GPU they differ little."""

WITHIN = 0.01
CALM = (
    "see that nothing else uses the GPU and that its clocks hold (`nvidia-smi -q -d "
    "PERFORMANCE,CLOCK`), then run it again"
)


def missing() -> str:
    """Why nothing can be checked on a GPU here; empty where it can."""
    from swbench.errors import DeviceError
    from swbench.machine import gpus
    from swbench.run.devices import torch_devices

    if said := gpus.missing():
        return said
    try:
        return "" if torch_devices()["devices"] else "torch sees no GPU"
    except DeviceError as problem:
        return str(problem)


def checks(measure: Measure, device: str = "cuda") -> Iterator[Outcome]:
    """The outcomes, each as soon as it is known; about a minute."""
    clock = _alone(device, f"cycles={CYCLES}", rounds=20)
    product = _alone(device, f"side={SIDE}", rounds=3, warmup_s=0.0)
    yield from judged(
        measure,
        (
            ("GPU clock", clock, f"{ROOM}CycleWorkload", judge_cycles),
            ("GPU against do_bench", product, f"{ROOM}ProductWorkload", judge_product),
            ("GPU delays", delays(device), f"{ROOM}DelayedGpuWorkload", judge_delays),
        ),
    )


def _alone(device: str, known: str, rounds: int, warmup_s: float = 0.5) -> Plan:
    """One process that measures one thing."""
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
    """Events against the number of cycles and NVML's clock, and against the host's wall clock."""
    read = _samples(plan, rounds)
    known = [one[FORWARD] / one[TRUTH] for one in read if TRUTH in one]
    yield _near(
        "GPU: a known cycle count",
        known,
        ("NVML does not tell the clock; install nvidia-ml-py, and look outside of a container"),
    )
    yield _near(
        "GPU: events against the wall", [one[FORWARD] / one["forward_wall_s"] for one in read], CALM
    )


def judge_product(plan: Plan, rounds: Sequence[Round]) -> Iterator[Outcome]:
    """A product by our windows over the same by do_bench."""
    read = _samples(plan, rounds)
    known = [one[FORWARD] / one[TRUTH] for one in read if TRUTH in one]
    if not known:
        yield Outcome(
            "GPU: agreement with do_bench",
            SKIPPED,
            "triton is not installed",
            "within 1 % above 100 µs",
        )
    else:
        yield _near("GPU: agreement with do_bench", known, CALM)


def judge_delays(plan: Plan, rounds: Sequence[Round]) -> Iterator[Outcome]:
    """A/A within 1 %, and the delays, for F and for F+B."""
    group = plan.groups[0]
    for metric, short in ((FORWARD, "F"), (FORWARD_BACKWARD, "F+B")):
        floor = noise_floor(rounds, group, metric, estimator=plan.protocol.estimator)
        again = judging.ratios(plan, rounds, group.baselines[1], metric)
        yield same(f"GPU: A/A {short}", *again)
        for share, case in zip(DELAYS, group.cases[2:], strict=True):
            interval, strict = judging.ratios(plan, rounds, case.key, metric)
            yield judging.delayed(
                f"GPU: {short} + {100 * share:g} %",
                share,
                interval,
                strict,
                floor,
                must_see=True,
                remedy=CALM,
            )


def same(name: str, interval: Interval, strict: Interval) -> Outcome:
    """Two identical networks: their interval has to lie within 1 %. Wider is too noisy to tell; a
    strict interval that lies beside it is wrong.
    """
    asked = f"the 95 % interval lies within ±{WITHIN:.0%}"
    if interval.known and (strict.low > math.exp(WITHIN) or strict.high < math.exp(-WITHIN)):
        return Outcome(name, FAILED, judging.shown(strict), asked)
    if interval.known and math.exp(-WITHIN) <= interval.low and interval.high <= math.exp(WITHIN):
        return Outcome(name, PASSED, judging.shown(interval), asked)
    return Outcome(name, INCONCLUSIVE, judging.shown(interval), asked, CALM)


def _samples(plan: Plan, rounds: Sequence[Round]) -> list[dict[str, float]]:
    key = plan.groups[0].cases[0].key
    return [one.samples[key] for one in rounds]


def _near(name: str, ratios: Sequence[float], remedy: str) -> Outcome:
    """The median of readings over truths has to be 1 within 1 %; where their quarters lie further
    apart than that, it tells nothing.
    """
    asked = f"read over known 1 within {WITHIN:.0%}"
    if not ratios:
        return Outcome(name, INCONCLUSIVE, "nothing to compare with", asked, remedy)
    median, ordered = statistics.median(ratios), sorted(ratios)
    found = f"read over known {median:.4f}, of {len(ratios)}"
    if abs(median - 1) <= WITHIN:
        return Outcome(name, PASSED, found, asked)
    apart = ordered[3 * len(ordered) // 4] - ordered[len(ordered) // 4]
    if apart > WITHIN:
        return Outcome(
            name, INCONCLUSIVE, f"{found}, whose quarters lie {apart:.1%} apart", asked, remedy
        )
    return Outcome(name, FAILED, found, asked)
