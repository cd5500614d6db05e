"""A plugin is executed once, from the bytes that were hashed, and an invalid one is refused in one
line.
"""

import sys

import pytest

from swbench import plugins
from swbench.errors import OptionError

COUNTING = (
    "import sys\nsys.times_run = getattr(sys, 'times_run', 0) + 1\ndef register():\n    pass\n"
)
TAKEN = "from swbench import norms\ndef register():\n    norms.TABLE.add('bn', 'a:b')\n"


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """No module of a test outlives it."""
    before = set(sys.modules)
    monkeypatch.setattr(plugins, "_loaded", {})
    yield
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__spec__", None) and "plugin_of_a_test" in name:
            del sys.modules[name]


def written(tmp_path, text, name="plugin_of_a_test.py"):
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def test_plugin_is_executed_once(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "times_run", 0, raising=False)
    path = written(tmp_path, COUNTING)
    assert plugins.load([path]) == plugins.load([path])
    assert sys.times_run == 1


def test_classes_of_a_plugin_resolve_by_module_and_name(tmp_path):
    plugins.load([written(tmp_path, "class A: pass\ndef register(): pass\n")])
    assert sys.modules["plugin_of_a_test"].A.__module__ == "plugin_of_a_test"


def test_plugin_on_the_import_path_is_accepted(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    assert plugins.load([written(tmp_path, COUNTING)])[0].name == "plugin_of_a_test.py"


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("def register(:\n", "plugin_of_a_test.py", "line 1: "),
        (
            "x = 1\nimport no_such_thing_at_all\n",
            "plugin_of_a_test.py",
            "line 2: ModuleNotFoundError: No module named 'no_such_thing_at_all'",
        ),
        (
            "def register():\n    raise SystemExit(3)\n",
            "plugin_of_a_test.py",
            "line 2: SystemExit: 3",
        ),
        ("x = 1\n", "plugin_of_a_test.py", r"defines no register\(\)"),
        (
            "from swbench import norms\ndef register():\n    norms.TABLE.add('bn', 'a:b')\n",
            "plugin_of_a_test.py",
            "ValueError: norm 'bn' is registered already",
        ),
        (COUNTING, "json.py", "a module called 'json' is installed already"),
        (COUNTING, "plugin-of-a-test.py", "cannot be the name of a module"),
        (COUNTING, "plugin_of_a_test.txt", "no such Python file"),
    ],
)
def test_invalid_plugin_is_refused_in_one_line(tmp_path, text, name, words):
    path = written(tmp_path, text, name)
    with pytest.raises(OptionError, match=words) as raised:
        plugins.load([path])
    assert "\n" not in str(raised.value)
    assert "plugin_of_a_test" not in sys.modules


def test_missing_plugin_is_refused_with_its_path(tmp_path):
    with pytest.raises(OptionError, match=r"nowhere\.py: there is no such Python file"):
        plugins.load([str(tmp_path / "nowhere.py")])


def test_a_worker_refuses_a_file_that_was_edited_since(tmp_path):
    path = written(tmp_path, COUNTING)
    then = plugins.from_json(plugins.to_json(plugins.load([path])))
    plugins._loaded.clear()
    written(tmp_path, COUNTING + "# edited\n")
    with pytest.raises(OptionError, match="edited since the run began"):
        plugins.load(then)


def test_digest_of_a_plugin_has_no_path(tmp_path):
    (plugin,) = plugins.load([written(tmp_path, COUNTING)])
    assert plugins.digests([plugin]) == {"plugin plugin_of_a_test.py": plugin.digest}
