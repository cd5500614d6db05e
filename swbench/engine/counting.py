"""Counting a plan's FLOPs, parameters and activations, in a process of its own so that the parent of a run stays without torch."""

import json
import os
import subprocess
import sys
import time
from typing import Any

from swbench.case import Case, case_from_json
from swbench.engine.worker import tie_to
from swbench.errors import NotCounted, SwbenchError
from swbench.plan import Plan
from swbench.result import COUNTED, Measurement, Result
from swbench.store import RunWriter

LIMIT_S = 600.0
"""Counting takes seconds; a process that needs this long hangs."""


def count(plan: Plan, writer: RunWriter) -> None:
    """Seal what can be counted of every network case of `plan` that has not been counted yet, as replicate `COUNTED`.

    Raises SwbenchError where a case cannot be built at all (an image too small, say), before anything was timed.
    """
    for group in plan.groups:
        if writer.sealed(group.name, COUNTED):
            continue
        cases = [case for case in group.cases if isinstance(case, Case)]
        if len(cases) == len(group.cases):
            started = time.time()
            counted = _elsewhere(cases)
            writer.seal([_result(case, group.name, one, writer, started) for case, one in zip(cases, counted, strict=True)])


def _result(case: Case, group: str, counted: dict[str, Any], writer: RunWriter, started: float) -> Result:
    measured = tuple(Measurement(metric, unit, tuple(samples)) for metric, unit, samples in counted["measurements"])
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


def _elsewhere(cases: list[Case]) -> list[dict[str, Any]]:
    job = json.dumps([case.to_json() for case in cases])
    try:
        done = subprocess.run([sys.executable, "-m", __name__, str(os.getpid())], input=job, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise SwbenchError(f"counting {cases[0].model} took longer than {LIMIT_S:.0f} s; leave flops out of --metrics") from None
    lines = done.stdout.splitlines()
    answer = json.loads(lines[-1]) if done.returncode == 0 and lines else {"refused": (done.stderr.splitlines() or ["no output"])[-1]}
    if "refused" in answer:
        raise SwbenchError(f"{cases[0].model} cannot be counted: {answer['refused']}")
    return answer["cells"]


def _answer(cases: list[Case]) -> dict[str, Any]:
    from swbench.probes.flops import flops_measurements

    cells = []
    for case in cases:
        try:
            measurements, notes = flops_measurements(case)
            cells.append({"measurements": [(m.metric, m.unit, m.samples) for m in measurements], "notes": notes})
        except NotCounted as problem:
            cells.append({"measurements": [], "notes": {"flops": f"not counted: {problem}"}})
        except SwbenchError as problem:
            return {"refused": str(problem)}
    return {"cells": cells}


if __name__ == "__main__":
    tie_to(int(sys.argv[1]))
    sys.stdout.write(json.dumps(_answer([case_from_json(data) for data in json.load(sys.stdin)])) + "\n")
