"""Counts a plan's FLOPs, parameters and activations in a subprocess, so that the parent of a run
stays without torch.
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
from swbench.worker.main import die_with_parent
from swbench.worker.process import environment

LIMIT_S = 600.0
"""Timeout of a count, which takes seconds; heuristic."""


_IRRELEVANT = {
    "batch": 1,
    "device": "cpu",
    "mode": "eager",
    "layout": "contiguous",
    "threads": 1,
    "world": 1,
    "nodes": 1,
}
"""The fields that the counts of one image do not depend on
(`swbench.probes.flops.flops_measurements`), with the value each is replaced by.
"""


def count(plan: Plan, writer: RunWriter, plugins: Sequence[Plugin] = ()) -> None:
    """Seal the counts of every network case of `plan` that has none yet, as replicate `COUNTED`.

    The process that counts executes `plugins` first. Groups that need equal counts are counted
    once. An operation that a rule cannot count, for example in a model of the user's own, becomes a
    note on the result. The scheduler gives a fallback batch the counts of the group it replaces.
    Raises SwbenchError where a case cannot be built at all (an image too small, say).
    """
    counts_by_cases: dict[tuple[Case, ...], list[dict[str, Any]]] = {}
    for group in plan.groups:
        if group.fallback_of is not None or writer.sealed(group.name, COUNTED):
            continue
        cases = [case for case in group.cases if isinstance(case, Case)]
        if len(cases) == len(group.cases):
            started = time.time()
            reduced = tuple(_reduced(case) for case in cases)
            all_counts = counts_by_cases[reduced] = counts_by_cases.get(
                reduced
            ) or _count_in_subprocess(cases, plugins)
            writer.seal(
                [
                    _result(case, group.name, counts, writer, started)
                    for case, counts in zip(cases, all_counts, strict=True)
                ]
            )


def _reduced(case: Case) -> Case:
    """`case` reduced to the fields that its counts depend on. Of the phase, they depend only on
    whether norms are folded.
    """
    phase = FOLDED if case.phase == FOLDED else TRAIN
    return dataclasses.replace(case, **_IRRELEVANT, phase=phase)


def _result(
    case: Case, group: str, counts: dict[str, Any], writer: RunWriter, started: float
) -> Result:
    measurements = tuple(
        Measurement(metric, unit, tuple(samples))
        for metric, unit, samples in counts["measurements"]
    )
    return Result(
        case=case.key,
        group=group,
        replicate=COUNTED,
        attempt="counted",
        measurements=measurements,
        chosen=counts["notes"],
        environment=writer.environment_id,
        started=started,
        ended=time.time(),
    )


def _count_in_subprocess(cases: list[Case], plugins: Sequence[Plugin]) -> list[dict[str, Any]]:
    job = json.dumps(
        {"cases": [case.to_json() for case in cases], "plugins": plugin_files.to_json(plugins)}
    )
    try:
        command = [sys.executable, "-P", "-m", __name__, str(os.getpid())]
        completed = subprocess.run(
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
    lines = completed.stdout.splitlines()
    answer = (
        json.loads(lines[-1])
        if completed.returncode == 0 and lines
        else {"refused": (completed.stderr.splitlines() or ["no output"])[-1]}
    )
    if "refused" in answer:
        raise SwbenchError(f"{cases[0].model} cannot be counted: {answer['refused']}")
    return answer["cells"]


def _count_cases(job: dict[str, Any]) -> dict[str, Any]:
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
    die_with_parent(int(sys.argv[1]))
    sys.stdout.write(json.dumps(_count_cases(json.load(sys.stdin))) + "\n")
