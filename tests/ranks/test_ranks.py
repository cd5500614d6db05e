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
from swbench.ranks import rank_group as crews
from swbench.ranks.rank_group import Crew, Led, RankFailed
from swbench.result import CRASHED, OK, OUT_OF_MEMORY, TIMED_OUT, Measurement
from swbench.run import SubprocessExecutor, run
from swbench.run import executor as executing


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

        return Crew(store, barrier.wait, rank, world, [Case(model="good")] * 2, workload)

    others = [threading.Thread(target=make(rank).follow, daemon=True) for rank in range(1, world)]
    for thread in others:
        thread.start()
    first = make(0)
    found = lead(first)
    first.end()
    for thread in others:
        thread.join(20)
        assert not thread.is_alive()
    return found


def test_times_are_the_slowest_ranks_and_each_is_kept():
    def lead(crew):
        led = Led(0, crew)
        return led.call(), led.call(), led.finish(), led.chosen

    first, second, measured, chosen = in_step(lead)
    assert first == {
        "forward_s": 3.0,
        "forward_s_rank0": 1.0,
        "forward_s_rank1": 2.0,
        "forward_s_rank2": 3.0,
    }
    assert second["forward_s"] == 5.0
    assert [(one.metric, one.samples) for one in measured] == [
        ("peak_bytes", (0.0,)),
        ("peak_bytes_rank1", (1.0,)),
        ("peak_bytes_rank2", (2.0,)),
    ]
    assert chosen == {"solver": "of 0"}


def test_timings_are_read_from_every_rank(monkeypatch):
    assert in_step(lambda crew: Led(0, crew).timings()) == []
    monkeypatch.setattr(
        Timed,
        "timings",
        lambda self: [Measurement("block_iterations", "1", (float(self.rank),))],
        raising=False,
    )
    found = in_step(lambda crew: Led(0, crew).timings(), world=2)
    assert [(one.metric, one.samples) for one in found] == [
        ("block_iterations", (0.0,)),
        ("block_iterations_rank1", (1.0,)),
    ]


def test_the_end_of_warm_up_reaches_every_rank(monkeypatch):
    told = []
    monkeypatch.setattr(Timed, "warmed", lambda self: told.append(self.rank), raising=False)
    in_step(lambda crew: Led(0, crew).warmed())
    assert sorted(told) == [0, 1, 2]


def test_workloads_need_not_know_of_warm_up():
    in_step(lambda crew: Led(0, crew).warmed())


@pytest.mark.parametrize(
    ("problem", "raised"),
    [
        (MemoryError("none left"), MemoryError),
        (Unsupported("not here"), Unsupported),
        (ZeroDivisionError("on purpose"), RankFailed),
    ],
)
def test_a_failure_on_all_ranks_is_raised_once(problem, raised):
    def fail(rank):
        raise problem

    def lead(crew):
        led = Led(0, crew)
        with pytest.raises(raised, match=str(problem)):
            led.call()
        return crew

    in_step(lead, act=fail)


def test_one_rank_that_cannot_build_fails_the_case_on_all():
    def build(rank):
        if rank == 1:
            raise ValueError("only here")

    def lead(crew):
        with pytest.raises(RankFailed, match="rank 1: ValueError: only here"):
            Led(0, crew)

    in_step(lead, build=build)


def test_a_rank_that_failed_does_not_wait_for_ever_for_one_that_is_stuck(monkeypatch):
    left = []
    monkeypatch.setattr(
        crews,
        "_leave",
        lambda status, detail: (left.append((status, detail)), (_ for _ in ()).throw(SystemExit)),
    )
    crew = Crew(
        dist.HashStore(), lambda: None, 0, 2, [Case(model="good")], lambda case: 1 / 0, grace_s=0.05
    )
    with pytest.raises(SystemExit):
        crew.step("build", 0)
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
def test_each_fault_of_a_rank_has_a_status_and_the_next_case_runs(tmp_path, monkeypatch, causes):
    monkeypatch.setattr(executing, "_DUMP_S", 2.0)
    plan = fakes.plan(
        *(model for model, _, _ in causes),
        "good",
        world=2,
        replicates=1,
        iterations=2,
        case_limit_s=8.0,
    )
    here = str(Path(fakes.__file__).parent)
    writer = store.RunWriter.create(tmp_path, plan, {}, "test")
    executor = SubprocessExecutor(writer.path / "logs", paths=[here])
    ended = run(plan, writer, executor, lambda event: None, workloads=fakes.TARGETS)
    found = store.load(writer.path)
    assert [one.status for one in found.results] == [
        OK,
        OK,
        *(status for _, status, _ in causes),
        OK,
    ]
    for one, (model, _, detail) in zip(found.results[2:], causes, strict=False):
        assert detail in one.detail, model
    assert ended.exit_code == 3
    good = found.results[-1]
    assert good.samples("forward_s") == good.samples("forward_s_rank1") == (1.0, 1.0)
    assert good.samples("error_rank1")[1] not in (good.samples("error")[1], 0.0)
    logs = "".join(log.read_text(errors="replace") for log in (found.path / "logs").glob("*.log"))
    assert causes is not CAUSES or "_deadlock" in logs
    assert not list((found.path / "logs").glob("*.ranks"))
    assert not [
        p
        for p in psutil.process_iter(["cmdline", "environ"])
        if "swbench.ranks.rank" in (p.info["cmdline"] or [])
        and here in (p.info["environ"] or {}).get("PYTHONPATH", "")
    ]
