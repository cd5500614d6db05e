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


class RunIncomplete(Exception):
    """The engine did not measure every cell; the message says which cell failed, and why."""


def measure(plan: Plan, target: str) -> Sequence[Round]:
    """The rounds of `plan`, read back from the disk; the workload class at `target` builds its
    cases. Raises RunIncomplete where a cell failed.
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
            raise RunIncomplete(
                f"{rows[failed.case]}, replicate {failed.replicate}: {failed.status}: "
                f"{failed.detail}{_log(writer.path / 'logs')}"
            )
        return stored.rounds


def outcomes_of(
    measure: Measure, checks: Iterable[tuple[str, Plan, str, Judge]]
) -> Iterator[Outcome]:
    """The outcomes of `checks` (name, plan, workload target, judge). A check that the engine could
    not measure has failed.
    """
    for name, plan, target, judge in checks:
        try:
            rounds = measure(plan, target)
        except RunIncomplete as problem:
            yield Outcome(name, FAILED, str(problem), "the engine measures every cell")
        else:
            yield from judge(plan, rounds)


def _log(folder: Path) -> str:
    """The last line of the workers' logs, whose folder is about to be deleted."""
    lines = [
        line.strip()
        for path in sorted(folder.glob("*.log"))
        for line in path.read_text(errors="replace").splitlines()
        if line.strip()
    ]
    return f" ({lines[-1][:300]})" if lines else ""
