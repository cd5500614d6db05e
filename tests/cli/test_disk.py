"""A disk that is full, read-only, removed or slow: the error comes at once, measured results are
stored or printed, and no file is incomplete under its final name.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_bench

from swbench import store, suite
from swbench.store import checked_jsonl

RUN_FILES = {
    "run.json",
    "suite.toml",
    "environment.json",
    "rounds.jsonl",
    "cells.jsonl",
    "lock",
    "logs",
    "exports",
}


@pytest.fixture
def mounted(workdir):
    """`mounted(options)` -> `results` as a small file system of its own. Only root may mount."""
    made = []

    def mount(options):
        folder = workdir / "results"
        folder.mkdir(exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        made.append(folder)
        return folder

    if os.geteuid() or not Path("/bin/mount").exists():
        pytest.skip("only root can mount a small file system")
    yield mount
    for folder in made:
        subprocess.run(["umount", "-l", folder], check=True)


def files_are_complete(path):
    """Every file that a run folder has under a final name is whole."""
    assert {entry.name for entry in path.iterdir()} <= RUN_FILES
    for name in ("run.json", "environment.json"):
        json.loads((path / name).read_text())
    for name in ("rounds.jsonl", "cells.jsonl"):
        assert not checked_jsonl.scan(path / name).torn_bytes
    return True


def test_full_disk_keeps_the_sealed_cells(workdir, mounted, start, bench):
    folder = mounted("size=256k")
    ended = start("run", "tiny.toml", act="2 3:fill")
    out, err = ended.communicate(timeout=60)
    assert (ended.returncode, out) == (2, "")
    assert "Traceback" not in err
    assert "No space left on device; free some space" in err.splitlines()[-1]
    (path,) = (path for path in folder.iterdir() if path.is_dir())
    assert files_are_complete(path)
    stored_results = store.load(path).results
    assert f"{len(stored_results)} finished cells and " in err
    assert len(stored_results) >= 3
    (folder / "filler").unlink()
    assert bench("run", "tiny.toml", "--resume")[0] == 0
    stored = store.load(path)
    assert stored.complete
    assert stored.results[: len(stored_results)] == stored_results
    assert (
        len({(result.case, result.replicate) for result in stored.results})
        == len(stored.results)
        == 6
    )


@pytest.mark.parametrize("free", [0, 4, 8, 16])
def test_disk_too_small_for_a_run_is_left_empty(workdir, mounted, bench, free):
    folder = mounted("size=64k")
    with open(folder / "filler", "wb", buffering=0) as filler:
        filler.write(b"x" * 1024 * (64 - free))
    code, out, err = bench("run", "tiny.toml")
    assert (code, out) == (2, "")
    assert "No space left on device; free some space" in err
    assert [path.name for path in folder.iterdir()] == ["filler"]


def test_read_only_folder_is_refused_before_anything_runs(workdir, mounted, bench):
    mounted("ro")
    code, out, err = bench("run", "tiny.toml")
    assert (code, out) == (2, "")
    assert "it is mounted read-only; choose another folder with --results" in err
    assert not (workdir / "workers").exists()


@pytest.mark.skipif(
    os.geteuid() == 0, reason="root may write anywhere; the read-only mount stands for it"
)
def test_folder_without_permission_is_refused_before_anything_runs(workdir, bench):
    (workdir / "results").mkdir(mode=0o500)
    code, out, err = bench("run", "tiny.toml")
    assert (code, out) == (2, "")
    assert "it may not be written by this user; choose another folder with --results" in err


@pytest.mark.parametrize("results", ["tiny.toml", "tiny.toml/below", "/proc/nothing"])
def test_results_path_that_is_no_folder_is_refused(bench, results):
    code, out, err = bench("run", "tiny.toml", "--results", results)
    assert (code, out) == (2, "")
    assert "--results" in err


@pytest.mark.parametrize("act", ["2 3:remove", "2 finish:remove", "2 build:remove"])
def test_folder_removed_during_the_run_is_reported_and_its_cells_printed(workdir, start, act):
    ended = start("run", "tiny.toml", "--format", "csv", act=act)
    out, err = ended.communicate(timeout=60)
    assert ended.returncode == 2
    assert "Traceback" not in err
    assert "The run folder is gone, and with it" in err
    assert "the results folder is gone; this is what was measured" in err
    rows = out.splitlines()
    assert [row.split(",")[1] for row in rows[1:]] == ["bn", "bn", "swa"] or len(rows) >= 3
    assert not (workdir / "results").exists(), "a folder that was removed is not made again"


@pytest.mark.parametrize("arguments", [["show", "latest"], ["list"]])
def test_a_full_disk_behind_stdout_is_one_line(workdir, arguments):
    plan = suite.expand(suite.load("tiny.toml"))
    store.RunWriter.create("results", plan, {}, "").close()
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, tiny_bench.__file__, *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        (
            "bench.py: the system refused: No space left on device; free space or "
            "give permission there, then try again"
        )
    ]


def test_closed_reader_of_stdout_exits_with_0(workdir):
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, tiny_bench.__file__, "list"],
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write_end)
    assert (done.returncode, done.stderr) == (0, "")


CLOSED = [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"]


def ends(redirection, *arguments):
    """What the command line answers in a process of its own, with its streams redirected by the
    shell.
    """
    program = [
        "sh",
        "-c",
        f'exec "$@" {redirection}',
        "sh",
        sys.executable,
        tiny_bench.__file__,
        *arguments,
    ]
    # with it nothing is left to be written at the end
    held = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        program, capture_output=True, text=True, check=False, timeout=60, env=held
    )
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize(
    ("arguments", "code"), [("list", 0), ("show nothing", 2), ("run tiny.toml --resume", 0)]
)
@pytest.mark.parametrize("redirection", [*CLOSED, "2>/dev/full"])
def test_a_stream_that_is_closed_or_full_does_not_change_the_exit_code(
    workdir, arguments, code, redirection
):
    with store.RunWriter.create("results", suite.expand(suite.load("tiny.toml")), {}, "") as writer:
        writer.finish()
    done = ends(redirection, *arguments.split())
    assert done.returncode == code
    assert (done.stdout != "") == (code == 0 and ">&-" not in redirection.split())


@pytest.mark.parametrize("redirection", CLOSED)
def test_closed_stream_gets_no_file_of_a_run(workdir, redirection):
    assert ends(redirection, "run", "tiny.toml").returncode == 0
    (path,) = (path for path in Path("results").iterdir() if path.is_dir())
    assert files_are_complete(path)
    assert store.load(path).complete
