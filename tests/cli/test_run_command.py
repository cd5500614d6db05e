"""The command that a table gives to repeat its run."""

import pytest

from swbench.cli.run import repeating


@pytest.mark.parametrize(
    ("typed", "name", "names", "kept"),
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
def test_one_suite_is_named_and_values_are_kept(monkeypatch, typed, name, names, kept):
    monkeypatch.setattr("sys.argv", ["bench.py", *typed.split()])
    assert repeating(name, names) == f"python bench.py {kept}"
