"""The command line on tiny suites whose workloads take no time: `bench` in this process, `start` in
one of its own; `invoke` in an empty folder.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from swbench.cli.app import start as run_command
from swbench.machine import environment
from swbench.probes import WORKLOADS

HERE = Path(__file__).parent
sys.path[:0] = [
    str(HERE),
    str(HERE.parent),
    str(HERE.parent / "support"),
    str(HERE.parent / "report"),
]

import stored_on_disk  # noqa: E402  beside this file
import tiny_bench  # noqa: E402

SUITE = """
schema = 1
title = "Tiny"
kind = "network"
metrics = ["time"]
[network]
model = "resnet20"
image = [[32, 32]]
[protocol]
iterations = 4
replicates = 2
warmup_calls = 1
warmup_s = 0
warmup_cap_s = 0
[[rows]]
norm = "bn"
[[rows]]
norm = "swa"
layers = LAYERS
"""


@pytest.fixture
def workdir(tmp_path, monkeypatch):
    """A folder with `tiny.toml`, as the working directory; workers of commands run here find the
    fake workloads.
    """
    from swbench.models import PLACEMENTS

    layers = next(iter(PLACEMENTS["resnet20"]))
    (tmp_path / "tiny.toml").write_text(SUITE.replace("LAYERS", str(layers)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join(map(str, (HERE, HERE.parent / "support", HERE.parents[1])))
    )
    monkeypatch.setenv("TINY_COUNT", str(tmp_path / "workers"))
    monkeypatch.setitem(WORKLOADS._table, "network", tiny_bench.TARGET)
    monkeypatch.setattr(environment, "record", tiny_bench.record)
    return tmp_path


@pytest.fixture
def bench(workdir, capfd):
    """`bench("run", …)` -> exit code, stdout, stderr. Whatever ends in a traceback fails the
    test.
    """

    def command(*arguments):
        code = run_command([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return command


@pytest.fixture
def start(workdir):
    """`start("run", …, act="2 3:interrupt")` -> a process of its own, its output in pipes."""
    started = []

    def command(*arguments, act=""):
        program = [sys.executable, str(HERE / "tiny_bench.py"), *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(
            subprocess.Popen(
                program, env={**os.environ, "TINY_ACT": act}, start_new_session=True, **pipes
            )
        )
        return started[-1]

    yield command
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def invoke(capfd, tmp_path, monkeypatch):
    """`invoke("show", "latest")` -> code, out and err of the real command, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    capfd.readouterr()

    def command(*arguments):
        code = run_command(arguments)
        return stored_on_disk.CommandResult(code, *capfd.readouterr())

    return command


@pytest.fixture
def results(tmp_path):
    """A quiet run of Table 1, and one with every status that never ended; the second is the
    latest.
    """
    from stored_runs import every_status, table1

    for run in (table1(), every_status()):
        stored_on_disk.store(tmp_path / "results", run)
    return tmp_path / "results"
