"""The way of a suite's name to its table, in the process that prints it (docs/architecture.md).

A real command is traced. Two numbers are told of it:

- *entered*: every file of the package with a function that was called, the smallest helper
  included. What runs while a module is imported, class bodies and defaults, is left out.
- *the way*: the files that control passes through from one stage to the next, which are those with
  a frame on the stack when a stage does its work. A file that is asked something and answers, such
  as a checker, a formatter or a type of value, is beside the way.

A file that waits on the stack for what it called was not left: that control comes back to it is how
calls work, and is told as *back*. A *return* is a call into a file that was on the way before and
had been left.
"""

import itertools
import os
import sys
from pathlib import Path

import pytest

import swbench
from swbench.report.exporters.terminal import Terminal
from swbench.report.table_network import network_table
from swbench.run import counting
from swbench.store import RunWriter, load
from swbench.suite import expansion, source
from swbench.worker.process import WorkerProcess

PACKAGE = os.path.dirname(swbench.__file__) + os.sep

STAGES = {
    "load: a suite's text is read": source.parse,
    "plan: it becomes cases": expansion.expand,
    "open: its run gets a folder": RunWriter.create.__func__,
    "count: its operations are counted": counting.count,
    "run: a worker starts": WorkerProcess.__init__,
    "run: a round is stored": RunWriter.add_round,
    "run: a replicate is sealed": RunWriter.seal,
    "show: the run is read back": load,
    "show: its cells become a table": network_table,
    "show: the table becomes text": Terminal.write,
}
"""Where the work of each stage is done."""

CODES = {stage.__code__: name for name, stage in STAGES.items()}
OPTIMIZED = 0x1
"""`inspect.CO_OPTIMIZED`: set for functions, not for modules and class bodies."""


class Trace:
    """Calls of functions of the package: the files they are in, and the stack at each stage."""

    def __init__(self):
        self.entered, self.stages, self._importing = {}, {}, 0

    def __call__(self, frame, event, _):
        code = frame.f_code
        if event not in ("call", "return") or not code.co_filename.startswith(PACKAGE):
            return
        if code.co_name == "<module>":
            self._importing += 1 if event == "call" else -1
        elif event == "call" and not self._importing and code.co_flags & OPTIMIZED:
            self.entered.setdefault(code.co_filename[len(PACKAGE) :])
            # sealing comes twice, for what was counted and for what was timed
            if (name := CODES.get(code)) and (name not in self.stages or "sealed" in name):
                self.stages.pop(name, None)
                self.stages[name] = files_of(frame)


def files_of(frame) -> list[str]:
    """The files of the package on the stack of `frame`, the outermost first."""
    files = []
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(PACKAGE):
            files.append(name[len(PACKAGE) :])
        frame = frame.f_back
    return files[::-1]


def way(stacks: list[list[str]]) -> tuple[list[str], int, int]:
    """The files in the order in which control is in them, from the first stack to the last, by way
    of what each has in common with the next; how often that is back in a caller that waits, and how
    often a return to a file that had been left.
    """
    steps, before, comebacks, returns = [], [], 0, 0
    for stack in stacks:
        pairs = zip(before, stack, strict=False)
        shared = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        for index in range(max(0, shared - 1), len(stack)):
            file = stack[index]
            if steps and file == steps[-1]:
                continue
            if file in stack[: max(index, shared)]:
                comebacks += 1
            elif file in steps:
                returns += 1
            steps.append(file)
        before = stack
    return steps, comebacks, returns


@pytest.fixture
def trace(bench):
    trace_ = Trace()
    sys.setprofile(trace_)
    try:
        code, out, err = bench(
            *("run", "tiny.toml", "--device", "cpu", "--metrics", "flops,time", "--batch", "1")
        )
    finally:
        sys.setprofile(None)
    assert code == 0, err
    assert "ResNet20-SW^a" in out
    return trace_


def test_way_counts_steps_and_returns():
    stacks = [["a", "b", "b", "c"], ["a", "b", "d"], ["a", "b", "d", "c"]]
    assert way(stacks) == (["a", "b", "c", "b", "d", "c"], 1, 1)


def test_walk_from_a_suite_to_its_table_enters_few_files(trace):
    assert trace.stages.keys() == STAGES.keys(), "a stage was not reached, or is somewhere else"
    steps, comebacks, returns = way(list(trace.stages.values()))
    files = list(dict.fromkeys(steps))
    summary = (
        f"{len(trace.entered)} files entered; the way: {len(files)} files, {returns} returns, "
        f"{comebacks} times back in a caller: {' → '.join(steps)}"
    )
    sys.stdout.write(f"{summary}\n")  # pytest -rP shows it
    assert len(trace.entered) <= 75, "\n".join(trace.entered)
    assert len(files) <= 20, summary
    assert returns <= 4, summary
    assert comebacks <= 12, summary


def test_architecture_names_every_file_of_the_walk(trace):
    text = (Path(PACKAGE).parent / "docs" / "architecture.md").read_text()
    for file in dict.fromkeys(way(list(trace.stages.values()))[0]):
        assert f"`{file}`" in text, f"docs/architecture.md does not mention {file}"
