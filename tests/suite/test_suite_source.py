"""A suite file is checked completely: every problem at once, with its key path and the nearest
known name.
"""

import subprocess
import sys

import pytest

from swbench import suite
from swbench.errors import SuiteError, UnknownName
from swbench.suite.source import LARGEST_BYTES, parse

GOOD = """
schema = 1
kind = "network"
[network]
model = "resnet50"
image = [[224, 224]]
[[rows]]
norm = "bn"
[[rows]]
norm = "swa"
layers = 7
"""


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(SuiteError) as raised:
        parse(text, "x", "x.toml")
    return raised.value.problems


def test_a_good_suite_has_its_defaults():
    suite_ = parse(GOOD, "x", "x.toml")
    assert suite_.title == "x"
    assert suite_.base["solver"] == ("auto",)
    assert suite_.base["batch"] == (1,)
    assert [row["norm"] for row in suite_.rows] == ["bn", "swa"]


def test_every_problem_is_named_at_once():
    bad = GOOD.replace("resnet50", "resnt50").replace(
        "[[224, 224]]",
        ("[[0, 224], 7]\nsolvr = 1\nbatch = [1000000000]\ngroup = nan\nclasses = true"),
    )
    messages = problems(
        bad + ('solver = "egih"\n[protocol]\niterations = 0\nwarmup_s = inf\nreplicates = 1e9\n')
    )
    parts = [
        "protocol.iterations must be at least 1, not 0",
        "protocol.replicates must be a whole number, not 1000000000.0",
        "protocol.warmup_s must be a finite number, not inf",
        "network.solvr: no such key. Did you mean 'solver'?",
        "network.model: 'resnt50' is not known. Did you mean 'resnet50'?",
        "network.classes must be a whole number, not True",
        "network.image[0][0] must be at least 1, not 0",
        "network.image[1] must be [height, width] in pixels, not 7",
        (
            "network.batch[0] must be at most 65,536 (a larger batch fits no machine this was made "
            "for), not 1000000000"
        ),
        "network.group must be a whole number, not nan",
        "rows[1].solver: no solver is called 'egih'. Did you mean 'eigh'?",
    ]
    assert [
        next((part for part in parts if problem.startswith(part)), problem) for problem in messages
    ] == parts


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ('norm = "bn"\nlayers = 3', "leave layers out"),
        ('norm = "swa"', "must be at least 1"),
        ('norm = "ln"\nlayers = 2\nsolver = "eigh"', "has no solver"),
        ('norm = "swaa"\nlayers = 2', "Did you mean 'swa'?"),
        ("layers = 2", "rows[1].norm is missing"),
    ],
)
def test_keys_of_a_row_are_checked_against_each_other(row, problem):
    assert problem in " ".join(problems(GOOD.replace('norm = "swa"\nlayers = 7', row)))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "schema is missing"),
        ("schema = 2", "install a newer swbench"),
        (GOOD + "[protocoll]\n", "Did you mean 'protocol'?"),
        (GOOD.replace('"network"', '"solver"'), "Did you mean 'solvers'?"),
        (GOOD.replace("[[rows]]", "[[solvers]]"), "no such table"),
        (GOOD + '[full]\nmodel = "resnet20"\n', "full.model: no such key"),
        (GOOD + '[[settings]]\nphase = ["evel"]\n', "Did you mean 'eval'"),
        (GOOD + "[[settings]]\ngroup = 4\n", "settings[0].group: no such key"),
        (GOOD + "[settings]\n", "settings must be [[settings]] tables"),
        ("rows = 3\n" + GOOD.split("[[rows]]")[0], "must be [[rows]]"),
        ("x = " + "[" * 5000, "nested"),
        ("a." * 5000 + "b = 1", "nested"),
        ("x = ", "not TOML"),
        ('title = "a\\u001b[2J"\n' + GOOD, "printable"),
        (
            "network = 1\n" + GOOD.split("[network]")[0] + "[[rows]]\nnorm='bn'",
            "network must be a table",
        ),
        (GOOD.replace("[[224, 224]]", "[[224, 224], [224, 224]]"), "occurs twice"),
        (GOOD.replace("[[224, 224]]", "[]"), "give at least one value"),
        (GOOD.replace("[[224, 224]]", f"{[[i, 1] for i in range(1, 1200)]}"), "at most 1000"),
    ],
)
def test_invalid_suite_is_refused(text, problem):
    assert problem in " ".join(problems(text))


def test_files_are_bounded_and_utf8(tmp_path):
    large, latin = tmp_path / "large.toml", tmp_path / "latin.toml"
    large.write_bytes(b"#" * (LARGEST_BYTES + 1))
    latin.write_bytes(b'schema = 1\ntitle = "\xe9"\n')
    with pytest.raises(SuiteError, match="larger than 200,000 bytes"):
        suite.load(large)
    with pytest.raises(SuiteError, match=r"line 2 is not UTF-8 \(byte 0xe9\)"):
        suite.load(latin)
    with pytest.raises(SuiteError, match="No such file"):
        suite.load(tmp_path / "none.toml")
    with pytest.raises(SuiteError, match="Is a directory"):
        suite.load(tmp_path)


def test_an_unknown_suite_names_the_nearest():
    with pytest.raises(UnknownName, match="Did you mean 'imagenet'"):
        suite.load("imagnet")


@pytest.mark.parametrize("name", suite.names())
def test_every_shipped_suite_expands(name):
    assert suite.expand(suite.load(name), devices=["cpu", "cuda"]).groups


def test_suite_imports_no_torch():
    code = (
        "import sys; from swbench import suite; suite.expand(suite.load('imagenet')); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (
            'norm = "swa"\nlayers = 8',
            ("rows[1]: resnet50 has no placement of 8 layers; layers must be 0 or 7 or 14"),
        ),
        (
            'norm = "swa"\nlayers = 7\ngroup = 48',
            "groups of 48 channels do not divide the 64 channels",
        ),
        (
            'norm = "swa"\nlayers = 7\nmodel = "resnet20"',
            "resnet20 has no placement of 7 layers; layers must be 0 or 5",
        ),
        (
            'norm = "swa"\nlayers = 5\nmodel = "resnet21"',
            "rows[1].model: 'resnet21' is not known. Did you mean 'resnet20'?",
        ),
    ],
)
def test_unknown_placement_is_refused_with_its_name(row, problem):
    assert problem in " ".join(problems(GOOD.replace('norm = "swa"\nlayers = 7', row)))


def test_byte_order_mark_is_ignored(tmp_path):
    path = tmp_path / "windows.toml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert suite.load(path) == parse(GOOD.replace("\n", "\r\n"), "windows", "")
    path.write_bytes(b"\xef\xbb\xbf# 1\n# \xff")
    with pytest.raises(SuiteError, match=r"line 2 is not UTF-8 \(byte 0xff\)"):
        suite.load(path)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The folder `suites` of the current directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suites").mkdir()
    return tmp_path / "suites"


def test_suites_in_a_folder_of_the_current_directory_are_known_by_name(own):
    (own / "mine.toml").write_text(GOOD)
    assert set(suite.names()) > {"mine", "imagenet"}
    assert suite.load("mine").name == "mine"
    assert suite.load("imagenet").paper == "table1"


def test_name_of_two_different_suites_is_refused(own):
    (own / "imagenet.toml").write_text(GOOD)
    with pytest.raises(SuiteError, match="has the name of a suite that comes with swbench"):
        suite.load("imagenet")
    assert suite.load("suites/imagenet.toml").paper is None
    (own / "imagenet.toml").write_bytes(suite.folder().joinpath("imagenet.toml").read_bytes())
    assert suite.load("imagenet").paper == "table1", "a copy is no other suite"
