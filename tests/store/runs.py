"""Small runs to write and read."""

import itertools
from dataclasses import replace

from swbench.case import BASELINE, CONTROL, Case
from swbench.plan import Group, Plan, Protocol
from swbench.result import Measurement, Result, Round

ENVIRONMENT = {"packages": {"torch": "2.13.0"}, "processor": {"model": "x"}, "now": {"load": 0.3}}


def plan(groups: int = 2, replicates: int = 2) -> Plan:
    made = []
    for batch in range(1, groups + 1):
        cases = (
            Case(model="m", batch=batch, role=BASELINE),
            Case(model="m", batch=batch, role=CONTROL),
            Case(model="m", norm="swa", layers=7, batch=batch),
        )
        made.append(
            Group(name=f"cpu batch {batch}", cases=cases, rows=("BN", "BN (control)", "SW^a"))
        )
    protocol = Protocol(iterations=3 * replicates, replicates=replicates)
    return Plan(
        suite="tiny",
        title="Tiny",
        kind="network",
        groups=tuple(made),
        metrics=("time",),
        protocol=protocol,
    )


BLOCK = {"wall_s": 0.5, "gpu_sm_hz_before": 1.98e9, "gpu_sm_hz_after": 1.2e9, "gpu_thermal_s": 0.25}


def one_round(
    of: Plan,
    group: int = 0,
    replicate: int = 0,
    attempt: str = "a",
    index: int = 0,
    schema: int = 2,
) -> Round:
    """Of schema 1 without the readings around blocks, which there were not."""
    keys = tuple(case.key for case in of.groups[group].cases)
    samples = {
        key: {"forward_s": 0.1 + position, "forward_backward_s": 0.3 + index}
        for position, key in enumerate(keys)
    }
    return Round(
        group=of.groups[group].name,
        replicate=replicate,
        attempt=attempt,
        index=index,
        order=keys[::-1],
        samples=samples,
        disturbance={"steal_s": 0.5},
        blocks={
            keys[0]: BLOCK,
            keys[2]: {"wall_s": 0.25 + index, "gpu_throttle_reasons_before": 64.0},
        }
        if schema > 1
        else {},
        started=7.0,
    )


def results(of: Plan, group: int = 0, replicate: int = 0, attempt: str = "a") -> list[Result]:
    made = []
    for case in of.groups[group].cases:
        measured = (
            Measurement("peak_bytes", "B", (5.0,)),
            Measurement("error", "1", (float("inf"),)),
        )
        made.append(
            Result(
                case=case.key,
                group=of.groups[group].name,
                replicate=replicate,
                attempt=attempt,
                measurements=measured,
                chosen={"solver": "eigh"},
                ended=9.0,
            )
        )
    return made


def fill_paired(writer, of: Plan, group: int = 0, replicate: int = 0) -> None:
    """Two workers for one replicate: all but the last case in worker a, baseline and last case in
    worker b, three rounds each.
    """
    baseline, _, last = (case.key for case in of.groups[group].cases)
    for attempt, index in itertools.product("ab", range(3)):
        round_ = one_round(of, group, replicate, attempt, index)
        complete = [
            key
            for key in round_.order
            if (key != last if attempt == "a" else key in (baseline, last))
        ]
        parts = {"samples": round_.samples, "blocks": round_.blocks}
        writer.add_round(
            replace(
                round_,
                order=tuple(complete),
                **{
                    name: {key: part[key] for key in complete if key in part}
                    for name, part in parts.items()
                },
            )
        )
    cells = results(of, group, replicate, "a")
    writer.seal([replace(cells[0], also=("b",)), cells[1], replace(cells[2], attempt="b")])


def fill(
    writer, of: Plan, group: int = 0, replicate: int = 0, attempt: str = "a", rounds: int = 3
) -> None:
    for index in range(rounds):
        writer.add_round(one_round(of, group, replicate, attempt, index))
    writer.seal(results(of, group, replicate, attempt))
