"""A stability suite from its file to its table, in real workers."""

import csv
import io

SUITE = """
schema = 1
title = "Stress"
kind = "stability"
[stability]
norm = ["iw"]
solver = ["eigh"]
dtype = ["float32"]
input = ["one-pixel"]
steps = 2
seeds = 2
[protocol]
iterations = 1
replicates = 1
warmup_calls = 1
warmup_s = 0
warmup_cap_s = 0
"""


def test_a_run_is_shown_and_exported(bench, workdir):
    (workdir / "stress.toml").write_text(SUITE)
    code, out, _ = bench("run", "stress.toml", "--device", "cpu", "--format", "csv")
    assert code == 0
    rows = {row["label"]: row for row in csv.DictReader(io.StringIO(out))}
    assert list(rows) == ["BN", "IW [textbook]", "IW [eigh]"]
    (run,) = (workdir / "results").iterdir()
    code, out, _ = bench("show", run)
    assert code == 0
    assert "Where it breaks" in out
    assert "ValueError: Expected more than 1 value per channel" in out
    assert float(rows["IW [eigh]"]["one_pixel_y_error"]) < 1e-3
    assert rows["IW [textbook]"]["one_pixel_dx_error"] == "not finite"
    assert rows["BN"]["one_pixel_y_error"] == "raised"
    assert rows["BN"]["seeds"] == "2"
    code, _, err = bench("run", "stress.toml", "--device", "cpu", "--format", "csv", "--resume")
    assert code == 0
    assert "is complete" in err
