"""A tab completes commands, options, suites, solvers and runs, in real shells, without torch."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from swbench import solvers
from swbench.cli.completion import SHELLS, VARIABLE

ROOT = Path(__file__).parents[2]


@pytest.fixture
def environ(tmp_path):
    """An environment where `swbench` is a command, and a torch that cannot be imported."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "swbench"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m swbench "$@"\n')
    command.chmod(0o755)
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')\n")
    return {
        **os.environ,
        "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
    }


@pytest.fixture
def tab(environ, tmp_path):
    """`tab("swbench", "im")` -> the words that bash is offered for the last one."""

    def offered(*words, **more):
        done = subprocess.run(
            ["swbench"],
            env={
                **environ,
                **more,
                VARIABLE: "bash_complete",
                "COMP_WORDS": " ".join(words),
                "COMP_CWORD": str(len(words) - 1),
            },
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return [line.partition(",")[2] for line in done.stdout.splitlines()]

    return offered


def test_first_word_completes_to_commands_and_suites(tab):
    assert tab("swbench", "c") == ["check", "compare", "completion", "cifar", "cityscapes"]
    assert "--version" in tab("swbench", "--v")


def test_options_of_a_suite_without_run_complete(tab):
    assert tab("swbench", "imagenet", "--qui") == ["--quick"]
    assert tab("swbench", "no-such-suite", "--qui") == ["--quick"]


def test_solvers_complete_one_by_one_in_a_list(tab):
    assert tab("swbench", "run", "imagenet", "--solver", "eigh,polar") == [
        f"eigh,{name}" for name in solvers.names() if name.startswith("polar")
    ]
    assert tab("swbench", "run", "imagenet", "--dtype", "float32,bf") == ["float32,bfloat16"]


def test_runs_complete_from_the_given_results_folder(tab, results):
    ids = sorted(path.name for path in results.iterdir())
    assert sorted(tab("swbench", "show", "2")) == ids
    assert tab("swbench", "compare", "latest", "p") == ["paper"]
    (elsewhere := results.with_name("elsewhere")).mkdir()
    shutil.move(results / ids[0], elsewhere)
    assert tab("swbench", "show", "--results", "elsewhere", "2") == ids[:1]
    assert tab("swbench", "show", "2", SWBENCH_RESULTS="elsewhere") == ids[:1]


def test_bash_completes_a_command(environ, tmp_path):
    typed = """
    eval "$(swbench completion bash)"
    for word in imag --solver; do
        COMP_WORDS=(swbench $before $word); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
        _swbench_completion swbench
        echo "${COMPREPLY[@]}"; before=${COMPREPLY[0]}
    done
    complete -p swbench
    """
    bash = [shutil.which("bash"), "--norc", "-c", typed]
    done = subprocess.run(
        bash, env=environ, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    *filled, registered = done.stdout.splitlines()
    assert (filled, done.stderr) == (["imagenet", "--solver"], "")
    assert registered.endswith("_swbench_completion swbench")


def test_fish_completes_lists(environ, tmp_path):
    if not (fish := shutil.which("fish")):
        pytest.skip("fish is not installed")
    typed = "swbench completion fish | source; complete -C 'swbench imagenet --solver eigh,polar-n'"
    done = subprocess.run(
        [fish, "--no-config", "-c", typed],
        env=environ | {"HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["eigh,polar-native"]


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_has_a_completion_script(invoke, shell):
    result = invoke("completion", shell)
    assert (result.code, result.err) == (0, "")
    assert VARIABLE in result.out
    assert "%(" not in result.out
    assert 'string split ","' not in result.out, "it cuts a list at its first comma"
