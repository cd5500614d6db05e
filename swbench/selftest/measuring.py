"""Self-test plans through the real engine, in a results folder that is thrown away."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from swbench.plan import Plan
from swbench.result import OK, Round
from swbench.run import SubprocessExecutor, run
from swbench.selftest.judging import FAILED, Outcome
from swbench.store import RunWriter, load

Measure = Callable[[Plan, str], Sequence[Round]]
"""(plan, workload target) -> the rounds that the engine measured."""

Judge = Callable[[Plan, Sequence[Round]], Iterable[Outcome]]


class Broken(Exception):
    """The engine did not bring every cell home; the message says which and why."""


def measure(plan: Plan, target: str) -> Sequence[Round]:
    """The rounds of `plan`, its cases built by the workload at `target`, as read back from the
    disk. Raises Broken where a cell failed.
    """
    with tempfile.TemporaryDirectory(prefix="swbench-selftest-") as folder:
        writer = RunWriter.create(folder, plan, {}, "selftest")
        run(plan, writer, SubprocessExecutor(writer.path / "logs"), workloads={plan.kind: target})
        stored = load(writer.path)
        failed = next((result for result in stored.results if result.status != OK), None)
        if failed is not None:
            rows = {
                case.key: row
                for group in plan.groups
                for case, row in zip(group.cases, group.rows, strict=True)
            }
            raise Broken(
                f"{rows[failed.case]}, replicate {failed.replicate}: {failed.status}: "
                f"{failed.detail}{_log(writer.path / 'logs')}"
            )
        return stored.rounds


def judged(measure: Measure, checks: Iterable[tuple[str, Plan, str, Judge]]) -> Iterator[Outcome]:
    """The outcomes of `checks` (name, plan, workload target, judge); what the engine could not
    measure has failed.
    """
    for name, plan, target, judge in checks:
        try:
            rounds = measure(plan, target)
        except Broken as problem:
            yield Outcome(name, FAILED, str(problem), "the engine measures every cell")
        else:
            yield from judge(plan, rounds)


def _log(folder: Path) -> str:
    """The last line that a worker left, as the folder is about to go."""
    lines = [
        line.strip()
        for path in sorted(folder.glob("*.log"))
        for line in path.read_text(errors="replace").splitlines()
        if line.strip()
    ]
    return f" ({lines[-1][:300]})" if lines else ""
