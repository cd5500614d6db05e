"""Cases spread over processes: the ranks in step, the slowest rank's times, and a status for
whatever one of them does.
"""

import threading
from pathlib import Path

import fakes
import psutil
import pytest
from torch import distributed as dist

from swbench import store
from swbench.case import Case
from swbench.probes.workload import Unsupported
from swbench.ranks import rank_group as rank_groups
from swbench.ranks.rank_group import RankFailed, RankGroup, RankGroupWorkload
from swbench.result import CRASHED, OK, OUT_OF_MEMORY, TIMED_OUT, Measurement
from swbench.run import SubprocessExecutor, run
from swbench.run import executor as executor_module


class Timed:
    """Takes as many seconds as its rank and its call; does what `act` says."""

    def __init__(self, rank, act=lambda rank: None):
        self.rank, self.calls, self.chosen = rank, 0, {"solver": f"of {rank}"}
        self._act = act

    def call(self):
        self._act(self.rank)
        self.calls += 1
        return {"forward_s": 1.0 + self.rank * self.calls}

    def finish(self):
        return [Measurement("peak_bytes", "B", (float(self.rank),))]


def in_step(lead, act=lambda rank: None, build=lambda rank: None, world=3):
    """Run `lead(case)` on rank 0 with the others following, in threads."""
    store, barrier = dist.HashStore(), threading.Barrier(world)

    def make(rank):
        def workload(case):
            build(rank)
            return Timed(rank, act)

        return RankGroup(store, barrier.wait, rank, world, [Case(model="good")] * 2, workload)

    others = [threading.Thread(target=make(rank).follow, daemon=True) for rank in range(1, world)]
    for thread in others:
        thread.start()
    first = make(0)
    result = lead(first)
    first.end()
    for thread in others:
        thread.join(20)
        assert not thread.is_alive()
    return result


def test_call_time_is_the_slowest_ranks_and_every_rank_has_a_metric():
    def lead(rank_group):
        workload = RankGroupWorkload(0, rank_group)
        return workload.call(), workload.call(), workload.finish(), workload.chosen

    first, second, measured, chosen = in_step(lead)
    assert first == {
        "forward_s": 3.0,
        "forward_s_rank0": 1.0,
        "forward_s_rank1": 2.0,
        "forward_s_rank2": 3.0,
    }
    assert second["forward_s"] == 5.0
    assert [(measurement.metric, measurement.samples) for measurement in measured] == [
        ("peak_bytes", (0.0,)),
        ("peak_bytes_rank1", (1.0,)),
        ("peak_bytes_rank2", (2.0,)),
    ]
    assert chosen == {"solver": "of 0"}


def test_timings_have_a_metric_for_every_rank(monkeypatch):
    assert in_step(lambda rank_group: RankGroupWorkload(0, rank_group).timings()) == []
    monkeypatch.setattr(
        Timed,
        "timings",
        lambda self: [Measurement("block_iterations", "1", (float(self.rank),))],
        raising=False,
    )
    timings = in_step(lambda rank_group: RankGroupWorkload(0, rank_group).timings(), world=2)
    assert [(measurement.metric, measurement.samples) for measurement in timings] == [
        ("block_iterations", (0.0,)),
        ("block_iterations_rank1", (1.0,)),
    ]


def test_the_end_of_warm_up_reaches_every_rank(monkeypatch):
    ranks = []
    monkeypatch.setattr(Timed, "warmed", lambda self: ranks.append(self.rank), raising=False)
    in_step(lambda rank_group: RankGroupWorkload(0, rank_group).warmed())
    assert sorted(ranks) == [0, 1, 2]


def test_workload_without_warmed_is_accepted():
    in_step(lambda rank_group: RankGroupWorkload(0, rank_group).warmed())


@pytest.mark.parametrize(
    ("problem", "raised"),
    [
        (MemoryError("none left"), MemoryError),
        (Unsupported("not here"), Unsupported),
        (ZeroDivisionError("on purpose"), RankFailed),
    ],
)
def test_failure_on_all_ranks_raises_one_exception(problem, raised):
    def fail(rank):
        raise problem

    def lead(rank_group):
        workload = RankGroupWorkload(0, rank_group)
        with pytest.raises(raised, match=str(problem)):
            workload.call()
        return rank_group

    in_step(lead, act=fail)


def test_build_failure_of_one_rank_fails_the_case_on_all_ranks():
    def build(rank):
        if rank == 1:
            raise ValueError("only here")

    def lead(rank_group):
        with pytest.raises(RankFailed, match="rank 1: ValueError: only here"):
            RankGroupWorkload(0, rank_group)

    in_step(lead, build=build)


def test_failed_rank_exits_after_the_grace_period_when_another_is_stuck(monkeypatch):
    left = []
    monkeypatch.setattr(
        rank_groups,
        "_exit_with_cause",
        lambda status, detail: (left.append((status, detail)), (_ for _ in ()).throw(SystemExit)),
    )
    rank_group = RankGroup(
        dist.HashStore(), lambda: None, 0, 2, [Case(model="good")], lambda case: 1 / 0, grace_s=0.05
    )
    with pytest.raises(SystemExit):
        rank_group.step("build", 0)
    assert left == [(CRASHED, "rank 0: ZeroDivisionError: division by zero")]


CAUSES = [
    ("3@1:killed", CRASHED, "killed by SIGKILL while timing (rank 1: killed by SIGKILL)"),
    ("3@1:memory", OUT_OF_MEMORY, "(rank 1: no memory left)"),
    (
        "3:raise",
        CRASHED,
        ("RankFailed: rank 0: ZeroDivisionError: on purpose second line (while timing)"),
    ),
    ("3@1:deadlock", TIMED_OUT, "over the limit of 8 s while timing"),
]


@pytest.mark.parametrize(
    "causes",
    [[CAUSES[0], CAUSES[2]], pytest.param(CAUSES, marks=pytest.mark.slow)],
    ids=["some", "all"],
)
def test_every_fault_of_a_rank_has_a_status_and_the_next_case_runs(tmp_path, monkeypatch, causes):
    monkeypatch.setattr(executor_module, "_DUMP_S", 2.0)
    plan = fakes.plan(
        *(model for model, _, _ in causes),
        "good",
        world=2,
        replicates=1,
        iterations=2,
        case_limit_s=8.0,
    )
    folder = str(Path(fakes.__file__).parent)
    writer = store.RunWriter.create(tmp_path, plan, {}, "test")
    executor = SubprocessExecutor(writer.path / "logs", paths=[folder])
    ended = run(plan, writer, executor, lambda event: None, workloads=fakes.TARGETS)
    stored = store.load(writer.path)
    assert [result.status for result in stored.results] == [
        OK,
        OK,
        *(status for _, status, _ in causes),
        OK,
    ]
    for result, (model, _, detail) in zip(stored.results[2:], causes, strict=False):
        assert detail in result.detail, model
    assert ended.exit_code == 3
    good = stored.results[-1]
    assert good.samples("forward_s") == good.samples("forward_s_rank1") == (1.0, 1.0)
    assert good.samples("error_rank1")[1] not in (good.samples("error")[1], 0.0)
    logs = "".join(log.read_text(errors="replace") for log in (stored.path / "logs").glob("*.log"))
    assert causes is not CAUSES or "_deadlock" in logs
    assert not list((stored.path / "logs").glob("*.ranks"))
    assert not [
        p
        for p in psutil.process_iter(["cmdline", "environ"])
        if "swbench.ranks.rank" in (p.info["cmdline"] or [])
        and folder in (p.info["environ"] or {}).get("PYTHONPATH", "")
    ]
