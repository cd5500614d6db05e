"""Names are imported on first use, and an unknown one suggests its nearest neighbour."""

from functools import partial

import pytest

from swbench.errors import UnknownName, near_miss
from swbench.registry import Registry

TABLE = Registry("fruit", {"apple": "json:loads", "pear": "no.such.module:Pear"})


def test_listing_imports_nothing():
    assert TABLE.names() == ("apple", "pear")


def test_load_resolves_the_target():
    import json

    assert TABLE.load("apple") is json.loads


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(UnknownName, match=r"no fruit is called 'aple'.*Did you mean 'apple'"):
        TABLE.load("aple")


def test_a_taken_name_cannot_be_registered_again():
    with pytest.raises(ValueError, match="registered already"):
        TABLE.add("pear", "json:dumps")


def test_class_is_registered_by_module_and_qualname():
    from collections import OrderedDict

    table = Registry("fruit", {})
    table.add("plum", OrderedDict)
    assert table["plum"] == "collections:OrderedDict"
    assert table.load("plum") is OrderedDict


def test_closures_partials_and_lambdas_are_registered_as_objects():
    table, made = Registry("fruit", {}), {}
    for name in ("fig", "date"):

        def grown(name=name):
            return name

        made[name] = grown
        table.add(name, grown)
    table.add("plum", partial(made["fig"], "plum"))
    table.add("lime", lambda: "lime")
    assert [table.load(name)() for name in table] == ["fig", "date", "plum", "lime"]
    assert table.names() == ("fig", "date", "plum", "lime")


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("fig", 3),
        ("a b", "json:dumps"),
        ("", "json:dumps"),
        ("x:y", "json:dumps"),
    ],
)
def test_target_that_is_not_callable_or_name_that_is_invalid_is_refused(name, target):
    with pytest.raises(ValueError, match="cannot be"):
        Registry("fruit", {}).add(name, target)


def test_first_of_equally_near_names_is_suggested():
    assert (
        near_miss("resnet5O", ("resnet50", "resnet20", "resnet56")) == " Did you mean 'resnet50'?"
    )
    assert (
        near_miss("resnet5O", ("resnet56", "resnet20", "resnet50")) == " Did you mean 'resnet56'?"
    )
    assert near_miss("x", ()) == near_miss("zzz", ("resnet50",)) == ""
