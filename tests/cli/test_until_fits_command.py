"""`--until-fits` on the command line: the dry run, the measured batches, the table and resuming."""

import pytest

from swbench import store
from swbench.cli.run import repeat_command


def run():
    (summary,) = store.runs("results")
    return store.load(summary.path)


def cells(stored):
    made = {}
    for result in stored.results:
        made.setdefault((result.group.split()[2], result.replicate), []).append(result.status)
    return made


COMPLETE = ["ok"] * 3
LACKS = ["ok", "ok", "out_of_memory"]
FOURS = {("4", 0): LACKS, ("2", 0): COMPLETE, ("2", 1): COMPLETE}
TRIED = ("run", "tiny.toml", "--device", "cpu", "--batch", "4,2,1", "--until-fits")


def test_dry_run_names_fallback_batches(bench):
    code, out, _ = bench(*TRIED, "--dry-run")
    assert code == 0
    groups = [line.strip() for line in out.splitlines() if line.startswith("  cpu")]
    assert groups == [
        "cpu batch 4 32x32",
        "cpu batch 2 32x32: only if cpu batch 4 32x32 runs out of memory",
        "cpu batch 1 32x32: only if cpu batch 2 32x32 runs out of memory",
    ]


def test_the_largest_batch_that_fits_is_measured_and_shown(bench, monkeypatch):
    monkeypatch.setenv("TINY_FITS", "2")
    code, out, err = bench(*TRIED)
    assert code == 3
    assert cells(run()) == FOURS
    assert (
        "cpu batch 4 32x32 does not fit the memory, so cpu batch 2 32x32 is measured in its place"
    ) in err
    assert "out of memory" in out
    assert "not finished" not in out
    code, shown, _ = bench("show", "latest")
    assert (code, shown) == (code, out)
    second_code, table, err = bench(*TRIED, "--resume")
    assert (second_code, table) == (3, out)
    assert "is complete" in err


def test_batch_that_fits_is_measured_alone_and_exits_with_0(bench):
    code, out, _ = bench(*TRIED)
    assert (code, set(cells(run()))) == (0, {("4", 0), ("4", 1)})
    assert "CPU batch 2" not in out


@pytest.mark.parametrize("worker", [1, 2, 3])
def test_killed_run_resumes_to_the_same_cells(start, bench, monkeypatch, worker):
    """The first worker has the batch that does not fit, the second and third the one that does."""
    monkeypatch.setenv("TINY_FITS", "2")
    start(*TRIED, act=f"{worker} 2:kill_parent").communicate(timeout=60)
    before = run()
    assert not before.complete
    code, _, err = bench(*TRIED, "--resume")
    assert code == 3
    assert "going on with" in err
    assert cells(run()) == FOURS
    assert run().results[: len(before.results)] == before.results


def test_every_batch_overrides_until_fits_of_a_suite(bench, workdir, monkeypatch):
    monkeypatch.setenv("TINY_FITS", "2")
    text = (workdir / "tiny.toml").read_text()
    (workdir / "tiny.toml").write_text(
        text.replace("[protocol]", "batch = [4, 2, 1]\nuntil_fits = true\n[protocol]")
    )
    assert bench("run", "tiny.toml")[0] == 3
    assert cells(run()) == FOURS
    assert bench("run", "tiny.toml", "--every-batch", "--results", "all")[0] == 3
    (summary,) = store.runs("all")
    every = cells(store.load(summary.path))
    assert every == {
        (batch, number): LACKS if batch == "4" else COMPLETE
        for batch in "421"
        for number in range(2)
    }


def test_a_profile_is_of_the_largest_batch(bench, monkeypatch):
    from swbench.profile import launch

    profiled = []

    def profile_case(case, *_, **__):
        profiled.append(case)
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "profile_case", profile_case)
    bench("profile", "cityscapes", "--device", "cuda", "--only", "swa-7")
    assert [case.batch for case in profiled] == [16]


def test_reproduce_command_keeps_the_flag(monkeypatch):
    monkeypatch.setattr(
        "sys.argv", ["bench.py", "run", "--until-fits", "imagenet", "cityscapes", "--batch", "4,2"]
    )
    assert (
        repeat_command("cityscapes", ["imagenet", "cityscapes"])
        == "python bench.py run --until-fits cityscapes --batch 4,2"
    )
