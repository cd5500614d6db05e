"""A suite of roots from its file to its table, in real workers."""

import csv
import io

SUITE = """
schema = 1
title = "Roots"
kind = "solvers"
[solvers]
solver = ["eigh", "polar", "newton5"]
batch = [2]
group = [8]
mixed = [4, 8]
spectrum = ["gradients"]
gradient = false
[protocol]
iterations = 2
replicates = 1
warmup_calls = 1
warmup_s = 0
warmup_cap_s = 0
"""


def test_run_of_a_model_is_shown_exported_and_resumed(bench, workdir):
    (workdir / "own.toml").write_text(SUITE)
    words = ("run", "own.toml", "--device", "cpu", "--root", "2,4", "--format", "csv")
    code, out, _ = bench(*words)
    assert code == 0
    rows = {
        (row["solver"], row["root"], row["sizes"]): row for row in csv.DictReader(io.StringIO(out))
    }
    assert len(rows) == 12
    assert rows["newton5", "4", ""]["status"] == "unsupported"
    for key in (("polar", "4", "4, 8"), ("eigh", "2", "")):
        row = rows[key]
        assert row["status"] == "ok"
        assert float(row["w_error_worst"]) < float(row["promised_error"])
        assert float(row["preconditioned_error_worst"]) < 0.1
        assert float(row["floor_s"]) > 0
        assert not row["fb_s"]
    (run,) = (workdir / "results").iterdir()
    code, out, _ = bench("show", run)
    assert code == 0
    assert "each of G = 4, 8" in out
    assert "p = 4" in out
    code, _, err = bench(*words, "--resume")
    assert code == 0
    assert "is complete" in err
