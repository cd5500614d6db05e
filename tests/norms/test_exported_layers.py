"""A layer for ONNX is the layer, made of operations that ONNX has: `polar` stands for every exact
solver, and no other for one that is not.
"""

import copy
import io
import logging
import subprocess
import sys

import pytest
import torch
from torch import nn
from whitening_layers import WHITENING

from swbench.norms import traced
from swbench.norms.layers import SwitchWhiten2d
from swbench.norms.onnx_solver import Exported, exported
from swbench.solvers import get, spectra

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
WITHOUT_A_FORM = (
    "aten::linalg_eigh",
    "aten::linalg_cholesky_ex",
    "aten::mT",
    "aten::add_",
    "aten::mul_",
    "aten::isfinite",
)


@pytest.fixture
def as_for_onnx(monkeypatch):
    monkeypatch.setattr(traced, "exporting", lambda: True)


def test_checking_for_an_export_imports_nothing():
    code = (
        "import sys, torch; from swbench import SwitchWhiten2d; SwitchWhiten2d(8, "
        "4)(torch.ones(1, 8, 2, 2)); print('torch.onnx' in sys.modules)"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "False\n"
    )


def built(name, **options):
    cls, given = WHITENING[name]
    layer = cls(8, 4, **given, **options)
    for _ in range(20):
        layer(2 * torch.randn(4, 8, 6, 6) + 1)
    return layer.eval()


@pytest.mark.parametrize("solver", ["auto", "eigh", "polar:steps=9"])
@pytest.mark.parametrize("name", WHITENING)
def test_the_export_equals_the_layer_at_any_size(name, solver, as_for_onnx):
    layer = built(name, solver=solver)
    traced = torch.jit.trace(copy.deepcopy(layer), torch.randn(2, 8, 5, 6))
    for shape in ((1, 8, 6, 5), (3, 8, 7, 9)):
        x = 3 * torch.randn(shape) + 1
        torch.testing.assert_close(traced(x), layer(x), rtol=1e-4, atol=1e-4)
    assert not [
        line
        for line in str(traced.inlined_graph).splitlines()
        if any(f"{name}(" in line for name in WITHOUT_A_FORM)
    ]


def test_chosen_reports_polar_in_an_export(as_for_onnx):
    layer = SwitchWhiten2d(8, 4, solver="eigh").eval()
    # which calls the layer itself
    torch.jit.trace(layer, torch.randn(2, 8, 4, 4), check_trace=False)
    assert layer.chosen == {"solver": "polar", "kernels": "torch"}


@pytest.mark.parametrize("solver", ["newton5", "cholesky"])
def test_a_solver_that_is_not_exact_is_refused(solver, as_for_onnx):
    with pytest.raises(
        ValueError,
        match=(
            rf"'{solver}' \(.+\) cannot be exported to ONNX, where every exact solver becomes "
            r"'polar'"
        ),
    ):
        torch.jit.trace(SwitchWhiten2d(8, 4, solver=solver).eval(), torch.randn(2, 8, 4, 4))


def test_an_export_uses_the_options_of_polar():
    for spec in ("polar:steps=9,low=0.01", get("polar:steps=9,low=0.01")):
        layer = SwitchWhiten2d(8, 4, solver=spec)
        assert exported(layer.solver) == (Exported(steps=9, low=0.01), "polar")


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 5e-5), (torch.float64, 1e-10)])
def test_the_export_solver_agrees_with_polar(dtype, near):
    cov = spectra.covariances("kappa=1e3", 5, 16).to(dtype)
    cov[2] = torch.nan
    actual, _ = Exported().forward(cov)
    expected, _ = get("polar").forward(cov)
    torch.testing.assert_close(actual, expected, equal_nan=True, rtol=0, atol=near)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "dynamo"),
    [
        ("bw", False),
        ("swb", False),
        pytest.param("bw", True, marks=pytest.mark.slow),
        ("swb", True),
    ],
)
def test_onnxruntime_runs_the_export(name, dynamo, tmp_path, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    if dynamo and torch.__version__ < (2, 11):
        pytest.skip("checked from torch 2.11 on; 2.6 does not say that it exports")
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)
    network, x = (
        nn.Sequential(nn.Conv2d(3, 8, 3), built(name), nn.ReLU()).eval(),
        torch.randn(2, 3, 9, 9),
    )
    file = tmp_path / "network.onnx"
    if dynamo:
        sizes = {
            axis: torch.export.Dim(word)
            for axis, word in ((0, "images"), (2, "height"), (3, "width"))
        }
        torch.onnx.export(network, (x,), dynamo=True, dynamic_shapes=(sizes,), verbose=False).save(
            str(file)
        )
    else:
        written = io.BytesIO()
        torch.onnx.export(
            network, (x,), written, dynamo=False, input_names=["x"], dynamic_axes={"x": [0, 2, 3]}
        )
        file.write_bytes(written.getvalue())
    runs = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for given in (x, torch.randn(3, 3, 7, 8)):
        (actual,) = runs.run(None, {runs.get_inputs()[0].name: given.numpy()})
        torch.testing.assert_close(torch.from_numpy(actual), network(given), rtol=1e-4, atol=1e-4)
