"""`compare --fail` as a gate: it never passes because there was nothing to compare."""

from pathlib import Path


def run(bench, *options):
    before = set(Path("results").glob("*"))
    code, _, _ = bench("run", "tiny.toml", "--format", "csv", *options)
    (folder,) = set(Path("results").glob("*")) - before
    return code, folder.name


def test_fail_exits_with_1_for_a_failed_cell_and_2_without_comparable_cells(bench, monkeypatch):
    complete, other = run(bench, "--threads", "1")[1], run(bench, "--threads", "2")[1]
    # workers are counted over all runs: the third run's first
    monkeypatch.setenv("TINY_ACT", "5 1:raise")
    code, broken = run(bench, "--threads", "1", "--replicates", "1", "--iterations", "1")
    assert code == 3
    assert bench("compare", complete, complete, "--fail")[0] == 0
    assert bench("compare", complete, broken)[0] == 0
    assert bench("compare", complete, broken, "--fail")[0] == 1
    code, _, err = bench("compare", complete, other, "--fail")
    assert (code, "could be compared" in err) == (2, True)
