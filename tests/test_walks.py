"""The number of files that a reader enters to follow a call through the project.

What is traced is a real call. A walk lists the files in the order in which their functions are
entered; functions that are entered one after the other in one file are one stay. Going back to a
function that has not ended, to read on below the call it made, is no return. A return is a file
that is entered once more, from another file, after all of its functions had ended. Forward and
backward are two walks, for autograd starts the second: their files count together, once each, and
their returns are added up. Functions whose result is kept (`functools.cache`) are entered only when
it is not; methods that the interpreter generates (of dataclasses, say) belong to no file.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import swbench
from swbench import SwitchWhiten2d
from swbench.native import library

PACKAGE = str(Path(swbench.__file__).parent)
FILES, RETURNS = 9, 3


def walk(call: Callable[[], object]) -> tuple[list[str], int]:
    """The files of the project that `call` enters, in order, and the returns to one of them."""
    files: list[str] = []
    open_frames: dict[str, int] = {}
    last, returns = "", 0

    def profile(frame, event: str, _argument: object) -> None:
        nonlocal last, returns
        file = frame.f_code.co_filename
        if event not in ("call", "return") or not file.startswith(PACKAGE):
            return
        if frame.f_code.co_name == "<module>":
            return
        if event == "return":
            open_frames[file] -= 1
            return
        if file not in open_frames:
            files.append(file.removeprefix(PACKAGE + "/"))
        elif file != last and not open_frames[file]:
            returns += 1
        open_frames[file] = open_frames.get(file, 0) + 1
        last = file

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return files, returns


def forward_and_backward(layer: torch.nn.Module) -> tuple[list[str], int]:
    """The walk of x to its gradient."""
    x = torch.randn(2, 64, 8, 8, requires_grad=True)
    made = []
    files, returns = walk(lambda: made.append(layer(x)))
    dy = torch.ones_like(made[0])
    more, others = walk(lambda: made[0].backward(dy))
    return list(dict.fromkeys(files + more)), returns + others


def test_walk_counts_returns_to_a_file(tmp_path):
    namespace: dict[str, Callable] = {}
    for name, text in {
        "a": "def start():\n    b(); b(); c(); b(); helper()\ndef helper(): pass",
        "b": "def b(): pass",
        "c": "def c(): pass",
    }.items():
        exec(compile(text, f"{PACKAGE}/{name}.py", "exec"), namespace)
    assert walk(namespace["start"]) == (["a.py", "b.py", "c.py"], 1)


@pytest.mark.parametrize("kernels", ["native", "torch"])
def test_walk_from_x_to_its_gradient_enters_few_files(kernels):
    if library.missing() is not None:
        pytest.skip(library.missing())
    layer = SwitchWhiten2d(64, kernels=kernels)
    forward_and_backward(layer)  # the first call also finds out what the layer runs on
    files, returns = forward_and_backward(layer)
    assert len(files) <= FILES, files
    assert returns <= RETURNS, files
    assert files[0] == "norms/layers.py"
