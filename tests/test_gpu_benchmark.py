"""The GPU benchmark: every step consists of valid commands, lists its outputs, and ends in time."""

import importlib.util
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from swbench import solvers
from swbench.cli.app import start

ROOT = Path(__file__).parent.parent


def script(name):
    spec = importlib.util.spec_from_file_location(
        f"{name}_benchmark", Path(__file__).parent.parent / "benchmarks" / f"{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


gpu = script("gpu")
from gpu_session import running  # noqa: E402
from gpu_session import steps as session_steps  # noqa: E402

OPTIONS = SimpleNamespace(results=Path("/somewhere"), device="cuda", allow_busy=False, suites={})


def arguments(name):
    """What a step gives `bench.py` to plan, without the place of the results; one list a run."""
    return [
        words[2:-2]
        for words in gpu.commands(name, OPTIONS)
        if words[1].endswith("bench.py") and "--results" in words
    ]


@pytest.mark.parametrize("name", [name for name in gpu.STEPS if arguments(name)])
def test_every_step_plans_cases_for_its_device(name, capsys):
    for words in arguments(name):
        assert start([*words, "--dry-run"]) == 0
        output = capsys.readouterr().out
        here, elsewhere = ("cpu", "cuda") if name == "threads" else ("cuda", "cpu")
        assert here in output
        assert elsewhere not in output


def test_graph_step_measures_the_claimed_layers(capsys):
    """What `auto` takes, of the layers the claim is about, at its three batches."""
    (words,) = arguments("graph")
    start([*words, "--dry-run"])
    output = capsys.readouterr().out
    assert {"swa", "swb"} <= set(words[words.index("--only") + 1].split(","))
    assert [f"cuda batch {batch} " in output for batch in (1, 16, 32)] == [True] * 3
    assert "[auto]" in output
    assert "graph" in output


def test_gpu_suite_has_every_gpu_solver_and_the_step_both_triton_solvers(capsys):
    with open(ROOT / "suites" / "solvers.toml", "rb") as file:
        suite = tomllib.load(file)
    listed = {spec.partition(":")[0] for spec in suite["full"]["solver"]["cuda"]}
    on_a_cpu_alone = {"polar-native", "eigh-threads"}
    assert listed == set(solvers.names()) - on_a_cpu_alone
    for device, excluded in (("cuda", on_a_cpu_alone), ("cpu", {"polar-triton", "jacobi-triton"})):
        assert not excluded & set(suite["solvers"]["solver"][device])
    (words,) = arguments("solvers")
    assert {"polar-triton", "jacobi-triton"} <= set(words[words.index("--solver") + 1].split(","))


def test_caches_and_modes_are_planned_only_for_a_gpu(capsys):
    (words,) = arguments("solvers")
    start([*words[:-2], "--device", "cpu,cuda", "--dry-run"])
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


def test_dry_run_prints_commands_and_outputs_and_writes_nothing(steps, tmp_path):
    code, out = steps("--dry-run")
    assert code == 0
    lines = out.splitlines()
    headings = [line for line in lines if line.startswith("== ")]
    assert [line.partition(":")[0] for line in headings] == [f"== {name}" for name in gpu.STEPS]
    ends = [line for line in lines if line.startswith("   writes ")]
    assert [line.split()[1].rstrip(",") for line in ends] == [
        f"{tmp_path / 'out' / name}.txt" for name in gpu.STEPS
    ]
    runs = [line for line in lines if "bench.py" in line and "--results" in line]
    assert all(" --device " in line for line in runs)
    assert f"{tmp_path / 'out' / 'runs'}/<time>_cityscapes_<machine>" in out
    assert not list(tmp_path.iterdir())


def test_steps_come_in_order_of_worth_and_each_fits_ten_minutes():
    assert list(gpu.STEPS)[:5] == ["facts", "warm", "correct", "layer", "graph"]
    parts = [step.part for step in gpu.STEPS.values()]
    assert parts == sorted(parts)
    for part in session_steps.PARTS:
        limits_s = [step.limit_s for step in gpu.STEPS.values() if step.part == part]
        assert sum(limits_s) <= 570, "the start of the command, and the end of a step in order"
    for words in (command for name in gpu.STEPS for command in gpu.commands(name, OPTIONS)):
        assert all(Path(word).exists() for word in words[:2] if word.endswith(".py"))
        if "pytest" in words:
            assert all((ROOT / word).exists() for word in words if word.startswith("tests/"))
    (selftest,) = gpu.commands("selftest", OPTIONS)
    assert selftest[2:] == ["selftest", "--device", "cuda"], (
        "the checks on a CPU take minutes of the device's time"
    )


def test_table_2_tries_smaller_batches_than_the_papers(capsys):
    start([*arguments("table2")[0], "--dry-run"])
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
        command = [sys.executable, str(tmp_path / "bench.py"), *words]
        return running.step([command], text, limit_s), text.read_text().splitlines()

    return step


@pytest.fixture
def runs(tmp_path):
    """A folder with the run of an earlier step."""
    (tmp_path / "runs" / "1_old").mkdir(parents=True)
    (tmp_path / "runs" / "1_old" / "run.json").touch()
    return tmp_path / "runs"


def test_step_over_its_limit_is_stopped_and_its_run_is_shown(step, runs):
    code, (first, stopped, show) = step("measures", "--results", str(runs))
    assert code == running.STOPPED
    assert json.loads(first) == ["measures", "--results", str(runs)]
    assert stopped == "stopped after 1 s"
    assert json.loads(show) == ["show", "2_new", "--results", str(runs)]


def test_step_without_a_run_shows_no_earlier_run(step, runs):
    code, lines = step("imagenet", "--results", str(runs))
    assert (code, lines[1:]) == (running.STOPPED, ["stopped after 1 s"])


def test_show_that_hangs_is_stopped(step, runs, monkeypatch):
    monkeypatch.setattr(running, "SHOW_S", 1.0)
    (runs / "slow").touch()
    code, lines = step("measures", "--results", str(runs))
    assert code == running.STOPPED
    assert lines[-1].startswith("no table within 1 s; python ")
    assert lines[-1].endswith(f"show 2_new --results {runs} prints it")


def test_step_that_ends_in_time_keeps_its_exit_code(step):
    assert step("fails", limit_s=0)[0] == 3
    assert step("dies", limit_s=0)[0] == 128 + 9, "a death by a signal is no success"


def test_exit_code_is_that_of_the_worst_step(steps, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "_no_device", lambda device, allow_busy: 0)
    codes = {"table1": 0, "table2": 3, "scaling": running.STOPPED}

    def step(commands, text, limit_s, environment):
        text.write_text("a table\n")
        return codes[text.stem]

    monkeypatch.setattr(running, "step", step)
    code, out = steps("--steps", "table1,table2")
    assert code == 3
    assert [line.split()[:3] for line in out.splitlines()[-2:]] == [
        ["table1", "exit", "0"],
        ["table2", "exit", "3"],
    ]
    code, out = steps("--steps", "scaling")
    assert code == running.STOPPED
    assert "stopped" in out.splitlines()[-1]


@pytest.fixture
def shared(monkeypatch):
    """A GPU that another program uses."""
    from swbench.run import devices

    gpu_info = {"name": "H100", "uuid": "1-2", "bytes": 1 << 36}
    monkeypatch.setattr(devices, "BUSY_PAUSE_S", 0.0)
    monkeypatch.setattr(
        devices, "torch_devices", lambda: {"torch": "2.11.0", "cuda": "13.0", "devices": [gpu_info]}
    )
    monkeypatch.setattr(devices.gpus, "usage", lambda: [{"uuid": "GPU-1-2", "processes": (4,)}])


def test_shared_gpu_is_refused_and_allow_busy_reaches_every_step(steps, shared, capsys):
    assert gpu._no_device("cuda", True) == 0
    assert capsys.readouterr().err == ""
    assert gpu._no_device("cuda", False) == 2
    assert capsys.readouterr().err.endswith("or measure beside it with --allow-busy\n")
    commands = [
        line
        for line in steps("--dry-run", "--allow-busy")[1].splitlines()
        if line.startswith("   python")
    ]
    on_it = [line for line in commands if " --device cuda" in line and "warm.py" not in line]
    assert len(on_it) == len(gpu.STEPS) - len(("facts", "warm", "correct", "threads"))
    assert all(" --allow-busy" in line for line in on_it)


def test_layer_benchmark_refuses_a_shared_gpu_or_names_the_other_process(
    shared, monkeypatch, capsys
):
    layer = script("whitening_gpu")
    monkeypatch.setattr(layer, "gpu_for", lambda device: None)
    output = []
    for arguments in ([], ["--allow-busy"]):
        monkeypatch.setattr(sys, "argv", ["whitening_gpu.py", *arguments])
        assert layer.main() == 2
        output.append(capsys.readouterr().err.splitlines())
    assert output[0] == [
        (
            "whitening_gpu.py: --device cuda: 1 other process (pid 4) on the H100; "
            "wait until it ends, or measure beside it with --allow-busy"
        )
    ]
    assert output[1] == [
        (
            "whitening_gpu.py: --device cuda: 1 other process (pid 4) on the H100; measured beside "
            "it, as --allow-busy says"
        ),
        "whitening_gpu.py: torch sees no such device here",
    ]


def test_make_passes_its_arguments_on():
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


def test_gpu_benchmark_without_a_gpu_is_one_line(steps, monkeypatch, tmp_path):
    from swbench.run import devices

    monkeypatch.setattr(
        devices, "torch_devices", lambda: {"torch": "2.11.0+cpu", "cuda": None, "devices": []}
    )
    assert steps() == (2, "")
    assert not list(tmp_path.iterdir())
