"""Plans of the self-test: spins of known lengths, and a network against itself with added delays of
0, 2 and 5 %.
"""

from collections.abc import Sequence
from dataclasses import replace

from swbench.case import BASELINE, CONTROL, VARIANT, Case
from swbench.plan import FASTER_HALF, Group, Plan, Protocol
from swbench.selftest.workloads import DELAY, LENGTH

SPINS_S = (0.0, 0.005, 0.02, 0.1, 0.5)
"""The empty call shows what the stopwatch itself costs."""
DELAYS = (0.0, 0.02, 0.05)

SPIN_TARGET, DELAY_TARGET = (
    "swbench.selftest.workloads:SpinWorkload",
    "swbench.selftest.workloads:DelayedWorkload",
)

REPLICATES, ROUNDS = 16, 48
"""A round takes 30 to 80 ms, a process three seconds to start. By the faster half of 64 rounds 15
processes knew a ratio to 0.2 % where the machine was quiet, and to 1 % by the median before.
"""

IMAGE, BATCH = (16, 16), 1
"""Small, so that many rounds fit into the time: they cost less than processes do, and on a
contended machine rounds differ by 40 %.
"""

BUDGET_S = 130.0
"""No replicate of the delays begins after this, so that the self-test ends within three minutes on
a busy machine too.
"""


def spins() -> Plan:
    """One process, seven rounds of every length; the shortest stands as the baseline, though
    nothing is divided by it.
    """
    cases = tuple(
        Case(
            model="spin",
            solver=f"{LENGTH}={length_s:g}",
            role=BASELINE if position == 0 else VARIANT,
        )
        for position, length_s in enumerate(SPINS_S)
    )
    group = Group(
        name="spins", cases=cases, rows=tuple(f"{1e3 * length_s:g} ms" for length_s in SPINS_S)
    )
    return plan(
        "selftest-spins",
        group,
        Protocol(iterations=7, replicates=1, warmup_calls=1, warmup_s=0.0, warmup_cap_s=0.0),
    )


def delays(
    replicates: int = REPLICATES,
    rounds: int = ROUNDS,
    threads: int = 1,
    shares: Sequence[float] = DELAYS,
    budget_s: float | None = BUDGET_S,
) -> Plan:
    """A small network with BN as baseline, control and variants delayed by `shares`, in K fresh
    processes.
    """
    network = Case(model="resnet20", classes=10, image=IMAGE, batch=BATCH, threads=threads)
    protocol = Protocol(
        iterations=replicates * rounds,
        replicates=replicates,
        warmup_calls=3,
        warmup_s=0.2,
        warmup_cap_s=0.5,
        budget_s=budget_s,
        estimator=FASTER_HALF,
    )
    return plan("selftest-delays", delayed("delays", network, shares), protocol)


def delayed(name: str, network: Case, delays: Sequence[float]) -> Group:
    """`network` as baseline, as control, and with each of `delays` added."""
    shares = (0.0, 0.0, *delays)
    roles = (BASELINE, CONTROL, *(VARIANT for _ in delays))
    return Group(
        name=name,
        cases=tuple(
            replace(network, solver=f"{DELAY}={share:g}", role=role)
            for share, role in zip(shares, roles, strict=True)
        ),
        rows=("BN", "BN again", *(f"BN + {share:.0%}" for share in delays)),
    )


def plan(suite: str, group: Group, protocol: Protocol) -> Plan:
    """A plan that times one group."""
    return Plan(
        suite=suite,
        title=suite,
        kind="network",
        groups=(group,),
        metrics=("time",),
        protocol=protocol,
    )
