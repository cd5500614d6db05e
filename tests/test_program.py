"""Hints name the command that started the program."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from swbench import program

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("started", "command", "name", "after_torchrun"),
    [
        ("bench.py", "python bench.py", "bench.py", "bench.py"),
        ("/x/swbench/bench.py", "python bench.py", "bench.py", "bench.py"),
        ("/x/bin/swbench", "swbench", "swbench", "--no-python swbench"),
        ("/x/swbench/__main__.py", "python -m swbench", "python -m swbench", "-m swbench"),
        ("/x/bin/pytest", "python bench.py", "bench.py", "bench.py"),
        ("", "python bench.py", "bench.py", "bench.py"),
    ],
)
def test_a_command_is_named_as_it_was_typed(monkeypatch, started, command, name, after_torchrun):
    monkeypatch.setattr(sys, "argv", [started])
    assert program.command() == command
    assert program.name() == name
    assert " ".join(program.after_torchrun()) == after_torchrun


def test_hint_works_where_python_code_started_the_program(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["-c"])
    assert (ROOT / program.words()[1]).is_file()
    monkeypatch.setattr(program, "__file__", str(tmp_path / "site-packages/swbench/program.py"))
    assert program.command() == "swbench"


@pytest.mark.parametrize("words", [["bench.py"], ["-m", "swbench"]])
def test_every_way_to_start_the_program_prints_the_same(tmp_path, words):
    shutil.copy(ROOT / "bench.py", tmp_path)
    done = subprocess.run(
        [sys.executable, *words, "show", "latest"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    hint = f"there is no run in results yet; `python {' '.join(words)} imagenet` makes one"
    assert done.stderr == f"{words[-1]}: {hint}\n"
