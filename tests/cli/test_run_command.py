"""The command that a table gives to repeat its run."""

import pytest

from swbench.cli.profile import profile
from swbench.cli.run import repeat_command, run
from swbench.suite import schema
from swbench.suite.options import Options, Selection, declared


@pytest.mark.parametrize(
    ("typed", "name", "names", "command"),
    [
        ("imagenet --quick", "imagenet", ["imagenet"], "imagenet --quick"),
        (
            "run imagenet cityscapes --metrics flops",
            "cityscapes",
            ["imagenet", "cityscapes"],
            "run cityscapes --metrics flops",
        ),
        (
            "run --quick imagenet my.toml --results imagenet",
            "my.toml",
            ["imagenet", "my.toml"],
            "run --quick my.toml --results imagenet",
        ),
        (
            "run imagenet --resume --anyway --threads 1",
            "imagenet",
            ["imagenet"],
            "run imagenet --threads 1",
        ),
        ("run imagenet --seed=3 cifar", "imagenet", ["imagenet", "cifar"], "run imagenet --seed=3"),
    ],
)
def test_repeat_command_names_one_suite_and_keeps_values(monkeypatch, typed, name, names, command):
    monkeypatch.setattr("sys.argv", ["bench.py", *typed.split()])
    assert repeat_command(name, names) == f"python bench.py {command}"


@pytest.mark.parametrize(("command", "kind"), [(run, Options), (profile, Selection)])
def test_command_has_every_declared_option(command, kind):
    flags = {flag for param in command.params for flag in param.opts}
    assert {option.flag for option in declared(kind)} <= flags


def test_an_option_that_replaces_a_value_names_a_key_of_suites():
    keys = {f"base.{key}" for key in (*schema.network_keys(), *schema.solver_keys())}
    keys |= {f"protocol.{key}" for key in schema.PROTOCOL}
    assert {option.overrides for option in declared(Options)} - {""} <= keys
