"""The acceptance scripts, which show that two runs agree and that equal networks show no
difference: their commands, verdicts and files.
"""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from swbench.case import BASELINE, CONTROL, Case
from swbench.cli.app import start
from swbench.plan import Group, Plan, Protocol
from swbench.result import Result, Round
from swbench.store import RunWriter

SCRIPTS = Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(SCRIPTS))
import aa  # noqa: E402
import agreement  # noqa: E402
import observed  # noqa: E402

BN, CONTROL, SWA = (
    Case(model="m", role=BASELINE),
    Case(model="m", role=CONTROL),
    Case(model="m", norm="swa", layers=7, solver="eigh"),
)
GROUP = Group(name="g", cases=(BN, CONTROL, SWA), rows=("BN", "BN (control)", "SW"))
PLAN = Plan(
    suite="s",
    title="S",
    kind="network",
    groups=(GROUP,),
    metrics=("time",),
    protocol=Protocol(iterations=4, replicates=2),
)
ENVIRONMENT = {
    "label": "tiny",
    "processor": {"model": "Tiny"},
    "cores": {"physical_allowed": 2},
    "system": {"kernel": "Linux"},
    "python": {"version": "3.11"},
    "packages": {"torch": "2.13"},
    "code": {"version": "0"},
}


def stored(folder, slower=1.5, status="ok", complete=True):
    """A run with `slower` between variant and baseline and rounds of 0.9 s of each second, of which
    the variant ended with `status` the second time.
    """
    with RunWriter.create(folder, PLAN, ENVIRONMENT, "bench.py run s") as writer:
        for replicate in range(2):
            for index in range(2):
                samples = {
                    case.key: {"forward_s": 0.1 * factor, "forward_backward_s": 0.2 * factor}
                    for case, factor in ((BN, 1.0), (CONTROL, 1.0), (SWA, slower))
                }
                began = 100.0 * replicate + index
                writer.add_round(
                    Round(
                        group="g",
                        replicate=replicate,
                        attempt="a",
                        index=index,
                        order=(BN.key, CONTROL.key, SWA.key),
                        samples=samples,
                        started=began,
                    )
                )
            ends = [status if (case, replicate) == (SWA, 1) else "ok" for case in GROUP.cases]
            record = {
                "group": "g",
                "replicate": replicate,
                "attempt": "a",
                "ended": 100.0 * replicate + 2,
            }
            writer.seal(
                [
                    Result(case=case.key, status=end, **record)
                    for case, end in zip(GROUP.cases, ends, strict=True)
                ]
            )
        if complete:
            writer.finish()


@pytest.fixture
def measures(monkeypatch):
    """`observed.bench` starts a program that does nothing; the test stores the run itself."""
    monkeypatch.setattr(observed, "COMMAND", (sys.executable, "-c", "pass"))


def test_acceptance_commands_are_valid_command_lines(monkeypatch, tmp_path, capsys):
    for script in (agreement, aa):
        taken = []
        monkeypatch.setattr(
            script,
            "bench",
            lambda arguments, *_, taken=taken: taken.append(arguments) or sys.exit(7),
        )
        monkeypatch.setattr(sys, "argv", ["script", "--no-load", "--results", str(tmp_path)])
        with pytest.raises(SystemExit):
            script.main()
        assert start(["run", *taken[0], "--dry-run"]) == 0
        assert "ResNet50-BN (control)" in capsys.readouterr().out


def test_a_complete_run_is_not_measured_again(tmp_path, measures, monkeypatch):
    stored(tmp_path)
    first = observed.bench(["s"], tmp_path)
    monkeypatch.setattr(observed, "COMMAND", (sys.executable, "-c", "raise SystemExit(9)"))
    assert observed.bench(["s"], tmp_path)[1] == first[1]
    with pytest.raises(SystemExit, match="2"):
        observed.bench(["other"], tmp_path)
    with pytest.raises(SystemExit, match="9"):
        observed.bench(["s"], tmp_path / "new")


@pytest.mark.parametrize("status", ["out_of_memory", "crashed", "timed_out"])
def test_run_with_a_failed_cell_has_a_report(tmp_path, monkeypatch, capsys, status):
    monkeypatch.setattr(observed, "COMMAND", (sys.executable, "-c", "raise SystemExit(3)"))
    stored(tmp_path, status=status)
    run, account = observed.bench(["s"], tmp_path)
    assert account.failed == 1
    assert capsys.readouterr().err == f"{run.id}: 1 of 6 cells failed; the others count\n"
    assert observed.bench(["s"], tmp_path)[1] == account
    assert agreement.faults([], [replace(account, timed_share=0.95)]) == [
        "no cell was measured",
        "run 1: 1 cell failed",
    ]


def test_run_that_ended_early_has_no_report(tmp_path, monkeypatch):
    monkeypatch.setattr(observed, "COMMAND", (sys.executable, "-c", "raise SystemExit(3)"))
    stored(tmp_path, complete=False)
    with pytest.raises(SystemExit, match="3"):
        observed.bench(["s"], tmp_path)
    assert not (tmp_path / "account.json").exists()


@pytest.mark.parametrize("runs", ["0", "-2"])
def test_acceptance_without_runs_is_one_line(tmp_path, monkeypatch, capsys, runs):
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "aa.py",
            "--no-load",
            "--runs",
            runs,
            "--results",
            str(tmp_path / "aa"),
            "--out",
            str(tmp_path / "out.json"),
        ],
    )
    assert aa.main() == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == (
        "",
        f"aa.py: --runs {runs} measures nothing; give 1 or more\n",
    )
    assert not list(tmp_path.iterdir())


def test_timed_share_is_measured_and_judged(tmp_path, measures):
    stored(tmp_path, slower=2.0)
    run, account = observed.bench(["s"], tmp_path)
    assert account.timed_share == pytest.approx(0.8)
    assert account.reason == "all replicates done"
    lines = agreement.compare(observed.ratios(run), observed.ratios(run), 0.02)
    assert [(line["row"], line["agree"]) for line in lines] == [
        (row, True) for row in ("BN (control)", "SW") for _ in range(2)
    ]
    assert agreement.faults(lines, [account]) == ["run 1: less than 90% of its time was timed"]
    good = replace(account, timed_share=0.95, parent_cores=0.001)
    assert agreement.faults(lines, [good]) == []
    assert "parent" in agreement.faults(lines, [replace(good, parent_cores=0.02)])[0]
    assert agreement.faults([], [good]) == ["no cell was measured"]


def test_cells_that_differ_or_are_in_one_run_only_do_not_agree(tmp_path, measures):
    first_folder, second_folder = tmp_path / "1", tmp_path / "2"
    stored(first_folder)
    stored(second_folder, slower=1.54)
    first, second = (
        observed.ratios(observed.bench(["s"], folder)[0])
        for folder in (first_folder, second_folder)
    )
    agrees = {line["row"]: line["agree"] for line in agreement.compare(first, second, 0.02)}
    assert agrees == {"BN (control)": True, "SW": False}
    assert agreement.compare(first, second, 0.03)[-1]["agree"]
    del second["g", "SW", "forward_s"]
    missing = agreement.compare(first, second, 0.5)
    assert [line["agree"] for line in missing].count(False) == 1
    assert agreement.faults(missing, []) == ["SW forward_s: the runs do not agree"]


def test_both_scripts_write_the_evidence_of_the_claim(tmp_path, measures, monkeypatch, capsys):
    for number in (1, 2):
        stored(tmp_path / f"run-{number}", slower=1.9)
    for script, more in ((agreement, []), (aa, ["--runs", "2"])):
        for number in (1, 2):
            (tmp_path / f"run-{number}" / "account.json").unlink(missing_ok=True)
        out = tmp_path / f"{script.__name__}.json"
        monkeypatch.setattr(
            sys,
            "argv",
            ["script", "--no-load", "--results", str(tmp_path), "--out", str(out), *more],
        )
        # rounds of 0.78 s in each second are too little
        assert script.main() == (1 if script is agreement else 0)
        text = out.read_text()
        assert '"log_ratios"' in text
        assert str(tmp_path) not in text
    assert "forward_s: 2 of 2 intervals hold 1" in capsys.readouterr().out


def test_an_interval_that_misses_one_or_is_unknown_is_not_counted():
    assert aa.holds({"low": 0.99, "high": 1.01})
    assert not aa.holds({"low": 1.01, "high": 1.02})
    assert not aa.holds({"low": None, "high": None})
    assert aa.counts(
        [
            {"metric": "a", "holds": True},
            {"metric": "a", "holds": False},
            {"metric": "b", "holds": True},
        ]
    ) == {"a": 1, "b": 1}


def test_parent_cpu_time_counts_only_within_spans():
    # busy before and after, a hundredth of a core in between
    looks = [(0.0, 0.0), (10.0, 2.0), (20.0, 2.1), (30.0, 5.0)]
    assert observed.share_within(looks, [(10.0, 20.0)]) == pytest.approx(0.01)
    assert observed.share_within(looks, [(12.0, 17.0), (5.0, 10.0)]) == pytest.approx(
        (0.05 + 1.0) / 10
    )
    assert observed.share_within(looks, []) is None


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends it, on Linux")
def test_load_ends_with_the_script_when_that_is_killed(tmp_path):
    program = (
        "import sys, time; from neighbour import competing\nif __name__ == '__main__':\n with "
        "competing(True) as pid: print(pid, flush=True); sys.stdin.read()"
    )
    script = tmp_path / "loaded.py"
    script.write_text(program)
    environ = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environ,
    ) as started:
        load = psutil.Process(int(started.stdout.readline()))
        started.send_signal(signal.SIGKILL)
        gone, _ = psutil.wait_procs([load], timeout=30)
    assert gone
