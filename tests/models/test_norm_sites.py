"""Which norms of a network are chosen, and what is said where none is."""

import pytest
from torch import nn

from swbench.errors import OptionError
from swbench.models.norm_sites import choose, norm_sites


def block(channels):
    return nn.ModuleDict({"bn1": nn.BatchNorm2d(channels), "bn2": nn.BatchNorm2d(2 * channels)})


def net():
    """Seven norms: bn1, two blocks of two in layer1 and layer2 with a branch between."""
    return nn.ModuleDict(
        {
            "bn1": nn.BatchNorm2d(8),
            "layer1": nn.Sequential(block(8)),
            "downsample": nn.Sequential(nn.BatchNorm2d(32)),
            "layer2": nn.Sequential(block(32), nn.ModuleDict({"in1": nn.InstanceNorm2d(8)})),
            "head": nn.LayerNorm(8),
        }
    )


def paths(where):
    return [site.path for site in choose(net(), where)]


ALL = ["bn1", "layer1.0.bn1", "layer1.0.bn2", "downsample.0", "layer2.0.bn1", "layer2.0.bn2"]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (None, ALL),
        ((), []),
        ("*bn*", [path for path in ALL if "bn" in path]),
        (1, ["bn1"]),
        ([4, 1], ["bn1", "downsample.0"]),
        ("1, 4", ["bn1", "downsample.0"]),
        ("layer[12].*.bn2", ["layer1.0.bn2", "layer2.0.bn2"]),
        ("layer[1,2].*.bn2", ["layer1.0.bn2", "layer2.0.bn2"]),
        ("2,layer2.*.bn1", ["layer1.0.bn1", "layer2.0.bn1"]),
        ("every=3", ["bn1", "layer1.0.bn2", "layer2.0.bn2"]),
        ("every=3,!downsample*", ["bn1", "layer1.0.bn2"]),
        ("every=2,channels<=16", ["bn1", "layer1.0.bn1"]),
        ("channels>16", ["downsample.0", "layer2.0.bn1", "layer2.0.bn2"]),
        ("channels>=16,channels<32", ["layer1.0.bn2"]),
        ("channels=8,!bn1", ["layer1.0.bn1"]),
        (["layer1*", "every=2"], ["layer1.0.bn1"]),
    ],
)
def test_where_terms_choose_sites(where, expected):
    assert paths(where) == expected


def test_numbers_count_batch_normalisations_in_model_order():
    sites = norm_sites(net())
    assert [(site.number, site.channels) for site in sites] == [
        (1, 8),
        (2, 8),
        (3, 16),
        (4, 32),
        (5, 32),
        (6, 64),
        (None, 8),
    ]
    assert [site.number for site in norm_sites(net(), ["layer1*"])] == [1, 2, 3, 4, None]


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("layer9.*", r"layer9\.\* matches no norm of the network\..*Norms: bn1, .*\(7\)"),
        ("layer1.0.bn3", r"Did you mean 'layer1\.0\.bn1'"),
        ("!layer9.*", "matches no norm"),
        ("head", "matches LayerNorm in the network, which cannot be replaced"),
        ("layer2*", r"layer2\.1\.in1 \(InstanceNorm2d\) is an instance norm.*!layer2\.1\.in1"),
        (0, "no norm 0; its batch norms are numbered from 1 to 6"),
        ("7", "no norm 7"),
        (-1, "no norm -1"),
        ("channels>64", "leaves none of the 6 norms"),
        ("evry=6", "no rule is called 'evry'. Did you mean 'every'"),
        ("every<6", "write every=N"),
        ("every=0", "whole number from 1"),
        ("channels<=many", "whole number from 1"),
        ("bn1,,bn2", "empty entry"),
        ("", "empty entry"),
    ],
)
def test_invalid_where_is_refused_in_one_line(where, words):
    with pytest.raises(OptionError, match=words) as raised:
        choose(net(), where)
    assert "\n" not in str(raised.value)


def test_a_network_without_batch_normalisation_lists_its_norms():
    with pytest.raises(OptionError, match="no batch normalisation to replace; it has 2 LayerNorm"):
        choose(nn.Sequential(nn.LayerNorm(8), nn.LayerNorm(8)))
    with pytest.raises(OptionError, match="no norm at all"):
        choose(nn.Conv2d(3, 8, 1))


def test_a_network_that_is_a_norm_itself_is_refused_with_a_remedy():
    with pytest.raises(OptionError, match=r"the network itself .*; give a network that holds it"):
        choose(nn.InstanceNorm2d(8), "*")


def test_numbers_are_those_of_batch_norms():
    with pytest.raises(OptionError, match="no norm 3; only batch norms have numbers, name a path"):
        choose(nn.Sequential(nn.InstanceNorm2d(8)), "*,3")


def test_where_takes_numbers_and_texts():
    with pytest.raises(ValueError, match=r"not 1\.5"):
        choose(net(), [1.5])
