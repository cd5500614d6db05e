"""`list` and the help answer at once, without importing torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import swbench
from swbench import norms, solvers, suite
from swbench.cli.app import COMMANDS
from swbench.cli.listing import KINDS
from swbench.suite.schema import METRICS

ROOT = Path(__file__).resolve().parents[2]
QUERY = """
import sys
from swbench.cli.app import start
code = start({arguments!r})
heavy = [name for name in ("torch", "pandas", "matplotlib", "scipy") if name in sys.modules]
sys.exit(f"imported {{heavy}}" if heavy else code)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["list"],
        ["run", "--help"],
        ["run", "imagenet", "--dry-run", "--threads", "1"],
    ],
)
def test_list_and_help_import_no_torch(arguments, tmp_path):
    program = QUERY.format(arguments=arguments)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_commands_defer_imports_in_one_place():
    """`lazy.py` is that place. `main` guards its own first imports against Ctrl-C."""
    folder = ROOT / "swbench" / "cli"
    for path in sorted({*folder.glob("*.py")} - {folder / "__init__.py", folder / "predict.py"}):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                late = [
                    node
                    for node in ast.walk(function)
                    if isinstance(node, ast.Import | ast.ImportFrom)
                ]
                assert not late, f"{path.name}:{late[0].lineno} imports inside a function"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(invoke, command):
    result = invoke(command, "--help")
    assert result.code == 0
    assert result.out.startswith(f"Usage: bench.py {command}")
    # the overview, which imports no command, begins as the command's own help does
    assert " ".join(result.out.split()).startswith(
        " ".join((result.out.splitlines()[0] + " " + COMMANDS[command][1]).split())
    )


def test_list_names_everything(invoke, results):
    result = invoke("list")
    assert result.code == 0
    for kind in KINDS:
        assert f"{kind}:\n" in result.out
    for name in (*suite.names(), *norms.names(), *solvers.names(), *METRICS):
        assert f"  {name}" in result.out


def test_list_probes_describes_every_metric(invoke):
    lines = invoke("list", "probes").out.splitlines()
    assert [line.split()[0] for line in lines] == list(METRICS)
    assert all(len(line.split()) > 4 for line in lines)


def test_runs_are_listed_with_date_suite_and_state(invoke, results):
    first, second = invoke("list", "runs").out.splitlines()
    assert first.split()[0] == sorted(path.name for path in results.iterdir())[0]
    assert first.endswith("imagenet  complete")
    assert second.endswith("imagenet  unfinished")


def test_control_characters_of_a_listed_run_are_escaped(invoke, results):
    run = sorted(results.iterdir())[0] / "run.json"
    run.write_text(
        run.read_text()
        .replace('"suite": "imagenet"', '"suite": "\\u001b[2Jowned"')
        .replace('"created": ', '"created": 1e300, "was": ')
    )
    result = invoke("list", "runs")
    assert result.code == 0
    assert "\x1b" not in result.out
    assert "at no date" in result.out


def test_list_runs_of_an_empty_folder_hints_how_to_make_one(invoke):
    result = invoke("list", "runs", "--results", "nowhere")
    assert (result.code, result.out) == (0, "")
    assert result.err == (
        "bench.py: there is no run in nowhere yet; `python bench.py imagenet` makes one\n"
    )
    assert invoke("list", "suites").err == ""


def test_help_without_a_command_equals_help_option(invoke):
    result = invoke()
    assert (result.code, result.out) == (2, "")
    assert result.err == invoke("--help").out


def test_windows_is_refused_in_one_line(monkeypatch, capsys):
    from swbench import cli

    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr() == (
        "",
        "swbench: it needs Linux; on Windows install and run it inside WSL\n",
    )


def test_version_names_torch_and_the_kernels(invoke, monkeypatch):
    assert invoke("--version").out.startswith(f"swbench {swbench.__version__}, torch ")
    monkeypatch.setenv("SWBENCH_NATIVE", "off")
    assert "no native kernels (" in invoke("--version").out


def test_results_folder_comes_from_the_environment_variable(invoke, results, monkeypatch):
    monkeypatch.setenv("SWBENCH_RESULTS", str(results.rename(results.with_name("elsewhere"))))
    assert len(invoke("list", "runs").out.splitlines()) == 2
    assert invoke("list", "runs", "--results", "nowhere").out == ""
    assert "env var: SWBENCH_RESULTS" in invoke("show", "--help").out


def test_file_in_place_of_results_is_refused(invoke, tmp_path):
    (tmp_path / "results").touch()
    result = "results is a file, not a folder of runs; choose another with --results"
    for words in (["list", "runs"], ["show", "latest"]):
        assert invoke(*words)[:3] == (2, "", f"bench.py: {result}\n")
    assert invoke("run", "imagenet", "--metrics", "flops").code == 2


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="nobody may write there, root neither")
def test_unwritable_current_directory_is_refused(invoke, monkeypatch):
    monkeypatch.chdir("/sys/kernel")
    result = invoke("run", "imagenet", "--metrics", "flops")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("bench.py: cannot write results to results: ")
    assert result.err.endswith("; choose another folder with --results\n")
    assert len(result.err.splitlines()) == 1


def test_run_without_home_and_user(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "swbench", "list"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
