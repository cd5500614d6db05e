"""After `import swbench` alone everything public answers, and nothing heavy is imported for it."""

import subprocess
import sys
from pathlib import Path

import public_surface
import pytest
import torch

import swbench

ROOT = Path(swbench.__file__).parents[1]


def in_a_new_process(program, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_alone_gives_all_names_and_not_torch():
    names = in_a_new_process(
        "import sys, swbench\n"
        "print(*dir(swbench))\n"
        "print(*swbench.models.names(), *swbench.norms.names(), *swbench.solvers.names())\n"
        "print(*swbench.flops.names())\n"
        "assert 'torch' not in sys.modules"
    ).split()
    assert {*swbench.__all__, "resnet50", "swa", "polar", "paper"} <= set(names)


def test_each_public_name_answers_first():
    """Each in a process of its own, forked where torch is there already, as loading it takes
    seconds.
    """
    names = [name for name in swbench.__all__ if name != "__version__"]
    program = """
import os, sys, torch
for name in sys.argv[1:]:
    if not (child := os.fork()):
        import swbench
        answer = getattr(swbench, name)
        os._exit(answer is None)
    _, status = os.waitpid(child, 0)
    print(name, status)
"""
    printed = in_a_new_process(program, *names).splitlines()
    assert printed == [f"{name} 0" for name in names]


def test_the_names_of_the_type_checker_are_those_that_answer():
    assert set(swbench.__all__) <= set(dir(swbench))
    assert {*swbench._PACKAGES, *swbench._EXPORTS, "__version__"} == set(swbench.__all__)
    assert (ROOT / "swbench" / "py.typed").is_file()
    with pytest.raises(AttributeError, match="no attribute 'modles'"):
        swbench.modles  # noqa: B018


def test_the_program_that_the_type_checker_reads_runs(tmp_path):
    assert {tuple(y.shape) for y in public_surface.layers(torch.randn(2, 16, 4, 4))} == {
        (2, 16, 4, 4)
    }
    assert public_surface.counting(public_surface.networks()) > 1e6
    assert public_surface.solving(torch.eye(4) * 4).allclose(torch.eye(4) / 2)
    with pytest.raises(swbench.errors.StoreError):
        public_surface.runs(tmp_path)
