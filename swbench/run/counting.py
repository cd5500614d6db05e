"""Counting a plan's FLOPs, parameters and activations, in a process of its own so that the parent
of a run stays without torch.
"""

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from swbench import plugins as plugin_files
from swbench.case import FOLDED, TRAIN, Case, case_from_json
from swbench.errors import SwbenchError
from swbench.plan import Plan
from swbench.plugins import Plugin
from swbench.result import COUNTED, Measurement, Result
from swbench.store import RunWriter
from swbench.worker.main import tie_to
from swbench.worker.process import environment

LIMIT_S = 600.0
"""Counting takes seconds; a process that needs this long hangs."""


_NO_MATTER = {
    "batch": 1,
    "device": "cpu",
    "mode": "eager",
    "layout": "contiguous",
    "threads": 1,
    "world": 1,
    "nodes": 1,
}
"""What the counts of one image do not depend on (`swbench.probes.flops.flops_measurements`)."""


def count(plan: Plan, writer: RunWriter, plugins: Sequence[Plugin] = ()) -> None:
    """Seal what can be counted of every network case of `plan` that has not been counted yet, as
    replicate `COUNTED`.

    A fallback for want of memory is left to the scheduler, which gives it the counts of the group
    before it once it is due. The process that counts executes `plugins` first. What a rule cannot
    count, such as an operation in a model of the user's own, is a note on the result. Groups that
    differ in nothing a count depends on are counted once. Raises SwbenchError where a case cannot
    be built at all (an image too small, say), before anything was timed.
    """
    known: dict[tuple[Case, ...], list[dict[str, Any]]] = {}
    for group in plan.groups:
        if group.fallback_of is not None or writer.sealed(group.name, COUNTED):
            continue
        cases = [case for case in group.cases if isinstance(case, Case)]
        if len(cases) == len(group.cases):
            started = time.time()
            alike = tuple(_alike(case) for case in cases)
            counted = known[alike] = known.get(alike) or _elsewhere(cases, plugins)
            writer.seal(
                [
                    _result(case, group.name, one, writer, started)
                    for case, one in zip(cases, counted, strict=True)
                ]
            )


def _alike(case: Case) -> Case:
    """`case` without what its counts do not depend on: of its phase, all but that norms are
    folded.
    """
    phase = FOLDED if case.phase == FOLDED else TRAIN
    return dataclasses.replace(case, **_NO_MATTER, phase=phase)


def _result(
    case: Case, group: str, counted: dict[str, Any], writer: RunWriter, started: float
) -> Result:
    measured = tuple(
        Measurement(metric, unit, tuple(samples))
        for metric, unit, samples in counted["measurements"]
    )
    return Result(
        case=case.key,
        group=group,
        replicate=COUNTED,
        attempt="counted",
        measurements=measured,
        chosen=counted["notes"],
        environment=writer.environment_id,
        started=started,
        ended=time.time(),
    )


def _elsewhere(cases: list[Case], plugins: Sequence[Plugin]) -> list[dict[str, Any]]:
    job = json.dumps(
        {"cases": [case.to_json() for case in cases], "plugins": plugin_files.to_json(plugins)}
    )
    try:
        command = [sys.executable, "-P", "-m", __name__, str(os.getpid())]
        done = subprocess.run(
            command,
            input=job,
            env=environment(threads=1),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SwbenchError(
            f"counting {cases[0].model} took longer than {LIMIT_S:.0f} s; leave "
            "flops out of --metrics"
        ) from None
    lines = done.stdout.splitlines()
    answer = (
        json.loads(lines[-1])
        if done.returncode == 0 and lines
        else {"refused": (done.stderr.splitlines() or ["no output"])[-1]}
    )
    if "refused" in answer:
        raise SwbenchError(f"{cases[0].model} cannot be counted: {answer['refused']}")
    return answer["cells"]


def _answer(job: dict[str, Any]) -> dict[str, Any]:
    from swbench.probes.flops import flops_measurements

    cells = []
    try:
        plugin_files.load(plugin_files.from_json(job["plugins"]))
        for case in map(case_from_json, job["cases"]):
            try:
                measurements, notes = flops_measurements(case)
            except SwbenchError:
                raise
            except Exception as problem:  # noqa: BLE001  a network that cannot be traced can still be timed
                measurements, notes = (
                    [],
                    {
                        "flops": (
                            f"not counted: {type(problem).__name__}: "
                            f"{' '.join(str(problem).split())[:300]}"
                        )
                    },
                )
            cells.append(
                {
                    "measurements": [(m.metric, m.unit, m.samples) for m in measurements],
                    "notes": notes,
                }
            )
    except SwbenchError as problem:
        return {"refused": str(problem)}
    return {"cells": cells}


if __name__ == "__main__":
    tie_to(int(sys.argv[1]))
    sys.stdout.write(json.dumps(_answer(json.load(sys.stdin))) + "\n")
