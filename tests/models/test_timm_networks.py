"""timm's networks are converted and stay what they were; `benchmarks/own_networks.py` checks 40, a
few of them here.
"""

import importlib.util
import sys
from pathlib import Path

import pytest


def _script():
    path = Path(__file__).parents[2] / "benchmarks" / "own_networks.py"
    spec = importlib.util.spec_from_file_location("own_networks_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclass looks for its annotations
    spec.loader.exec_module(module)
    return module


own_networks = _script()


@pytest.mark.parametrize("name", ["regnetx_002", "mobilenetv3_small_100", "lcnet_050"])
def test_conversion_of_no_site_or_to_bn_or_bw_keeps_the_output(name):
    row = own_networks.check(name)
    assert row.faults == ()
    assert row.bw_eval < 1e-12
    assert row.swa_eval > 0.01
    assert row.sites > row.whitened / 2 > 5


def test_a_network_without_batch_normalisation_is_refused():
    row = own_networks.check("convnext_atto")
    assert row.refused.startswith("it has 17 LayerNorm2d")
    assert row.faults == ()


def test_a_changed_network_is_detected(monkeypatch):
    """The comparison can fail."""

    def other(model, norm, where=None, **options):
        converted = convert(model, norm, where, **options) if where is not None else model
        for parameter in list(converted.parameters())[-1:]:
            parameter.data += 1
        return converted

    convert = own_networks.convert_norms
    monkeypatch.setattr(own_networks, "convert_norms", other)
    assert "converting no site changed an output" in own_networks.check("lcnet_050").faults


def test_the_docs_name_every_network():
    page = (Path(__file__).parents[2] / "docs" / "own-networks.md").read_text()
    for name in (*own_networks.NETWORKS, *own_networks.REFUSED):
        assert f"| {name} |" in page
