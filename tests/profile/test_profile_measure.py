import json

import pytest
import torch
from torch import nn

from swbench import models
from swbench.case import Case
from swbench.errors import SchemaTooNew, StoreDamaged
from swbench.norms.kernels.torch_ops import TorchBackend
from swbench.profile import operators
from swbench.profile.annotations import annotated, kind_of, profiled_modules
from swbench.profile.attribution import HARNESS, UNEVEN, UNKNOWN, break_down, parts_of
from swbench.profile.launch import load, save
from swbench.profile.measure import _profile_call, measure, quicker_half, remarks
from swbench.profile.types import (
    BACKWARD,
    CONV,
    FORWARD,
    NORM,
    PHASES,
    REMAINDER,
    Part,
    Profile,
    Roof,
)
from swbench.solvers.eigh import Eigh

CASE = Case(
    model="resnet20", norm="swa", layers=5, solver="eigh", classes=10, image=(16, 16), batch=2
)


def low_roof(device, dtype):
    return Roof(flops_per_s=1e9, bytes_per_s=1e9)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    trace = tmp_path_factory.mktemp("trace") / "trace.json"
    torch.manual_seed(0)
    return measure(CASE, 2, trace, calibration=low_roof), trace


@pytest.fixture(scope="module")
def profile(measured):
    return measured[0]


class Bare:
    """A profiled workload of any model."""

    device = torch.device("cpu")

    def __init__(self, model, x):
        self.model, self.inputs = model, (x,)
        self.cotangent = torch.ones_like(model(x))

    def backward(self, y):
        y.backward(self.cotangent)

    def wait(self):
        pass


def broken_down(model, x):
    kinds = {path: kind_of(module) for path, module in profiled_modules(model).items()}
    return break_down(_profile_call(Bare(model, x)), kinds, "cpu")


@pytest.mark.parametrize("phase", PHASES)
def test_shares_add_up_to_the_total(profile, phase):
    assert sum(layer.seconds(phase) for layer in profile.layers) == pytest.approx(
        profile.total_s(phase), rel=1e-6
    )
    assert sum(profile.by_operator(phase).values()) == pytest.approx(
        profile.total_s(phase), rel=1e-6
    )


@pytest.mark.parametrize("phase", PHASES)
def test_every_nanosecond_of_one_call_is_attributed_once(phase):
    parts = broken_down(models.build("resnet20", "swb", 5), torch.randn(2, 3, 16, 16))
    assert sum(
        spent.seconds for (_, _, of), spent in parts.spent.items() if of == phase
    ) == pytest.approx(parts.total_s[phase], abs=1e-7)
    assert min(spent.seconds for spent in parts.spent.values()) >= 0


def test_every_convolution_and_norm_has_time_in_both_phases(profile):
    model = models.build(CASE.model, CASE.norm, CASE.layers, num_classes=10)
    expected = {path for path, module in model.named_modules() if kind_of(module) in (CONV, NORM)}
    timed = {
        layer.path
        for layer in profile.layers
        if layer.kind in (CONV, NORM) and layer.seconds(FORWARD) > 0 and layer.seconds(BACKWARD) > 0
    }
    assert timed == expected


def test_whitening_layers_are_split_into_their_parts(profile):
    by_path = {layer.path: layer for layer in profile.layers}
    for phase in PHASES:
        parts = {part.operator for part in by_path["bn1"].parts if part.phase == phase}
        assert {
            operators.MOMENTS,
            operators.SOLVE,
            operators.ALGEBRA,
            operators.APPLY,
            operators.REST,
        } == parts - {operators.ACCUMULATION, operators.PYTHON}
        assert operators.FUSED in {
            part.operator for part in by_path["layer1.0.bn1"].parts if part.phase == phase
        }
        assert operators.CONVOLUTION in {
            part.operator for part in by_path["conv1"].parts if part.phase == phase
        }


def test_no_backward_time_of_a_network_is_left_unattributed(profile):
    assert UNKNOWN not in {layer.path for layer in profile.layers}


def test_the_residual_addition_belongs_to_its_block(profile):
    block = next(layer for layer in profile.layers if layer.path == "layer1.0")
    assert operators.ADDITION in {part.operator for part in block.parts}


class Leaky(nn.Module):
    """Calls autograd on its own in between, so that its backward meets a node that no operation of
    the forward made.
    """

    def forward(self, x):
        return Strange.apply(x)


class Strange(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, dy):
        with torch.enable_grad():
            hidden = dy.detach().requires_grad_()
            (hidden.cos().sum()).backward()
        return dy * 2


def test_nodes_of_unknown_origin_are_a_named_remainder():
    parts = broken_down(nn.Sequential(nn.Conv2d(3, 4, 3), Leaky()), torch.randn(1, 3, 8, 8))
    assert any(path == UNKNOWN and spent.seconds > 0 for (path, _, _), spent in parts.spent.items())


def test_time_outside_the_model_is_named(profile):
    assert HARNESS in {layer.path for layer in profile.layers if layer.kind == REMAINDER}


def test_the_difference_to_the_medians_is_a_remainder():
    model, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)), torch.randn(1, 3, 8, 8)
    calls = [broken_down(model, x) for _ in range(2)]
    for call in calls:
        call.total_s[FORWARD] += 5.0
    assert parts_of(calls)[UNEVEN][0].seconds == pytest.approx(5.0, abs=1e-3)


class OwnNorm(nn.Module):
    """A user's norm, made of modules."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())

    def forward(self, x):
        return self.inner(x) - x.mean()

    def paper_flops(self, shape):
        return 1


def test_a_users_norm_is_one_row():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), OwnNorm(), nn.ReLU(inplace=True))
    assert list(profiled_modules(model)) == ["", "0", "1", "2"]
    parts = broken_down(model, torch.randn(1, 3, 8, 8))
    assert {operator for path, operator, _ in parts.spent if path == "1"} == {
        operators.REST,
        operators.ACCUMULATION,
        operators.PYTHON,
    }


def test_the_quicker_half_counts(profile):
    assert quicker_half([3.0, 1.0, 2.0]) == {1, 2}
    assert quicker_half([3.0]) == {0}
    assert sum(iteration.used for iteration in profile.iterations) == 1


def part(operator, seconds):
    return Part(phase=FORWARD, operator=operator, seconds=seconds, host_s=seconds, launches=0)


def test_a_fused_solve_and_uneven_calls_are_remarked():
    uneven = {UNEVEN: (part(operators.UNEVEN, 0.01),)}
    solved = {"a": (part(operators.ALGEBRA, 1.0), part(operators.SOLVE, 1.0))}
    assert remarks({"a": NORM}, {**uneven, **solved}) == ()
    (fused,) = remarks({"a": NORM}, {**uneven, "a": (part(operators.ALGEBRA, 1.0),)})
    assert "holds the solve" in fused
    (busy,) = remarks({"a": NORM}, {**solved, UNEVEN: (part(operators.UNEVEN, 2.0),)})
    assert "50%" in busy


def test_annotations_are_removed_at_the_end():
    model = models.build("resnet20", "bw", 5)
    before = contract_methods()
    with annotated(model):
        assert not any(
            method is original for method, original in zip(before, contract_methods(), strict=True)
        )
        with pytest.raises(ValueError, match="shape"):
            model.bn1(torch.zeros(3))
    assert contract_methods() == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def contract_methods():
    return [TorchBackend.moments, TorchBackend.small_gradients, Eigh.forward, Eigh.gradient]


def test_json_round_trip_and_file(profile, tmp_path):
    assert Profile.from_json(json.loads(json.dumps(profile.to_json()))) == profile
    assert load(save(profile, tmp_path / "p").parent) == profile


def test_a_file_that_is_no_profile_is_refused(profile, tmp_path):
    with pytest.raises(SchemaTooNew):
        Profile.from_json({**profile.to_json(), "schema": 99})
    with pytest.raises(StoreDamaged):
        Profile.from_json({"schema": 1})
    with pytest.raises(StoreDamaged):
        Profile.from_json({"schema": 1, "kind": "profile"})
    (tmp_path / "profile.json").write_text("{")
    with pytest.raises(StoreDamaged, match=r"profile\.json"):
        load(tmp_path)


def test_the_trace_is_a_timeline_with_the_layers_in_it(measured):
    events = json.loads(measured[1].read_text())["traceEvents"]
    names = {event.get("name") for event in events if event.get("ph") == "X"}
    assert {"swbench/layer/conv1", "swbench/part/norm: solve", "swbench/phase/backward"} <= names
