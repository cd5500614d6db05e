"""On a GPU a case that runs out of memory costs the others only a new worker."""

import dataclasses
from pathlib import Path
from typing import ClassVar

import fakes
import pytest
from fake_executor import FakeExecutor
from fakes import TARGETS, Tiny, plan

from swbench.result import CRASHED, OK, OUT_OF_MEMORY, Measurement
from swbench.run import run
from swbench.run.executor import SubprocessExecutor
from swbench.store import RunWriter
from swbench.worker.session import cause

HERE = str(Path(fakes.__file__).parent)


def on_gpu(*models, metrics=("time",), **protocol):
    made = plan(*models, **protocol)
    groups = [
        dataclasses.replace(
            group,
            cases=tuple(
                dataclasses.replace(case, device="cuda", threads=0) for case in group.cases
            ),
        )
        for group in made.groups
    ]
    return dataclasses.replace(made, groups=tuple(groups), metrics=metrics)


class Writer:
    def __init__(self, tmp_path, made):
        self.writer = RunWriter.create(tmp_path, made, {"label": "box"}, "test")

    def __enter__(self):
        return self.writer

    def __exit__(self, *_):
        self.writer.close()


def measured(tmp_path, made, executor):
    with Writer(tmp_path, made) as writer:
        run(made, writer, executor, workloads=TARGETS)
        return {(result.case, result.replicate): result for result in writer.results}, list(
            writer.rounds
        )


@pytest.mark.parametrize("stage", ["build", "1", "4", "finish"])
def test_out_of_memory_restarts_the_others_in_a_fresh_worker(tmp_path, stage):
    made = on_gpu(f"{stage}:memory", "good")
    executor = FakeExecutor(Tiny)
    results, rounds = measured(tmp_path, made, executor)
    assert [len(job.cases) for job in executor.jobs][:2] == [4, 3]
    for replicate in range(2):
        in_order = [results[case.key, replicate] for case in made.groups[0].cases]
        assert [item.status for item in in_order] == [OK, OK, OUT_OF_MEMORY, OK]
        assert in_order[0].attempts == in_order[1].attempts == in_order[3].attempts
        assert in_order[2].attempt not in in_order[0].attempts, (
            "what it left behind bears on no other case"
        )
        attempt_rounds = [round_ for round_ in rounds if round_.attempt == in_order[3].attempt]
        assert [sorted(item.samples) for item in attempt_rounds] == [
            sorted(made.groups[0].cases[case].key for case in (0, 1, 3))
        ] * 2


def test_out_of_memory_on_a_cpu_keeps_the_worker(tmp_path):
    executor = FakeExecutor(Tiny)
    made = plan("build:memory", "good", replicates=1)
    results, _ = measured(tmp_path, made, executor)
    assert [results[case.key, 0].status for case in made.groups[0].cases] == [
        OK,
        OK,
        OUT_OF_MEMORY,
        OK,
    ]
    assert results[made.groups[0].cases[3].key, 0].attempt == executor.jobs[0].attempt, (
        "the first one, in which memory ran out"
    )


def test_real_worker_restarts_and_is_distinguished_from_a_killed_one(tmp_path):
    made = on_gpu("2:memory", "3:killed", "good", replicates=1)
    executor = SubprocessExecutor(tmp_path / "logs", paths=[HERE])
    results, _ = measured(tmp_path, made, executor)
    in_order = [results[case.key, 0] for case in made.groups[0].cases]
    assert [item.status for item in in_order] == [OK, OK, OUT_OF_MEMORY, CRASHED, OK]
    assert "SIGKILL" in in_order[3].detail


class Observing(Tiny):
    """Keeps what it was asked to observe, and when warm-up ended."""

    seen: ClassVar[list] = []

    def warmed(self):
        self.seen.append("warmed")

    def observe(self, metrics):
        self.seen.append(metrics)
        return [Measurement("gpu_utilisation", "1", (0.5,))]

    def finish(self):
        self.seen.append("finish")
        return []


def test_slow_metrics_are_observed_once_a_run_before_finish(tmp_path, monkeypatch):
    monkeypatch.setattr(Observing, "seen", [])
    made = on_gpu(metrics=("time", "utilisation"))
    results, _ = measured(tmp_path, made, FakeExecutor(Observing))
    assert (
        Observing.seen
        == ["warmed"] * 2
        + [("utilisation",)] * 2
        + ["finish"] * 2
        + ["warmed"] * 2
        + ["finish"] * 2
    )
    assert [
        len(results[made.groups[0].baseline.key, replicate].measurements) for replicate in range(2)
    ] == [1, 0]


def test_memory_is_measured_once_a_run_if_its_metric_is_requested(tmp_path):
    def observed_metrics(*metrics):
        executor = FakeExecutor(Tiny)
        measured(tmp_path, on_gpu(metrics=metrics), executor)
        return [job.observe for job in executor.jobs]

    assert observed_metrics("time", "memory") == [("memory",), ()]
    assert observed_metrics("time") == [(), ()]


def test_metrics_that_are_not_requested_are_not_observed(tmp_path, monkeypatch):
    monkeypatch.setattr(Observing, "seen", [])
    measured(tmp_path, on_gpu(), FakeExecutor(Observing))
    assert not [item for item in Observing.seen if isinstance(item, tuple)]


@pytest.mark.parametrize(
    "text", ["cuDNN error: CUDNN_STATUS_ALLOC_FAILED", "CUDA error: out of memory"]
)
def test_memory_errors_of_cuda_libraries_are_out_of_memory(text):
    assert cause(RuntimeError(text))[0] == OUT_OF_MEMORY
