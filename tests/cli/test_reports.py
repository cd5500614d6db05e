"""`show`, `export`, `plot` and `compare` on stored runs: output on stdout, mistakes as one line on
stderr, exit codes as promised.
"""

import gc
import json

import pytest
from stored_on_disk import store
from stored_runs import network_group, results_of, rounds_of, stored, table1


def one_line(output, code=2):
    assert output.code == code
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert output.err.startswith("bench.py: ")
    return output.err


def test_show_prints_the_table_and_exits_with_3_for_a_failed_cell(invoke, results):
    output = invoke("show", "latest")
    assert output.code == 3
    assert "out of memory" in output.out
    first = sorted(path.name for path in results.iterdir())[0]
    output = invoke("show", first)
    assert output.code == 0
    assert "Ratio to BN [interval]" in output.out


@pytest.mark.parametrize("ref", ["latest", "nothing"])
def test_reading_command_restores_the_garbage_collector(invoke, results, ref):
    assert gc.isenabled()
    try:
        invoke("show", ref)
        assert gc.isenabled()
    finally:
        gc.enable()


def test_several_runs_are_one_document(invoke, results):
    ids = [path.name for path in sorted(results.iterdir())]
    output = invoke("show", *ids, "--format", "json")
    assert output.code == 3
    assert len(json.loads(output.out)["tables"]) == 2


def test_path_id_and_start_of_an_id_name_the_same_run(invoke, results):
    path = sorted(results.iterdir())[0]
    shown = {invoke("show", ref, "--format", "csv").out for ref in (str(path), path.name)}
    assert len(shown) == 1


def test_file_of_a_run_is_refused_with_its_folder(invoke, results):
    path = sorted(results.iterdir())[0] / "run.json"
    assert (
        one_line(invoke("show", str(path)))
        == f"bench.py: {path} is a file of a run; give its folder, {path.parent}\n"
    )


def test_damaged_line_names_the_salvage_call(invoke, results):
    path = sorted(results.iterdir())[0]
    with open(path / "rounds.jsonl", "a") as lines:
        lines.write("[]\n")
    output = one_line(invoke("show", path.name))
    assert (
        f"rounds.jsonl line {len((path / 'rounds.jsonl').read_bytes().splitlines())} is damaged"
    ) in output
    assert (
        "or read the other lines in Python with swbench.store.load(folder, salvage=True)" in output
    )


def test_export_writes_every_format(invoke, results):
    output = invoke("export", "latest", "-o", "out")
    assert output.code == 0
    names = {line.rpartition("/")[2] for line in output.out.splitlines()}
    assert names == {
        "table.md",
        "table.csv",
        "samples.csv",
        "table.tex",
        "table.json",
        "table.html",
    }


def test_plot_draws_the_plots_that_fit_the_run(invoke, results):
    output = invoke("plot", "latest", "--only", "ratios", "--format", "png")
    assert output.code == 0
    assert output.out.strip().endswith("exports/ratios.png")


def test_compare_fail_exits_with_1_for_a_regression(invoke, tmp_path):
    group = network_group()
    slow = stored([group], results_of(group), rounds_of(group, [1, 1, 1.2, 1.25, 1.9], seed=1))
    a, b = (str(store(tmp_path / "results", run)) for run in (table1(), slow))
    assert invoke("compare", a, b).code == 0
    assert invoke("compare", a, a, "--fail").code == 0
    output = invoke("compare", a, b, "--fail", "--threshold", "5%")
    assert output.code == 1
    assert "slower" in output.out
    assert invoke("compare", a, b, "--fail", "--threshold", "90%").code == 0


def test_compare_paper_prints_run_and_paper(invoke, results):
    first = sorted(path.name for path in results.iterdir())[0]
    output = invoke("compare", first, "paper")
    assert output.code == 0
    assert "aper" in output.out


def test_unlike_machines_are_refused(invoke, tmp_path):
    a, b = table1(), table1(environment={"processor": {"model": "Other CPU"}})
    refs = [str(store(tmp_path / "results", run)) for run in (a, b)]
    assert "--cross-machine" in one_line(invoke("compare", *refs))
    assert invoke("compare", *refs, "--cross-machine").code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "latest", "--results", "nowhere"], "there is no run in nowhere yet"),
        (["show", "no-such-run"], "no run is called 'no-such-run'"),
        (["show", "latest", "--format", "markdwn"], "Did you mean 'markdown'"),
        (["show"], "Missing argument"),
        (["export", "latest", "--format", "csv,docx"], "no format is called 'docx'"),
        (["plot", "latest", "--only", "ratio"], "Did you mean 'ratios'"),
        (["plot", "latest", "--format", "jpeg"], "png or svg"),
        (["compare", "latest", "latest", "--threshold", "1000%"], "share between 0 and 100 %"),
        (["compare", "latest", "paper", "--fail"], "do not apply to a comparison with the paper"),
        (["imagnet"], "Did you mean 'imagenet'"),
        (["list", "modles"], "modles"),
        (["show", "latest", "--no-such-option"], "--no-such-option"),
        (["check", "nowhere.toml"], "cannot be read"),
        (["profile", "imagenet", "--only", "sw*", "--threads", "1"], "a profile covers one row"),
        (
            [
                "profile",
                "solvers",
                "--only",
                "svd",
                "--batch",
                "72",
                "--group",
                "16",
                "--spectrum",
                "kappa=1e3",
            ],
            "choose a row of a network suite",
        ),
    ],
)
def test_a_mistake_is_a_line_with_its_remedy_and_exit_code_2(invoke, results, arguments, words):
    output = invoke(*arguments)
    assert output.code == 2
    assert words in output.err
    assert output.out == ""
    assert "Traceback" not in output.err
    assert output.err.count("\n") == 1 or arguments[0] == "check"


def test_fail_unclear_exits_with_1_for_an_unclear_cell(invoke, tmp_path):
    group = network_group()
    runs = {
        "noisy": rounds_of(group, [1, 1, 1.2, 1.25, 1.3], seed=1, noise=0.2),
        "like": rounds_of(group, [1, 1, 1.2, 1.25, 1.3], seed=1),
        "slow": rounds_of(group, [1, 1, 1.2, 1.25, 1.9], seed=1),
        "fast": rounds_of(group, [1, 1, 1.2, 1.25, 1.0], seed=1),
    }
    refs = {
        name: str(store(tmp_path / "results", stored([group], results_of(group), rounds)))
        for name, rounds in runs.items()
    }
    a = str(store(tmp_path / "results", table1()))
    codes = {
        name: (
            invoke("compare", a, ref, "--fail", "--threshold", "5%").code,
            invoke("compare", a, ref, "--fail-unclear", "--threshold", "5%").code,
        )
        for name, ref in refs.items()
    }
    assert codes == {"noisy": (0, 1), "like": (0, 0), "slow": (1, 1), "fast": (0, 0)}
    output = invoke("compare", a, refs["noisy"], "--threshold", "5%")
    assert (output.code, "UNCLEAR: 6 cells neither within ±5 %" in output.out) == (0, True)
    output = one_line(invoke("compare", a, a, "--fail-unclear"))
    assert "--fail-unclear needs a --threshold, such as 5%" in output


def test_missing_cell_fails_only_fail_unclear(invoke, tmp_path):
    group = network_group()
    fewer = network_group(rows=[("bw", 7, "auto", "ResNet50-BW")])
    lacking = stored([fewer], results_of(fewer), rounds_of(fewer, [1, 1, 1.2]))
    a, b = (str(store(tmp_path / "results", run)) for run in (table1(), lacking))
    assert invoke("compare", a, b, "--fail", "--threshold", "9%").code == 0
    assert invoke("compare", a, b, "--fail-unclear", "--threshold", "9%").code == 1
    assert invoke("compare", b, a, "--fail-unclear", "--threshold", "9%").code == 0
    assert len(group.cases) == len(fewer.cases) + 2
