"""Bad input gets one clear line and exit 2, before anything is run or written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from swbench import store, suite

ESCAPE = "\x1b[2J"


@pytest.fixture
def refused(workdir, bench):
    """`refused("run", …)` -> what is said; nothing on stdout, no results, nothing that drives the
    terminal.
    """

    def command(*arguments):
        before = {path.name for path in workdir.iterdir()}
        code, out, err = bench(*arguments)
        assert (code, out) == (2, "")
        assert err.startswith("bench.py: ")
        assert all(line.isprintable() for line in err.splitlines())
        assert {path.name for path in workdir.iterdir()} == before
        return err.removeprefix("bench.py: ").rstrip("\n")

    return command


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("imagnet", "'imagnet' is neither a command nor a suite. Did you mean 'imagenet'?"),
        ("run imagnet", "no suite is called 'imagnet'. Did you mean 'imagenet'?"),
        ("runn imagenet", "Did you mean 'run'?"),
        ("run", "Missing argument 'SUITE…'. See: bench.py run --help"),
        ("run imagenet --solver eihg", "no solver is called 'eihg'. Did you mean 'eigh'?"),
        ("run imagenet --solver eigh,,svd", "has an empty entry"),
        (
            "run imagenet --solver eigh:bogus=1",
            "takes no option 'bogus=1'; it takes: backward, floor",
        ),
        (
            "run imagenet --solver eigh:backward=papr",
            "backward must be one of 'daleckii-krein', 'paper', not 'papr'",
        ),
        ("run imagenet --iterations 0", "--iterations must be at least 1, not 0"),
        ("run imagenet --iterations -1", "--iterations must be at least 1, not -1"),
        ("run imagenet --iterations ten", "'ten' is not a valid integer"),
        (
            "run imagenet --replicates 0",
            "--replicates must be at least 1 (fresh worker processes), not 0",
        ),
        ("run imagenet --iterations 2 --replicates 3", "cannot be spread over --replicates 3"),
        ("run imagenet --batch 1000000000", "--batch[0] must be at most"),
        ("run imagenet --batch 100000", "--batch must be at most 65,536 for networks"),
        ("run imagenet --batch 0", "--batch[0] must be at least 1"),
        ("run imagenet --phase evla", "--phase[0]: 'evla' is not known. Did you mean 'eval'?"),
        (
            "run imagenet --device cpu --phase eval --metrics time,energy",
            "--metrics energy needs a backward pass, and phase eval has none; leave it out",
        ),
        ("profile imagenet --phase eval --only bw", "a profile covers a training step"),
        ("profile imagenet --dtype amp-bfloat16 --only bw", "profile with --dtype bfloat16"),
        ("run solvers --device cpu --phase eval", "--phase does not apply to a suite of kind"),
        ("run imagenet --batch nan", "must be int values"),
        ("run imagenet --group 7", "groups of 7 channels do not divide the 64 channels"),
        ("run imagenet --threads 0", "--threads must be at least 1"),
        ("run imagenet --device tpu", "no device is called 'tpu'. Did you mean 'cpu'?"),
        ("run imagenet --metrics tyme", "'tyme' is not known. Did you mean 'time'?"),
        (
            "run imagenet --only nothing",
            "--only nothing matches nothing. Known: bn, bw-7, swa-7, swb-7",
        ),
        ("run imagenet --target-ci nan", "must be a share between 0 and 100 %"),
        ("run imagenet --budget nan", "must be a time such as 90s, 10m or 1.5h"),
        ("run imagenet --case-limit 0s", "must be a time"),
        ("run imagenet --seed -1", "--seed must be at least 0"),
        ("run imagenet --format cvs", "no format is called 'cvs'. Did you mean 'csv'?"),
        ("run imagenet --resum", "--resume"),
        ("run imagenet --anyway", "--anyway needs --resume"),
        (
            "run imagenet --until-fits --every-batch",
            ("--until-fits and --every-batch contradict each other; leave one of them out"),
        ),
        (
            "profile imagenet --every-batch --until-fits",
            ("--until-fits and --every-batch contradict each other; leave one of them out"),
        ),
        (
            "selftest --device cuda --long",
            (
                "--long replays more runs on the CPU, and --device cuda leaves the CPU "
                "out; add cpu to it, or leave --long out"
            ),
        ),
        (
            "run imagenet --spectrum identity",
            "--spectrum does not apply to a suite of kind 'network'",
        ),
        ("run imagenet --plugin nowhere.py", "--plugin nowhere.py: there is no such Python file"),
        ("run nowhere.toml", "cannot be read: No such file or directory"),
        ("check nowhere.toml", "cannot be read: No such file or directory"),
        ("show latest", "there is no run in results yet"),
        ("show nothing", "no run is called 'nothing' in results"),
        ("export latest", "there is no run in results yet"),
        ("compare a b", "no run is called 'a' in results"),
        ("list sweets", "'sweets' is not one of"),
        (
            "run imagenet --quik",
            ("No such option '--quik'. Did you mean '--quick'? See: bench.py run --help"),
        ),
        (
            "run imagenet --nproc 64",
            (
                "no batch of suite 'imagenet' on cpu has an image for each of 64 "
                "processes; give one with --batch 64 or more"
            ),
        ),
        ("show /", "/ is a folder, but holds no run (run.json is missing)"),
    ],
)
def test_wrong_command_line_is_refused_in_one_line(refused, arguments, message):
    err = refused(*arguments.split())
    assert message in err
    if "nowhere.toml" not in arguments:
        assert "\n" not in err


BASE = (
    'schema = 1\nkind = "network"\nnetwork = { model = "resnet50", image = [[224, '
    '224]]NETWORK }\nrows = [{ norm = "swa", layers = 7ROW }]\nTOP'
)
EVERYTHING = """
schema = 1
kind = "network"
colour = "red"
[network]
modell = "resnet50"
image = [[0, 224]]
batch = [1000000000, nan]
solver = ["eihg"]
[protocol]
iterations = 0
warmup_s = inf
[[rows]]
norm = "swa"
layers = "seven"
[[rows]]
norm = "swx"
[row]
norm = "bn"
"""


def test_every_problem_of_a_suite_is_reported_at_once(workdir, refused):
    (workdir / "wrong.toml").write_text(EVERYTHING)
    message = refused("run", "wrong.toml").split("\n  ")
    assert message[0] == "wrong.toml: 12 problems, nothing was run:"
    for part in [
        "colour: no such key",
        "network.modell: no such key. Did you mean 'model'?",
        "network.model is missing",
        "network.image[0][0] must be at least 1, not 0",
        "network.batch[0] must be at most 65,536",
        "network.batch[1] must be a whole number, not nan",
        "network.solver[0]: no solver is called 'eihg'. Did you mean 'eigh'?",
        "protocol.iterations must be at least 1, not 0",
        "protocol.warmup_s must be a finite number, not inf",
        "rows[0].layers must be a whole number, not 'seven'",
        "rows[1].norm: 'swx' is not known. Did you mean 'swa'?",
        "row: no such table. Did you mean 'rows'?",
    ]:
        assert any(line.startswith(part) for line in message), part


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ROW": ", group = 7"}, "rows[0]: groups of 7 channels do not divide the 64 channels"),
        ({"NETWORK": ", group = 0"}, "network.group must be at least 1 (channels a group), not 0"),
        (
            {"ROW": ', solver = "eihg"'},
            "rows[0].solver: no solver is called 'eihg'. Did you mean 'eigh'?",
        ),
        ({"NETWORK": ", batch = [true]"}, "network.batch[0] must be a whole number, not True"),
        ({"NETWORK": ", batch = 1"}, "network.batch must be a list, not 1"),
        ({"TOP": 'title = "\\u001b[2J"'}, "title must be at most 200 printable characters"),
        ({"TOP": '"\\u001b[2J" = 1'}, "\\x1b[2J: no such key"),
        ({"TOP": "seed = 1"}, "seed: no such key"),
        ({"TOP": "[protocol]\nseed = 1e999"}, "protocol.seed must be a whole number"),
        ({"TOP": "x = " + "9" * 5000}, "a number has more than 4300 digits"),
        ({"TOP": "x = " + "[" * 1000 + "]" * 1000}, "brackets are nested more than 32 deep"),
        ({"TOP": "[" + "a." * 1000 + "a]"}, "nested more than 32 deep"),
        ({"TOP": "x = "}, "not TOML"),
        ({"TOP": "x = 1\x00"}, "not TOML"),
    ],
)
def test_suite_with_one_mistake_is_refused_with_its_key(workdir, refused, changes, message):
    text = BASE
    for name in ("NETWORK", "ROW", "TOP"):
        text = text.replace(name, changes.get(name, ""))
    (workdir / "wrong.toml").write_text(text)
    first, problem = refused("run", "wrong.toml").split("\n  ")
    assert first == "wrong.toml: 1 problem, nothing was run:"
    assert message in problem


def test_image_too_small_for_the_network_is_refused(workdir, refused):
    (workdir / "wrong.toml").write_text(
        BASE.replace("[224, 224]", "[8, 8]")
        .replace("NETWORK", "")
        .replace("ROW", "")
        .replace("TOP", "")
    )
    assert refused("run", "wrong.toml") == (
        "image 8x8 is too small for resnet50 at batch 1; both sides must be at least 33 pixels"
    )


def test_suite_of_a_hundred_megabytes_is_refused_unread(workdir, refused):
    with open(workdir / "wrong.toml", "wb") as file:
        file.truncate(100 * 10**6)
    assert "larger than 200,000 bytes; a suite is a page of text" in refused("run", "wrong.toml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"schema = 1\n\xff", "line 2 is not UTF-8 (byte 0xff)"),
        (b"\xef\xbb\xbf", "schema is missing"),
        (b"", "schema is missing"),
    ],
)
def test_invalid_bytes_are_refused(workdir, refused, content, message):
    (workdir / "wrong.toml").write_bytes(content)
    assert message in refused("run", "wrong.toml")


def test_folder_in_place_of_a_suite_is_refused(workdir, refused):
    (workdir / "wrong.toml").mkdir()
    assert "cannot be read: Is a directory" in refused("run", "wrong.toml")


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", ESCAPE],
        [ESCAPE],
        ["run", f"{ESCAPE}.toml"],
        ["show", ESCAPE],
        ["show", f"/{ESCAPE}"],
        ["run", "imagenet", "--solver", ESCAPE],
        ["run", "imagenet", "--only", ESCAPE],
        ["run", "imagenet", "--format", ESCAPE],
        ["run", "imagenet", "--plugin", f"{ESCAPE}.py"],
        ["run", "imagenet", "--results", f"tiny.toml/{ESCAPE}"],
        [f"--{ESCAPE}"],
        ["list", ESCAPE],
    ],
)
def test_control_characters_of_arguments_are_escaped(refused, arguments):
    assert "x1b[2J" in refused(*arguments) or "printable" in refused(*arguments)


def test_control_characters_from_files_are_escaped(workdir, bench):
    (workdir / f"{ESCAPE}.toml").write_text((workdir / "tiny.toml").read_text())
    for arguments in (
        ["check", f"{ESCAPE}.toml"],
        ["run", f"{ESCAPE}.toml", "--dry-run"],
        ["run", f"{ESCAPE}.toml"],
        ["show", "latest"],
        ["list", "runs"],
    ):
        code, out, err = bench(*arguments)
        assert code == 0
        assert out
        assert "\x1b" not in out + err


def test_list_runs_prints_the_state_of_each(workdir, bench):
    plan = suite.expand(suite.load("tiny.toml"))
    with (
        store.RunWriter.create("results", plan, {}, "") as unfinished,
        store.RunWriter.create("results", plan, {}, "") as complete,
    ):
        complete.finish()
    code, out, err = bench("list", "runs")
    assert (code, err) == (0, "")
    assert [(line.split()[0], line.split()[-1]) for line in out.splitlines()] == [
        (unfinished.id, "unfinished"),
        (complete.id, "complete"),
    ]


def test_a_network_that_cannot_be_built_leaves_no_run(workdir, bench, monkeypatch):
    from swbench.errors import SwbenchError
    from swbench.run import counting

    def refuse(cases, plugins):
        raise SwbenchError("resnet20 cannot be counted: no")

    monkeypatch.setattr(counting, "_count_in_subprocess", refuse)
    code, out, err = bench("run", "tiny.toml", "--metrics", "flops,time")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == "bench.py: resnet20 cannot be counted: no"
    assert list((workdir / "results").iterdir()) == []


def test_bench_py_prints_one_line_for_a_mistake(workdir):
    script = Path(__file__).parents[2] / "bench.py"
    environ = {**os.environ, "PYTHONPATH": str(script.parent)}
    done = subprocess.run(
        [sys.executable, script, "run", "imagnet"],
        capture_output=True,
        text=True,
        check=False,
        env=environ,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
