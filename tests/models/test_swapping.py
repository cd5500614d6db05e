"""A network of one's own: its batch norms become sites, and its placements are checked when it is
registered.
"""

import pytest
from torch import nn

from swbench import models
from swbench.models.swapping import swap_norms


def net():
    branch = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))
    return nn.ModuleDict(
        {
            "stem": nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)),
            "branch": branch,
            "last": nn.BatchNorm2d(16),
        }
    )


def test_every_batch_norm_is_a_site_in_the_order_of_the_model():
    seen = []
    swapped = swap_norms(net(), lambda site: seen.append(site) or nn.Identity())
    assert [(site.conv_index, site.channels) for site in seen] == [(1, 4), (2, 8), (3, 16)]
    assert not any(isinstance(module, nn.BatchNorm2d) for module in swapped.modules())


def test_skipped_norms_stay_and_do_not_count():
    seen = []
    swapped = swap_norms(net(), lambda site: seen.append(site) or nn.Identity(), skip=("branch*",))
    assert [(site.conv_index, site.channels) for site in seen] == [(1, 4), (2, 16)]
    assert isinstance(swapped["branch"][1], nn.BatchNorm2d)


@pytest.mark.parametrize("placements", [{2: (1,)}, {2: (1, 1)}, {1: (0,)}, {0: ()}])
def test_a_placement_with_a_wrong_number_of_sites_is_refused(placements):
    with pytest.raises(ValueError, match="different site numbers"):
        models.add("no-such-net", net, placements=placements)
    assert "no-such-net" not in models.TABLE
