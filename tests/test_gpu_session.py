"""A rehearsal of the GPU session from end to end: stand-in programs, a fault in every step, and the
files it returns.
"""

import importlib.util
import os
import random
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from swbench.cli.app import start

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
spec = importlib.util.spec_from_file_location("gpu_script", ROOT / "benchmarks" / "gpu.py")
gpu = importlib.util.module_from_spec(spec)
spec.loader.exec_module(gpu)
from gpu_session import archive, carried, claims, running, shortened, steps  # noqa: E402

STAND_IN = """
import json, os, pathlib, signal, sys, threading
words, fault = sys.argv[1:], os.environ.get("FAULT", "")
if "show" in words:
    table = json.loads(pathlib.Path(words[3], words[1], "table").read_text())
    print(json.dumps({"tables": [table]}))
    sys.exit(0)
print(pathlib.Path(sys.argv[0]).name, *words, "5 passed", flush=True)
if fault == "dies":
    os.kill(os.getpid(), signal.SIGKILL)
if fault == "hangs":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Event().wait()
if fault == "babbles":
    sys.stdout.buffer.write(b"\\xff\\xfe{\\n" * 3)
if "--out" in words:
    text = '{"solves us": {"72": {"polar-triton": 7.5}}}'
    pathlib.Path(words[words.index("--out") + 1]).write_text(text[:9] if fault else text)
if "--results" in words and fault != "exits":
    suite = pathlib.Path(words[0]).stem
    mode = words[words.index("--mode") + 1] if "--mode" in words else "eager"
    runs = pathlib.Path(words[words.index("--results") + 1])
    run = runs / f"{sum(1 for _ in runs.glob('*')) if runs.exists() else 0}_{suite}_h100"
    run.mkdir(parents=True)
    ratio = {"value": 1.03, "low": 1.02, "high": 1.04}
    cells = {"norm": {"value": "swa"}, "gpu_batch": {"value": 1}, "gpu_mode": {"value": mode}}
    cells |= {"ratio_gpu_f": ratio, "ratio_gpu_fb": ratio}
    note = "Noise floor (the baseline against its identical twin): cuda batch 1 224x224 F 1.001 "
    note += "[0.999, 1.003]; cuda batch 1 224x224 F+B 0.999 [0.995, 1.004]. A smaller difference"
    table = {"suite": suite, "notes": [note]}
    table["sections"] = [{"rows": [{"role": "variant", "cells": cells}]}]
    (run / "table").write_text("{" if fault == "babbles" else json.dumps(table))
    (run / "run.json").touch()
sys.exit(3 if fault == "exits" else 0)
"""
FAULTS = {"exits": "exit 3", "dies": "exit 137", "hangs": "stopped", "babbles": "exit 0"}


@pytest.fixture
def session(tmp_path, monkeypatch, capsys):
    """`session("--steps", …, faults={"graph": "dies"})` -> exit code, the summary, and the names
    and texts in the archive.
    """
    root, programs = tmp_path / "root", tmp_path / "programs"
    (root / "benchmarks" / "gpu_session").mkdir(parents=True)
    programs.mkdir()
    scripts = ("bench.py", "setup.py", "pytest.py", "benchmarks/whitening_gpu.py")
    for name in (*scripts, "benchmarks/gpu_session/warm.py"):
        (root / name).write_text(STAND_IN)
    (root / "suites").symlink_to(ROOT / "suites")
    (programs / "nvidia-smi").write_text(f"#!{sys.executable}\n{STAND_IN}")
    (programs / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    for module in (steps, running, claims, shortened):
        monkeypatch.setattr(module, "ROOT", root)
    monkeypatch.setattr(running, "GRACE_S", 0.2)
    monkeypatch.setattr(gpu, "_no_device", lambda device, allow_busy: 0)
    lacking = {}
    monkeypatch.setattr(carried, "missing", lambda: lacking)

    def session(*words, faults=(), without=()):
        lacking.update(dict.fromkeys(without, "ModuleNotFoundError"))
        for name, fault in dict(faults).items():
            step = steps.STEPS[name]
            limit_s = 0.4 if fault == "hangs" else step.limit_s
            changed = step._replace(limit_s=limit_s, environment=(("FAULT", fault),))
            monkeypatch.setitem(steps.STEPS, name, changed)
        out = tmp_path / "back"
        arguments = ["--session", "--results", str(tmp_path / "gpu"), "--archive", str(out), *words]
        monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
        code = gpu.main()
        capsys.readouterr()
        assert sorted(path.name for path in out.iterdir()) == ["session.tar.xz", "summary.txt"]
        with tarfile.open(out / "session.tar.xz") as packed:
            texts = {
                member.name: packed.extractfile(member).read().decode(errors="replace")
                for member in packed.getmembers()
            }
        assert texts["summary.txt"] == (out / "summary.txt").read_text()
        return code, texts["summary.txt"], texts

    return session


def lines_of(summary, word):
    return [line for line in summary.splitlines() if line.startswith(word)]


def test_session_without_faults_proves_every_claim_and_returns_every_file(session):
    code, summary, texts = session()
    assert code == 0
    assert {f"{name}.txt" for name in gpu.STEPS} <= set(texts)
    assert "layer.json" in texts
    assert len([name for name in texts if name.endswith("run.json")]) == 14
    assert lines_of(summary, "refuted") == lines_of(summary, "not shown") == []
    assert len(lines_of(summary, "proven")) == 8
    assert "every package that the session needs is here" in summary
    assert "suites/imagenet.toml" in texts["graph.txt"]


@pytest.mark.parametrize("name", steps.STEPS)
def test_fault_in_a_step_fails_only_that_step(session, name):
    """Its neighbours run, what it printed comes back, and nothing that it was to show is taken for
    shown.
    """
    names = list(steps.STEPS)
    at = names.index(name)
    chosen = names[max(0, at - 1) : at + 2]
    fault = list(FAULTS)[at % len(FAULTS)]
    code, summary, texts = session("--steps", ",".join(chosen), faults={name: fault})
    ended = {line.split()[0]: line for line in summary.splitlines() if line.split()[:1]}
    assert FAULTS[fault] in ended[name]
    assert all("exit 0" in ended[other] for other in chosen if other != name)
    assert {f"{step}.txt" for step in chosen} <= set(texts)
    assert texts[f"{name}.txt"].strip()
    assert code == {"exits": 3, "dies": 137, "hangs": running.STOPPED, "babbles": 0}[fault]


@pytest.mark.parametrize("fault", FAULTS)
def test_claims_of_failed_steps_are_not_proven(session, fault):
    wanted = ["correct", "layer", "graph", "selftest"]
    _, summary, _ = session("--steps", ",".join(wanted), faults=dict.fromkeys(wanted, fault))
    proven = " ".join(lines_of(summary, "proven"))
    assert "BN in graph mode" not in proven
    assert "72 matrices" not in proven
    if fault != "babbles":
        assert proven == ""


def test_missing_package_skips_only_the_steps_that_need_it(session):
    code, summary, texts = session("--part", "1", without=["triton"])
    assert code == 0
    assert "triton is missing" in lines_of(summary, "correct")[0]
    assert "exit 0" in lines_of(summary, "graph")[0]
    assert "carry them: pip wheel" in summary
    assert "warm.txt" not in texts


def test_session_without_torch_does_not_start(session, tmp_path):
    with pytest.raises(FileNotFoundError):
        session(without=["torch"])
    assert not (tmp_path / "gpu").exists()


def test_copies_of_the_suites_expand_with_a_short_warm_up(tmp_path, capsys):
    copies = shortened.copies(tmp_path / "suites")
    assert {"imagenet", "cityscapes", "paper-2019", "scaling", "solvers"} == set(copies)
    for path in copies.values():
        assert Path(path).read_text().count("warmup_s = 0.3") == 1
        assert start(["run", path, "--device", "cuda", "--dry-run"]) == 0
        assert "cuda" in capsys.readouterr().out


def test_archive_is_split_into_pieces_without_the_largest_files(tmp_path, monkeypatch):
    assert (archive.MOST_PIECES + 1, archive.PIECE_BYTES <= 16 * 2**20) == (8, True)
    monkeypatch.setattr(archive, "PIECE_BYTES", 20_000)
    results, out = tmp_path / "gpu", tmp_path / "out"
    results.mkdir()
    rng = random.Random(0)
    for name, size in (("a.txt", 30_000), ("b.txt", 45_000), ("huge.bin", 200_000)):
        (results / name).write_bytes(rng.randbytes(size))
    (results / "summary.txt").write_text("so far\n")
    pieces = archive.rewrite(results, out)
    assert len(list(out.iterdir())) <= 8
    assert all(piece.stat().st_size <= 20_000 for piece in pieces)
    joined = tmp_path / "whole.tar.xz"
    joined.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    with tarfile.open(joined) as packed:
        assert set(packed.getnames()) == {"a.txt", "b.txt", "summary.txt", "left-out.txt"}
        assert packed.extractfile("left-out.txt").read() == b"huge.bin\n"
    (results / "huge.bin").unlink()
    (results / "b.txt").unlink()
    (results / "a.txt").write_text("short\n")
    assert [piece.name for piece in archive.rewrite(results, out)] == ["session.tar.xz"]
    assert sorted(path.name for path in out.iterdir()) == ["session.tar.xz", "summary.txt"]


def test_carried_wheels_are_installed_outside_the_checkout_and_imported(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    wheels = tmp_path / "wheels"
    assert carried.install(wheels, tmp_path / "there") == f"no wheels in {wheels}"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "carried_thing-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("carried_thing.py", "x = 1\n")
        about = "carried_thing-1.0.dist-info/"
        wheel.writestr(
            f"{about}METADATA", "Metadata-Version: 2.1\nName: carried-thing\nVersion: 1.0\n"
        )
        wheel.writestr(
            f"{about}WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}RECORD", "")
    assert carried.install(wheels, tmp_path / "there") == ""
    monkeypatch.setattr(carried, "SOME", {"carried_thing": "a test", "never_carried": "a test"})
    monkeypatch.setattr(carried, "ALL", ())
    lacking = carried.missing()
    assert list(lacking) == ["never_carried"]
    assert carried.report(lacking)[0].startswith("missing never_carried (ModuleNotFoundError")


def test_ratio_claim_is_decided_by_its_interval():
    def verdict(*results):
        return claims._under("at most 1.05", list(results), 1.05)[0]

    assert verdict(("a", 1.02, 1.0, 1.04), ("b", 1.03, 1.01, 1.05)) == claims.PROVEN
    assert verdict(("a", 1.02, 1.0, 1.06)) == claims.OPEN
    assert verdict(("a", 1.02, None, None)) == claims.OPEN
    assert verdict(("a", 1.08, 1.06, 1.1), ("b", 1.0, 0.99, 1.01)) == claims.REFUTED
    assert verdict() == claims.OPEN


def test_skipped_tests_prove_no_claim(tmp_path):
    (tmp_path / "threads.txt").write_text("12 skipped in 1.0s\n")
    assert claims._tested("claim", "threads", {"threads": 0}, tmp_path)[0] == claims.OPEN
    (tmp_path / "threads.txt").write_text("11 passed, 1 skipped in 1.0s\n")
    assert claims._tested("claim", "threads", {"threads": 0}, tmp_path)[0] == claims.PROVEN
    assert claims._tested("claim", "threads", {"threads": 1}, tmp_path)[0] == claims.REFUTED


def test_noise_floor_is_parsed_from_the_table():
    note = (
        "Noise floor (the baseline against its identical twin): cpu batch 1 224x224 F 0.997 "
        "[0.955, 1.041]; cuda batch 16 713x713 F+B 0.990 [0.965, 1.016]; cuda batch 1 9x9 F 1.002. "
        "A smaller difference than this is not called one."
    )
    assert list(claims._repeat_ratios([note])) == [
        ("cuda batch 16 713x713 F+B", 0.99, 0.965, 1.016),
        ("cuda batch 1 9x9 F", 1.002, None, None),
    ]


def test_missing_program_is_one_line_and_exit_127(tmp_path):
    assert running.step([["no-such-program-here"]], tmp_path / "text", 5.0) == 127
    assert "No such file" in (tmp_path / "text").read_text()
