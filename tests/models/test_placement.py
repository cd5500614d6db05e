"""Where the norm goes: the paper's numbering, counts and matrices."""

import pytest

from swbench import models
from swbench.errors import OptionError
from swbench.models.describe import describe

PAPER = {
    ("resnet50", 7): [1, 6, 12, 18, 24, 30, 36],
    ("resnet50", 14): [1, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33, 36, 39],
    ("resnet50-seg", 7): [1, 6, 12, 18, 24, 30, 36],
    ("resnet50-seg", 14): [1, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33, 36, 39],
    ("resnet20", 5): [1, 4, 8, 12, 16],
    ("resnet32", 8): [1, 4, 8, 12, 16, 20, 24, 28],
    ("resnet44", 11): [1, *range(4, 41, 4)],
    ("resnet56", 14): [1, *range(4, 53, 4)],
    ("resnet110", 28): [1, *range(4, 109, 4)],
    ("stylizer", 15): list(range(1, 16)),
}


@pytest.mark.parametrize(("model", "layers"), PAPER)
def test_placement_is_the_papers(model, layers):
    rows = describe(model, layers, (64, 64))
    assert [row.site.conv_index for row in rows] == PAPER[model, layers]
    assert len(rows) == layers


def test_every_placement_is_tested():
    assert set(PAPER) == {
        (model, layers) for model, counts in models.PLACEMENTS.items() for layers in counts
    }
    assert set(models.PLACEMENTS) == set(models.names())


@pytest.mark.parametrize(("layers", "matrices"), [(7, 72), (14, 144)])
@pytest.mark.parametrize(("model", "side"), [("resnet50", 224), ("resnet50-seg", 713)])
def test_number_of_matrices_per_image(model, side, layers, matrices):
    assert sum(row.matrices for row in describe(model, layers, (side, side))) == matrices


def test_describe_gives_channels_and_maps():
    rows = describe("resnet50-seg", 7, (713, 713))
    assert [(row.site.channels, row.height, row.width) for row in rows] == [
        (64, 357, 357),
        (64, 179, 179),
    ] + [(128, 90, 90)] * 2 + [(256, 90, 90)] * 3
    assert (rows[-1].site.stage, rows[-1].site.block) == (3, 4)


def test_the_2048_channel_stage_and_the_head_are_never_whitened():
    assert all(row.site.stage < 4 for row in describe("resnet50-seg", 14, (65, 65)))


def test_a_wrong_number_of_layers_names_the_valid_ones():
    with pytest.raises(OptionError, match="0 or 7 or 14"):
        models.placement("resnet50", 8)
    with pytest.raises(OptionError, match="batch normalisation; layers must be 7 or 14"):
        models.build("resnet50", norm="swa")


@pytest.mark.parametrize("model", models.names())
def test_narrowest_is_the_first_site(model):
    seen = []
    from torch import device, nn

    def norm_at(site):
        seen.append(site.channels)
        return nn.Identity()

    with device("meta"):
        models.build(model, norm_at=norm_at)
    from swbench.models.sites import NARROWEST

    assert seen[0] == NARROWEST[model]
    assert all(channels % seen[0] == 0 for channels in seen)


def test_a_group_that_does_not_divide_is_refused_in_one_line():
    models.check_group("resnet50", 64)
    with pytest.raises(OptionError, match="32 channels do not divide the 16 channels"):
        models.check_group("resnet20", 32)


@pytest.mark.parametrize(
    ("model", "least"), [("resnet50", 33), ("resnet50-seg", 9), ("resnet20", 5), ("stylizer", 41)]
)
def test_the_minimum_is_the_least_image_that_trains(model, least):
    import torch

    assert models.minimum_side(model) == least
    models.check_image(model, (least, least))
    with pytest.raises(OptionError, match=f"at least {least} pixels"):
        describe(model, 0, (least, least - 1))
    net = models.build(model).train()
    net(torch.rand(1, 3, least, least))
    with pytest.raises((ValueError, RuntimeError)):
        net(torch.rand(1, 3, least - 1, least - 1))
