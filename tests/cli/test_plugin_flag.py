"""`--plugin` end to end: the user's own model, norm and solver in every process, and only by the
flag.
"""

import json
import subprocess
import sys
from pathlib import Path

import plugin_files
import pytest

from swbench import store

ROOT = Path(__file__).resolve().parents[2]


def bench(folder, *arguments):
    """In a process of its own, as a plugin stays registered for as long as its process lives."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench.py"), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A folder with the files, and one run by them."""
    folder = tmp_path_factory.mktemp("own")
    plugin_files.write(folder)
    run = [
        "run",
        "own.toml",
        "--plugin",
        "my_own_layers.py",
        "--threads",
        "1",
        "--quick",
        "--iterations",
        "2",
        "--replicates",
        "1",
    ]
    done = bench(folder, *run)
    assert done.returncode == 0, done.stderr
    return folder, run, done.stdout


def test_own_model_norm_and_solver_are_measured(measured):
    folder, _, out = measured
    assert "tiny-grouped" in out
    assert "solver wide" in out
    # the paper's rule does not know it; the run goes on with a note
    assert "not counted: silu" in " ".join(out.split())
    run = store.load(store.find(folder / "results", "latest"))
    assert run.complete
    assert {result.status for result in run.results} == {"ok"}
    plain = next(case for case in run.plan.groups[0].cases if case.norm == "grouped")
    assert plain.solver is None


def test_run_stores_the_plugins_hash_without_its_path(measured):
    folder, _, _ = measured
    header = json.loads((store.find(folder / "results", "latest") / "run.json").read_text())
    assert len(header["code"]["plugin my_own_layers.py"]) == 12
    assert header["options"]["plugins"] == ["my_own_layers.py"]
    assert str(folder) not in json.dumps(header)


def test_show_executes_no_plugin(measured, tmp_path):
    folder, _, out = measured
    (folder / "my_own_layers.py").rename(tmp_path / "gone.py")
    try:
        done = bench(folder, "show", "latest")
    finally:
        (tmp_path / "gone.py").rename(folder / "my_own_layers.py")
    assert done.returncode == 0
    assert done.stdout == out


def unfinished(folder):
    run = store.find(folder / "results", "latest") / "run.json"
    before = run.read_text()
    header = json.loads(before)
    header["complete"] = False
    run.write_text(json.dumps(header))
    return run, before


def test_resume_needs_the_plugin_flag(measured):
    folder, run, _ = measured
    file, before = unfinished(folder)
    try:
        done = bench(
            folder,
            *[word for word in run if word not in ("--plugin", "my_own_layers.py")],
            "--resume",
        )
    finally:
        file.write_text(before)
    assert done.returncode == 2
    assert "was begun with --plugin my_own_layers.py; give the flag again" in done.stderr
    assert done.stderr.count("\n") == 1


def test_resume_refuses_an_edited_plugin(measured):
    folder, run, _ = measured
    file, before = unfinished(folder)
    plugin = folder / "my_own_layers.py"
    text = plugin.read_text()
    plugin.write_text(text + "# edited\n")
    try:
        done = bench(folder, *run, "--resume")
    finally:
        plugin.write_text(text)
        file.write_text(before)
    assert done.returncode == 2
    assert "plugin my_own_layers.py changed" in done.stderr


def test_plugin_names_without_the_flag_are_refused(measured):
    folder, _, _ = measured
    done = bench(folder, "check", "own.toml")
    assert done.returncode == 2
    assert "'tiny' is not known" in done.stderr
    assert bench(folder, "check", "own.toml", "--plugin", "my_own_layers.py").returncode == 0


def test_a_results_folder_cannot_execute_code(measured, tmp_path):
    """Whatever its run.json says of plugins: paths in it are never opened."""
    folder, _, _ = measured
    trap = tmp_path / "trap.py"
    trap.write_text("open('sprung', 'w')\ndef register(): pass\n")
    file, before = unfinished(folder)
    header = json.loads(file.read_text())
    header["options"]["plugins"] = [str(trap)]
    header["plan"]["plugins"] = header["plugins"] = [{"path": str(trap), "digest": ""}]
    file.write_text(json.dumps(header))
    try:
        for words in (["show", "latest"], ["list", "runs"], ["run", "own.toml", "--resume"]):
            bench(folder, *words)
    finally:
        file.write_text(before)
    assert not (folder / "sprung").exists()
