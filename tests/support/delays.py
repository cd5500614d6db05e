"""Rounds of the self-test's delays, made up."""

from swbench.result import Round
from swbench.selftest.workloads import DELAY, known_value


def delayed_rounds(plan, replicates, factor, rounds):
    """Rounds in which a forward pass takes 30 ms times `factor(delay, replicate)`, and a process
    three seconds.
    """
    (group,) = plan.groups
    made = []
    for replicate in range(replicates):
        for index in range(rounds):
            samples = {}
            for case in group.cases:
                forward = 0.03 * factor(known_value(case, DELAY), replicate)
                samples[case.key] = {"forward_s": forward, "forward_backward_s": 3 * forward}
            made.append(
                Round(
                    group=group.name,
                    replicate=replicate,
                    attempt="1",
                    index=index,
                    order=tuple(samples),
                    samples=samples,
                    started=100.0 + 3 * replicate + 0.1 * index,
                )
            )
    return made
