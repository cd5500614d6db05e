"""`doctor` and `profile` on the command line, on the smallest network."""

import importlib.util
import json

import pytest


@pytest.mark.skipif(
    importlib.util.find_spec("swbench.native") is None,
    reason="the native kernels are not part of this checkout",
)
def test_doctor_prints_findings_and_counts(invoke):
    result = invoke("doctor", "--threads", "1")
    assert result.code == 0
    *_, last = result.out.splitlines()
    assert {part.split()[1] for part in last.split(", ")} == {"ok", "warn", "bad"}
    assert (
        sum(int(part.split()[0]) for part in last.split(", ")) == len(result.out.splitlines()) - 1
    )


def test_profile_prints_shares_and_writes_a_timeline_outside_the_runs(invoke, tmp_path):
    result = invoke(
        "profile",
        "cifar",
        "--only",
        "ResNet20-SW^a",
        "--batch",
        "1",
        "--iterations",
        "2",
        "--threads",
        "1",
        "-o",
        "p",
    )
    assert result.code == 0, result.err
    assert result.out.startswith("ResNet20-SW^a")
    assert "norm" in result.out
    assert {path.name for path in (tmp_path / "p").iterdir()} == {
        "profile.json",
        "trace.json",
        "roofline.png",
        "roofline.svg",
    }
    assert json.loads((tmp_path / "p" / "profile.json").read_text())
    assert not (tmp_path / "results").exists()
