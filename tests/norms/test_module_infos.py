"""The checks of torch's own module tests, on the whitening layers and on batch normalisation beside
them; and the table of docs/torch.md, which says what they found.
"""

from pathlib import Path

import pytest
import torch

pytest.importorskip("expecttest", reason="torch's own tests need it")

from module_infos import CHECKS, INFOS

from swbench.norms import custom_ops

pytestmark = [
    # of torch's own making of dual tensors, and of its checks
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
DOCS = Path(__file__).parents[2] / "docs" / "torch.md"


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("layer", INFOS)
def test_layers_pass_torchs_module_checks(layer, check, train):
    CHECKS[check](INFOS[layer], train)


def table():
    """Every check of every layer: all pass, or this file fails."""
    rows = [f"| check | {' | '.join(INFOS)} |", "|---|" + "---|" * len(INFOS)]
    rows += [f"| {check} |" + " passes |" * len(INFOS) for check in CHECKS]
    return "\n".join(rows)


def test_the_table_in_the_docs_matches_the_checks():
    assert table() in DOCS.read_text()


def arguments(*, training, sw_type=5):
    """Those of `torch.ops.swbench.whiten…`."""
    from swbench.norms.layers import SwitchWhiten2d

    layer = SwitchWhiten2d(8, 4, sw_type=sw_type, solver="eigh", kernels="torch").train(training)
    x = torch.randn(2, 8, 3, 4, requires_grad=True)
    return custom_ops.arguments(layer.described(), x, *layer._tensors())


@pytest.mark.parametrize("name", ["whiten", "whiten_training"])
def test_the_operators_pass_opcheck(name):
    given = arguments(training=name == "whiten_training")
    torch.library.opcheck(getattr(torch.ops.swbench, name).default, given)


@pytest.mark.parametrize("name", ["whiten_forward", "whiten_forward_training", "whiten_backward"])
def test_the_inner_operators_pass_opcheck(name):
    training = name != "whiten_forward"
    given = [t.detach() if isinstance(t, torch.Tensor) else t for t in arguments(training=training)]
    if name == "whiten_backward":
        x, gamma, beta, mean, cov, _, _, statistics, group, eps, _, _, solver, kernels, _ = given
        y, workspace = torch.ops.swbench.whiten_forward_training(*given)
        parameters, choice = (gamma, beta, mean, cov), (statistics, group, eps, training, solver)
        given = (torch.randn_like(y), x, *parameters, workspace, *choice, kernels, True)
    torch.library.opcheck(
        getattr(torch.ops.swbench, name).default,
        tuple(given),
        test_utils=("test_schema", "test_faketensor", "test_aot_dispatch_dynamic"),
    )
