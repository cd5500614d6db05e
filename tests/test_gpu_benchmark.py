"""Every step of the GPU benchmark is a command that the command line takes, says what it writes,
and is over in time.
"""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from swbench.cli.app import start


def script(name):
    spec = importlib.util.spec_from_file_location(
        f"{name}_benchmark", Path(__file__).parent.parent / "benchmarks" / f"{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


gpu = script("gpu")


@pytest.mark.parametrize(
    "name", [name for name, (_, arguments) in gpu.STEPS.items() if arguments and name != "selftest"]
)
def test_a_step_plans_something_for_a_gpu(name, capsys):
    assert start([*gpu.STEPS[name][1], "--device", "cuda", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "cuda" in said
    assert "cpu" not in said


def test_hot_and_cold_graph_and_eager_are_planned_for_a_gpu_alone(capsys):
    start([*gpu.STEPS["solvers"][1], "--device", "cpu,cuda", "--dry-run"])
    groups = [
        line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  c")
    ]
    assert sum(line.startswith("cuda") for line in groups) == 2 * 4
    assert sum("graph cold" in line for line in groups) == 2
    assert [
        line for line in groups if line.startswith("cpu") and ("graph" in line or "cold" in line)
    ] == []


@pytest.fixture
def steps(tmp_path, monkeypatch, capsys):
    """`steps("--steps", …)` -> exit code and what was printed, with results below `tmp_path`."""

    def steps(*arguments):
        monkeypatch.setattr(sys, "argv", ["gpu.py", "--results", str(tmp_path / "out"), *arguments])
        return gpu.main(), capsys.readouterr().out

    return steps


def test_a_dry_run_prints_each_command_and_what_it_would_write_and_writes_nothing(steps, tmp_path):
    code, out = steps("--dry-run")
    assert code == 0
    lines = out.splitlines()
    assert [line.partition(":")[0] for line in lines[::3]] == [f"== {name}" for name in gpu.STEPS]
    assert all(" --device cuda" in line for line in lines[1::3])
    assert all(
        line.startswith(f"   writes {tmp_path / 'out' / name}.txt")
        for line, name in zip(lines[2::3], gpu.STEPS, strict=True)
    )
    assert f"{tmp_path / 'out' / 'runs'}/<time>_cityscapes_<machine>" in lines[5]
    assert not list(tmp_path.iterdir())


def test_the_order_is_that_of_worth_and_the_clock_is_checked_once():
    assert list(gpu.STEPS)[:5] == ["table1", "table2", "paper-2019", "scaling", "selftest"]
    commands = [" ".join(gpu.command(name, OPTIONS)) for name in gpu.STEPS]
    assert sum("selftest" in one or "clock" in one for one in commands) == 1
    assert commands[4].endswith("bench.py selftest --device cuda"), (
        "the checks on a CPU take minutes of the device's time"
    )
    for script in [word for one in commands for word in one.split() if word.endswith(".py")]:
        assert Path(script).exists()


OPTIONS = type(
    "Options", (), {"results": Path("/somewhere"), "device": "cuda", "allow_busy": False}
)


def test_table_2_goes_down_from_the_papers_batch(capsys):
    start([*gpu.STEPS["table2"][1], "--device", "cuda", "--dry-run"])
    groups = [
        line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  cuda")
    ]
    assert [group.split()[2] for group in groups] == ["16", "8", "4", "2", "1"]
    assert ["only if" in group for group in groups] == [False, True, True, True, True]


BENCH = """
import json, os, pathlib, sys, threading
if "measures" in sys.argv:
    run = pathlib.Path(sys.argv[-1], "2_new")
    run.mkdir()
    (run / "run.json").touch()
if "show" in sys.argv and "2_new" in sys.argv and (pathlib.Path(sys.argv[-1]) / "slow").exists():
    threading.Event().wait()
print(json.dumps(sys.argv[1:]), flush=True)
if "dies" in sys.argv:
    os.kill(os.getpid(), 9)
if "show" not in sys.argv:
    sys.exit(3) if "fails" in sys.argv else threading.Event().wait()
"""


@pytest.fixture
def step(tmp_path):
    """`step("imagenet", …)` -> exit code and the lines that were printed, of a step like that which
    is stopped if it is not over in a second.
    """
    (tmp_path / "bench.py").write_text(BENCH)
    text = tmp_path / "step.txt"

    def step(*words, limit_s=1.0):
        return gpu.step(
            [sys.executable, str(tmp_path / "bench.py"), *words], text, limit_s
        ), text.read_text().splitlines()

    return step


@pytest.fixture
def runs(tmp_path):
    """A folder with the run of an earlier step."""
    (tmp_path / "runs" / "1_old").mkdir(parents=True)
    (tmp_path / "runs" / "1_old" / "run.json").touch()
    return tmp_path / "runs"


def test_a_step_that_takes_too_long_is_stopped_and_its_run_is_shown(step, runs):
    code, (first, stopped, show) = step("measures", "--results", str(runs))
    assert code == gpu.STOPPED
    assert json.loads(first) == ["measures", "--results", str(runs)]
    assert stopped == "stopped after 1 s"
    assert json.loads(show) == ["show", "2_new", "--results", str(runs)]
    assert gpu.LIMIT_S + gpu.GRACE_S <= 190


def test_the_run_of_an_earlier_step_is_not_shown_as_that_of_one_that_has_none(step, runs):
    code, lines = step("imagenet", "--results", str(runs))
    assert (code, lines[1:]) == (gpu.STOPPED, ["stopped after 1 s"])


def test_a_table_that_does_not_come_is_not_waited_for(step, runs, monkeypatch):
    monkeypatch.setattr(gpu, "SHOW_S", 1.0)
    (runs / "slow").touch()
    code, lines = step("measures", "--results", str(runs))
    assert code == gpu.STOPPED
    assert lines[-1].startswith("no table within 1 s; python ")
    assert lines[-1].endswith(f"show 2_new --results {runs} prints it")


def test_the_code_of_a_step_that_ended_by_itself_is_its_own(step):
    assert step("fails", limit_s=0)[0] == 3
    assert step("dies", limit_s=0)[0] == 128 + 9, "a death by a signal is no success"


def test_the_worst_step_gives_the_exit_code(steps, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "_no_device", lambda device, allow_busy: 0)
    codes = {"table1": 0, "table2": 3, "scaling": gpu.STOPPED}

    def step(words, text, limit_s):
        text.write_text("a table\n")
        return codes[text.stem]

    monkeypatch.setattr(gpu, "step", step)
    code, out = steps("--steps", "table1,table2")
    assert code == 3
    assert [line.split()[:3] for line in out.splitlines()[-2:]] == [
        ["table1", "exit", "0"],
        ["table2", "exit", "3"],
    ]
    code, out = steps("--steps", "scaling")
    assert code == gpu.STOPPED
    assert "stopped" in out.splitlines()[-1]


@pytest.fixture
def shared(monkeypatch):
    """A GPU that another program uses."""
    from swbench.run import devices

    one = {"name": "H100", "uuid": "1-2", "bytes": 1 << 36}
    monkeypatch.setattr(devices, "PAUSE_S", 0.0)
    monkeypatch.setattr(
        devices, "torch_devices", lambda: {"torch": "2.11.0", "cuda": "13.0", "devices": [one]}
    )
    monkeypatch.setattr(devices.gpus, "usage", lambda: [{"uuid": "GPU-1-2", "processes": (4,)}])


def test_a_shared_gpu_is_refused_unless_allowed_and_then_by_every_step(steps, shared, capsys):
    assert gpu._no_device("cuda", True) == 0
    assert capsys.readouterr().err == ""
    assert gpu._no_device("cuda", False) == 2
    assert capsys.readouterr().err.endswith("or measure beside it with --allow-busy\n")
    commands = [
        line
        for line in steps("--dry-run", "--allow-busy")[1].splitlines()
        if line.startswith("   python")
    ]
    assert len(commands) == len(gpu.STEPS)
    assert all(" --allow-busy" in line for line in commands)


def test_the_layer_alone_refuses_a_shared_gpu_too_and_says_beside_whom_it_measures(
    shared, monkeypatch, capsys
):
    layer = script("whitening_gpu")
    monkeypatch.setattr(layer, "gpu_for", lambda device: None)
    said = []
    for arguments in ([], ["--allow-busy"]):
        monkeypatch.setattr(sys, "argv", ["whitening_gpu.py", *arguments])
        assert layer.main() == 2
        said.append(capsys.readouterr().err.splitlines())
    assert said[0] == [
        (
            "whitening_gpu.py: --device cuda: 1 other process (pid 4) on the H100; "
            "wait for the end of it, or measure beside it with --allow-busy"
        )
    ]
    assert said[1] == [
        (
            "whitening_gpu.py: --device cuda: 1 other process (pid 4) on the H100; measured beside "
            "it, as --allow-busy says"
        ),
        "whitening_gpu.py: torch sees no such device here",
    ]


def test_make_hands_its_arguments_on():
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    words = ["make", "--no-print-directory", "--dry-run", "gpu", "ARGS=--allow-busy --steps table1"]
    done = subprocess.run(
        words,
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines()[-1].endswith("benchmarks/gpu.py --allow-busy --steps table1"), (
        done.stdout
    )


def test_without_a_gpu_it_is_one_line(steps, monkeypatch, tmp_path):
    from swbench.run import devices

    monkeypatch.setattr(
        devices, "torch_devices", lambda: {"torch": "2.11.0+cpu", "cuda": None, "devices": []}
    )
    assert steps() == (2, "")
    assert not list(tmp_path.iterdir())
