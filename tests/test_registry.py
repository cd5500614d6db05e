"""Names are looked up lazily, and a wrong one names its nearest neighbour."""

import pytest

from swbench.errors import UnknownName
from swbench.registry import Registry

TABLE = Registry("fruit", {"apple": "json:loads", "pear": "no.such.module:Pear"})


def test_listing_imports_nothing():
    assert TABLE.names() == ("apple", "pear")


def test_load_resolves_the_target():
    import json

    assert TABLE.load("apple") is json.loads


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownName, match=r"no fruit is called 'aple'.*Did you mean 'apple'"):
        TABLE.load("aple")


def test_a_taken_name_cannot_be_registered_again():
    with pytest.raises(ValueError, match="registered already"):
        TABLE.add("pear", "json:dumps")
