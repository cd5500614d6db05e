"""Torn lines are recovered, damaged lines are named by number, and content that no run writes is
refused.
"""

import json
import os
import subprocess
import sys
import textwrap

import pytest
import runs

from swbench import store
from swbench.errors import SchemaTooNew, StoreDamaged, StoreError


@pytest.mark.parametrize("name", ["rounds.jsonl", "cells.jsonl"])
def test_a_torn_last_line_is_recovered_and_reported(written, name):
    original = (written / name).read_bytes()
    with open(written / name, "ab") as file:
        file.write(original.splitlines(keepends=True)[0][:-7])
    before = store.load(written)
    assert len(before.results) == 3
    assert len(before.rounds) == 3
    assert "torn last line" in before.warnings[0]
    assert name in before.warnings[0]
    store.resume(written).close()
    assert (written / name).read_bytes() == original
    assert store.load(written).header["resumed"][0]["recovered"] == list(before.warnings)


@pytest.mark.parametrize("cut", [1, 2])
def test_incomplete_seal_is_left_out(written, cut):
    path = written / "cells.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:cut]))
    stored = store.load(written)
    assert stored.results == stored.rounds == ()
    assert f"its {cut} cells were left out" in stored.warnings[0]
    with store.resume(written) as writer:
        assert path.read_bytes() == b""
        runs.fill(writer, writer.plan, attempt="c")
    assert [result.attempt for result in store.load(written).results] == ["c"] * 3
    assert {round_.attempt for round_ in store.load(written).rounds} == {"c"}


@pytest.mark.parametrize(
    ("name", "line"), [("rounds.jsonl", 2), ("cells.jsonl", 1), ("rounds.jsonl", 4)]
)
def test_a_damaged_line_is_named_by_number(written, name, line):
    lines = (written / name).read_bytes().splitlines(keepends=True)
    lines[line - 1] = lines[line - 1].replace(b"0", b"1", 1) if line != 4 else b"garbage\n"
    lines[line - 1] = lines[line - 1][:-10] + b"\x00" + lines[line - 1][-9:]
    (written / name).write_bytes(b"".join(lines))
    with pytest.raises(StoreDamaged, match=rf"{name} line {line} is damaged"):
        store.load(written)
    with pytest.raises(StoreDamaged, match=f"line {line}"):
        store.resume(written)
    left = store.load(written, salvage=True)
    assert f"{name} line {line}" in left.warnings[0]
    assert len(left.results) == (2 if name == "cells.jsonl" else 3)


def test_cell_sealed_twice_is_reported_as_damage(written):
    path = written / "cells.jsonl"
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(StoreDamaged, match="line 4 is damaged: it seals a cell a second time"):
        store.load(written)


def test_a_later_schema_names_the_version_to_install(written):
    header = json.loads((written / "run.json").read_text())
    (written / "run.json").write_text(
        json.dumps({**header, "schema": 4, "swbench": "3.1.0\x1b[2J"})
    )
    with pytest.raises(SchemaTooNew, match=r"Install swbench 3\.1\.02J$"):
        store.load(written)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"schema": 1}',
        '{"schema": true}',
        '{"schema": NaN}',
        "[" * 100_000,
        '{"schema": 1, "plan": {"groups": 3}}',
        "\xff",
        f'{{"schema": 1, "created": {10**400}}}',
    ],
)
def test_invalid_run_json_is_one_message(written, text):
    (written / "run.json").write_text(text, encoding="latin-1")
    with pytest.raises(StoreError):
        store.load(written)
    assert store.runs(written.parent) == () or text.startswith('{"schema": 1, "plan')


@pytest.mark.parametrize(
    "wrong",
    [
        {"iterations": 0},
        {"replicates": 0},
        {"target_ci": -1.0},
        {"target_ci": 0.0},
        {"seed": 10**30},
    ],
)
def test_invalid_protocol_is_refused(written, wrong):
    header = json.loads((written / "run.json").read_text())
    header["plan"]["protocol"] |= wrong
    (written / "run.json").write_text(json.dumps(header))
    with pytest.raises(StoreError, match=r"the plan in .*run\.json is not what was written"):
        store.load(written)


def test_links_out_of_the_folder_are_not_followed(written, tmp_path):
    (tmp_path / "other").write_bytes((written / "cells.jsonl").read_bytes())
    (written / "cells.jsonl").unlink()
    (written / "cells.jsonl").symlink_to(tmp_path / "other")
    with pytest.raises(StoreError, match="is a link"):
        store.load(written)
    with pytest.raises(StoreError):
        store.resume(written)


def test_run_truncated_anywhere_is_readable(tmp_path):
    code = textwrap.dedent(f"""
        import os, signal, sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        import runs
        from swbench import store
        plan = runs.plan(1, 50)
        writer = store.RunWriter.create({str(tmp_path)!r}, plan, {{}}, "")
        print("ready", flush=True)
        for replicate in range(10_000):
            runs.fill(writer, plan, replicate=replicate % 50 if replicate < 50 else replicate)
    """)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        child.stdout.readline()
        path = store.find(tmp_path, "latest")
        while (path / "cells.jsonl").stat().st_size < 2000:
            pass
        child.kill()
        child.wait()
    stored = store.load(path)
    assert len(stored.results) % 3 == 0
    assert len(stored.rounds) == len(stored.results)
