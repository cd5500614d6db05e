"""`--resume` on the command line: sealed cells stay, only missing ones are measured, and changes
are named.
"""

import re
import signal

import psutil
import pytest

from swbench import store, suite
from swbench.run import replicate
from swbench.store import fingerprint


def run(folder):
    """The one run in `results`."""
    (summary,) = store.runs(folder / "results")
    return store.load(summary.path)


def cells(stored):
    return sorted((result.case, result.replicate) for result in stored.results)


@pytest.fixture
def expected_cells(workdir):
    """The cells of the plan, each of which an undisturbed run measures once a replicate."""
    plan = suite.expand(suite.load(workdir / "tiny.toml"))
    return sorted(
        (case.key, number)
        for group in plan.groups
        for case in group.cases
        for number in range(plan.protocol.replicates)
    )


@pytest.mark.parametrize(
    ("act", "code", "by"),
    [
        ("2 2:interrupt", 130, "interrupted:"),
        ("2 2:twice", 130, "interrupted:"),
        ("2 2:terminate", 143, "by SIGTERM"),
        ("2 2:hangup", 129, "by SIGHUP"),
    ],
)
def test_signal_shuts_a_run_down_and_resume_completes_it(
    workdir, start, bench, expected_cells, act, code, by
):
    ended = start("run", "tiny.toml", act=act)
    out, err = ended.communicate(timeout=60)
    assert (ended.returncode, out) == (code, "")
    assert "Traceback" not in err
    assert by in err.splitlines()[-1]
    assert "3 finished cells are kept" in err
    assert "--resume" in err
    assert not [
        process
        for process in psutil.process_iter(["environ"])
        if str(workdir / "workers") in str(process.info["environ"])
    ]
    before = run(workdir)
    assert not before.complete

    code, out, err = bench("run", "tiny.toml", "--resume")
    assert code == 0
    assert "going on with" in err
    after = run(workdir)
    assert after.complete
    assert cells(after) == expected_cells
    assert after.results[: len(before.results)] == before.results
    assert len((workdir / "workers").read_bytes()) == 3, (
        "two workers, then one for the replicate that was missing"
    )

    second_code, table, err = bench("run", "tiny.toml", "--resume")
    assert (second_code, table) == (0, out)
    assert "is complete" in err
    assert len((workdir / "workers").read_bytes()) == 3


def test_a_run_whose_parent_was_killed_resumes(workdir, start, bench, expected_cells):
    ended = start("run", "tiny.toml", act="2 3:kill_parent")
    ended.communicate(timeout=60)
    assert ended.returncode == -signal.SIGKILL
    code, _, err = bench("run", "tiny.toml")
    assert code == 0
    assert re.search(r"an unfinished run of tiny .*--resume", err)
    store.find("results", "latest").rename("elsewhere")
    assert bench("run", "tiny.toml", "--resume")[0] == 0
    assert cells(run(workdir)) == expected_cells


def test_resume_without_a_run_starts_one(workdir, bench, expected_cells):
    assert bench("run", "tiny.toml", "--resume")[0] == 0
    assert cells(run(workdir)) == expected_cells


@pytest.fixture
def unfinished(workdir, start):
    """A run with one of two replicates."""
    start("run", "tiny.toml", act="2 2:interrupt").communicate(timeout=60)
    return workdir


def test_other_options_are_another_run(unfinished, bench):
    assert bench("run", "tiny.toml", "--resume", "--replicates", 1)[0] == 0
    assert len(store.runs("results")) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("suite", "protocol.iterations was 4 and is 6"),
        ("code", "swbench/solvers/eigh.py changed"),
        ("torch", "torch: 2.13 / 2.14"),
        ("variables", "MALLOC_ARENA_MAX: not set / 1"),
    ],
)
def test_a_change_is_refused_by_name_and_recorded_with_anyway(
    unfinished, bench, monkeypatch, change, message
):
    if change == "suite":
        text = (unfinished / "tiny.toml").read_text()
        (unfinished / "tiny.toml").write_text(text.replace("iterations = 4", "iterations = 6"))
    elif change == "code":
        now = {**fingerprint.code(), "solvers/eigh.py": "other"}
        monkeypatch.setattr(fingerprint, "code", lambda: now)
    elif change == "torch":
        monkeypatch.setenv("TINY_TORCH", "2.14")
    else:
        monkeypatch.setenv("TINY_VARIABLES", "MALLOC_ARENA_MAX=1 OMP_NUM_THREADS=9")
    before = (run(unfinished).path / "run.json").read_bytes()
    code, out, err = bench("run", "tiny.toml", "--resume")
    assert (code, out) == (2, "")
    assert message in err
    assert "OMP_NUM_THREADS" not in err
    assert "--anyway" in err
    assert (run(unfinished).path / "run.json").read_bytes() == before

    code, _, err = bench("run", "tiny.toml", "--resume", "--anyway")
    assert code == 0
    assert message in err, "the record is told with every table"
    assert run(unfinished).header["resumed"][0]["changes"] == [message]


@pytest.mark.parametrize(
    ("line", "now", "message"),
    [
        ("iterations = 4", "iterations = 6", "protocol.iterations was 4 and is 6"),
        ("replicates = 2", "replicates = 4", "protocol.replicates was 2 and is 4"),
        ("image = [[32, 32]]", "image = [[32, 32]]\nbatch = [1, 64]", "the suite has 3 new cases"),
    ],
)
def test_resumed_run_keeps_its_own_plan(expected_cells, unfinished, bench, line, now, message):
    text = (unfinished / "tiny.toml").read_text()
    assert text.count(line) == 1
    (unfinished / "tiny.toml").write_text(text.replace(line, now))
    plan = run(unfinished).plan
    code, _, err = bench("run", "tiny.toml", "--resume", "--anyway")
    assert code == 0
    assert message in err
    after = run(unfinished)
    assert (after.complete, after.plan) == (True, plan)
    assert cells(after) == expected_cells
    assert {len(result.samples("forward_s")) for result in after.results} == {2}, (
        "four rounds over two replicates"
    )


def test_equal_environment_keeps_its_id_on_resume(unfinished, bench):
    assert bench("run", "tiny.toml", "--resume")[0] == 0
    assert len({result.environment for result in run(unfinished).results}) == 1


def test_second_writer_process_is_refused_with_the_pid_of_the_first(unfinished, bench):
    with store.resume(run(unfinished).path):
        code, _, err = bench("run", "tiny.toml", "--resume")
    assert code == 2
    assert re.search(rf"is being written by process {psutil.Process().pid};", err)


def test_ctrl_c_before_a_worker_runs_exits_with_130(workdir, bench, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(replicate.Replicate, "run", interrupted)
    code, _, err = bench("run", "tiny.toml")
    assert code == 130
    assert "0 finished cells are kept" in err


def test_resume_with_other_options_names_the_unfinished_run_and_starts_a_new_one(
    workdir, start, bench
):
    ended = start("run", "tiny.toml", "--threads", "1", act="2 2:interrupt")
    ended.communicate(timeout=60)
    before = run(workdir)
    code, _, err = bench("run", "tiny.toml", "--resume")
    assert code == 0
    assert (
        f"with other options is in results/{before.id}; this starts a new one; "
        f"`{before.command} --resume` would go on with it"
    ) in err
    assert not store.load(before.path).complete
    assert len(store.runs(workdir / "results")) == 2


def test_resume_without_an_unfinished_run_prints_no_note(workdir, bench):
    code, _, err = bench("run", "tiny.toml", "--resume")
    assert code == 0
    assert "unfinished" not in err
