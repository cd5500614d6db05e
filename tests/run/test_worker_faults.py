"""Every fault of a worker: the case gets a status with its cause, the others their samples."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import fakes
import psutil
import pytest

from swbench import store
from swbench.errors import StoreError
from swbench.result import CRASHED, OK, OUT_OF_MEMORY, TIMED_OUT, UNSUPPORTED
from swbench.run import Interrupted, SubprocessExecutor, run
from swbench.run import executor as executor_module
from swbench.worker import exit_reason

HERE = str(Path(fakes.__file__).parent)


def measure(tmp_path, plan, on_event=lambda event: None):
    """Run a plan in real processes and read it back."""
    writer = store.RunWriter.create(tmp_path, plan, {}, "test")
    status = run(
        plan,
        writer,
        SubprocessExecutor(writer.path / "logs", paths=[HERE]),
        on_event,
        workloads=fakes.TARGETS,
    )
    return status, store.load(writer.path)


def log_of(stored, result) -> str:
    (log,) = (stored.path / "logs").glob(f"*{result.attempt}.log")
    return log.read_text(errors="replace")


def test_a_run_without_faults_measures_every_cell(tmp_path):
    plan = fakes.plan("good", groups=2)
    status, stored = measure(tmp_path, plan)
    assert (status.exit_code, stored.complete) == (0, True)
    assert len(stored.results) == 2 * 2 * 3
    assert {result.status for result in stored.results} == {OK}
    assert [len(result.samples("forward_s")) for result in stored.results] == [2] * 12
    assert stored.results[0].chosen == {"solver": "fake", "threads": "1"}
    assert len({result.samples("error")[1] for result in stored.results}) == 4, (
        "a fresh process for every group and replicate"
    )
    assert [(result.group, result.replicate) for result in stored.results[::3]] == [
        ("cpu batch 1", 0),
        ("cpu batch 2", 0),
        ("cpu batch 1", 1),
        ("cpu batch 2", 1),
    ]
    assert {
        frozenset(round_.samples) for round_ in stored.rounds if round_.group == "cpu batch 1"
    } == {frozenset(case.key for case in plan.groups[0].cases)}
    assert not list((stored.path / "logs").iterdir())
    assert "steal_s" in stored.rounds[0].disturbance or "wall_s" in stored.rounds[0].disturbance


SURVIVED = [
    ("build:unsupported", UNSUPPORTED, "no such thing here"),
    ("build:memory", OUT_OF_MEMORY, "no memory left"),
    ("build:full_torch", OUT_OF_MEMORY, "allocate"),
    ("4:raise", CRASHED, "ZeroDivisionError: on purpose second line (while timing)"),
    ("1:leave", CRASHED, "SystemExit: 5 (while warming up)"),
    ("finish:raise", CRASHED, "(while finishing)"),
]
"""Acts of a case that leave its worker running."""

CAUSES = [
    ("3:full", OUT_OF_MEMORY, "no memory left"),
    ("3:vanish", CRASHED, "exit status 5 while timing"),
    ("build:segfault", CRASHED, "killed by SIGSEGV while building"),
    ("2:segfault", CRASHED, "killed by SIGSEGV while warming up"),
    ("3:killed", CRASHED, "killed by SIGKILL while timing"),
    ("finish:killed", CRASHED, "killed by SIGKILL while finishing"),
    ("3:orphan", CRASHED, "killed by SIGKILL while timing"),
    ("3:garbage", CRASHED, "no message"),
    ("3:lie", CRASHED, "a case that is not in the job"),
    ("3:flood", CRASHED, "an invalid message"),
    ("3:close", CRASHED, "closed its pipe while timing"),
]


def test_survivable_failure_is_a_status_and_the_others_go_on_in_the_worker(tmp_path):
    ended, stored = measure(
        tmp_path,
        fakes.plan(*(model for model, _, _ in SURVIVED), "good", replicates=1, iterations=2),
    )
    assert [result.status for result in stored.results] == [
        OK,
        OK,
        *(status for _, status, _ in SURVIVED),
        OK,
    ]
    for result, (_, _, detail) in zip(stored.results[2:], SURVIVED, strict=False):
        assert detail in result.detail
    assert ended.exit_code == 3
    assert len({result.attempt for result in stored.results if result.status != OUT_OF_MEMORY}) == 1
    assert [
        len(result.samples("forward_s")) for result in stored.results if result.status == OK
    ] == [2, 2, 2]


def test_unsupported_case_does_not_fail_the_run(tmp_path):
    ended, stored = measure(tmp_path, fakes.plan("build:unsupported", replicates=1, iterations=1))
    assert (stored.results[2].status, ended.exit_code) == (UNSUPPORTED, 0)


@pytest.mark.parametrize(("model", "status", "detail"), CAUSES)
def test_fault_is_a_status_with_its_cause_and_the_others_run(
    tmp_path, model, status, detail, monkeypatch
):
    monkeypatch.setattr(executor_module, "_EXIT_S", 0.5)
    ended, stored = measure(tmp_path, fakes.plan(model, "good", replicates=1, iterations=2))
    assert [result.status for result in stored.results] == [OK, OK, status, OK]
    assert detail in stored.results[2].detail
    assert ended.exit_code == 3
    assert [
        len(result.samples("forward_s")) for result in stored.results if result.status == OK
    ] == [2, 2, 2]
    assert stored.complete
    assert not psutil.Process().children(recursive=True)


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM])
def test_workers_run_and_end_without_pidfd(tmp_path, error, monkeypatch):
    def refused(pid):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "pidfd_open", refused)
    monkeypatch.setattr(executor_module, "_EXIT_S", 0.5)
    models = ("3:orphan", "3:close", "good")
    ended, stored = measure(tmp_path, fakes.plan(*models, replicates=1, iterations=2))
    assert [result.status for result in stored.results] == [OK, OK, CRASHED, CRASHED, OK]
    assert "killed by SIGKILL while timing" in stored.results[2].detail
    assert "closed its pipe while timing" in stored.results[3].detail
    assert ended.exit_code == 3
    assert not psutil.Process().children(recursive=True)


@pytest.mark.parametrize("model", ["3:deadlock", "1:stopped"])
def test_a_deadlock_ends_at_the_limit_with_its_stack(tmp_path, model, monkeypatch):
    monkeypatch.setattr(executor_module, "_DUMP_S", 1.0)
    _, stored = measure(tmp_path, fakes.plan(model, replicates=1, iterations=2, case_limit_s=1.5))
    assert [result.status for result in stored.results] == [OK, OK, TIMED_OUT]
    assert "over the limit of 1.5 s while" in stored.results[2].detail
    if "deadlock" in model:
        assert "_deadlock" in log_of(stored, stored.results[2])
    assert not psutil.Process().children(recursive=True)


def test_library_that_prints_writes_to_the_log(tmp_path):
    status, stored = measure(tmp_path, fakes.plan("3:print", replicates=1, iterations=2))
    assert {result.status for result in stored.results} == {OK}
    assert status.exit_code == 0
    assert sorted(log_of(stored, stored.results[0]).split("\n")) == [
        "",
        "and a warning",
        "hello from a library",
    ]


def test_segfault_writes_its_stack_to_the_log(tmp_path):
    _, stored = measure(tmp_path, fakes.plan("3:segfault", replicates=1, iterations=2))
    assert (
        f"logs/{next((stored.path / 'logs').glob(f'*{stored.results[2].attempt}.log')).name}"
        in stored.results[2].detail
    )
    assert "_segfault" in log_of(stored, stored.results[2])


def test_a_worker_that_cannot_start_fails_every_cell_once(tmp_path):
    plan = fakes.plan("good", replicates=1, iterations=1)
    writer = store.RunWriter.create(tmp_path, plan, {}, "test")
    status = run(
        plan,
        writer,
        SubprocessExecutor(writer.path / "logs"),
        workloads={"network": "no_such_module:Thing"},
    )
    assert status.failed == 3
    assert "ModuleNotFoundError: No module named 'no_such_module'" in writer.results[0].detail


def test_oom_kill_is_distinguished_from_other_kills(tmp_path, monkeypatch):
    # together, then without the control, then the control alone with the baseline
    counts = iter([5, 6, 6, 7, 7])
    monkeypatch.setattr(exit_reason, "oom_kills", lambda: next(counts))
    _, stored = measure(
        tmp_path, fakes.plan("3:killed", replicates=1, iterations=1, warmup_calls=2)
    )
    assert stored.results[2].status == OUT_OF_MEMORY
    assert "killed by the kernel" in stored.results[2].detail


@pytest.fixture
def small_group(monkeypatch):
    """A control group of 64 MiB, below the one that SWBENCH_CGROUP names."""
    above = os.environ.get("SWBENCH_CGROUP")
    if not above:
        pytest.skip(
            "SWBENCH_CGROUP names no control group (version 2) with memory limits "
            "below which one may be made"
        )
    folder = Path(above) / "swbench-test"
    folder.mkdir()
    (folder / "memory.max").write_text(str(64 * 2**20))
    if (folder / "memory.swap.max").exists():
        (folder / "memory.swap.max").write_text("0")
    monkeypatch.setenv("SWBENCH_CGROUP_TEST", str(folder))
    yield folder
    folder.rmdir()


def test_real_oom_kill_is_out_of_memory(tmp_path, small_group):
    _, stored = measure(tmp_path, fakes.plan("3:hog", replicates=1, iterations=1, warmup_calls=2))
    assert [result.status for result in stored.results] == [OK, OK, OUT_OF_MEMORY]
    assert "killed by the kernel" in stored.results[2].detail


def test_removed_run_folder_is_not_created_again_for_logs(tmp_path):
    plan = fakes.plan("good", replicates=1, iterations=1)
    writer = store.RunWriter.create(tmp_path / "runs", plan, {}, "test")
    shutil.rmtree(tmp_path / "runs")
    with pytest.raises(
        StoreError, match=r"cannot write .*\.log: No such file or directory; it is not there"
    ):
        run(
            plan,
            writer,
            SubprocessExecutor(writer.path / "logs", paths=[HERE]),
            workloads=fakes.TARGETS,
        )
    assert not (tmp_path / "runs").exists()


def test_ctrl_c_leaves_what_was_sealed_readable_and_resumable(tmp_path):
    plan = fakes.plan("good", "3:interrupt", groups=1, replicates=2)
    writer = store.RunWriter.create(tmp_path, plan, {}, "test")
    with pytest.raises(Interrupted, match="--resume") as raised:
        run(
            plan,
            writer,
            SubprocessExecutor(writer.path / "logs", paths=[HERE]),
            workloads=fakes.TARGETS,
        )
    assert raised.value.exit_code == 130
    assert not psutil.Process().children(recursive=True)
    assert not store.load(writer.path).complete
    store.resume(writer.path).close()


SCRIPT = """
import sys
sys.path.insert(0, {here!r})
import fakes
from swbench import store
from swbench.run import SubprocessExecutor, run
plan = fakes.plan({model!r}, replicates=2)
writer = store.RunWriter.create({results!r}, plan, {{}}, "test")
executor = SubprocessExecutor(writer.path / "logs", paths=[{here!r}])
tell = lambda event: print(type(event).__name__, flush=True)
run(plan, writer, executor, tell, workloads=fakes.TARGETS)
"""


def start(tmp_path, model):
    code = textwrap.dedent(SCRIPT.format(here=HERE, model=model, results=str(tmp_path)))
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize(
    "signals", [[signal.SIGKILL], [signal.SIGTERM], [signal.SIGINT, signal.SIGINT]]
)
def test_no_worker_outlives_its_parent(tmp_path, signals):
    with start(tmp_path, "3:deadlock") as parent:
        while "WarmupDone" not in parent.stdout.readline():
            pass
        workers = psutil.Process(parent.pid).children(recursive=True)
        assert len(workers) == 1
        for number in signals:
            os.kill(parent.pid, number)
        assert parent.wait(30) != 0
    assert psutil.wait_procs(workers, timeout=30)[1] == []
    assert not store.load(store.find(tmp_path, "latest")).complete


def test_a_worker_that_kills_its_parent_dies_with_it(tmp_path):
    with start(tmp_path, "3:parent") as parent:
        worker = None
        for line in parent.stdout:
            worker = worker or ("WarmupDone" in line and psutil.Process(parent.pid).children())
        assert parent.wait(30) == -signal.SIGKILL
    assert psutil.wait_procs(worker, timeout=30)[1] == []
