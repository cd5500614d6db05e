"""Layers under stress: inputs match their names, errors are against float64, and a layer that
raises or learns nothing is a result.
"""

import pytest
import torch

from swbench.case import TEXTBOOK, TRAINING, StabilityCase
from swbench.probes.hostile_inputs import INPUTS, SMALLEST, hostile_input
from swbench.probes.stability import EPS, InputWorkload, TrainingWorkload, build_layer
from swbench.probes.stability_training import CHANCE, CLASSES, FINAL_STEPS, train

WHITENING = ("bw", "iw", "swa", "swb")


def case(**fields):
    return StabilityCase(**{"norm": "bw", "solver": "eigh", "trial": "ordinary"} | fields)


def measured(load):
    load.call()
    return {measurement.metric: measurement.samples for measurement in load.finish()}


def covariance(x):
    """Covariance of every group of 16 channels over the full batch."""
    columns = x.double().transpose(0, 1).reshape(-1, 16, x.numel() // x.shape[1])
    return torch.stack([torch.cov(each, correction=0) for each in columns])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", INPUTS)
def test_an_input_is_finite_and_the_same_each_time(name, dtype):
    x = hostile_input(name, 4, 8, dtype, seed=3)
    assert x.dtype == dtype
    assert x.shape[1] == 16
    assert x.isfinite().all()
    assert torch.equal(x, hostile_input(name, 4, 8, dtype, seed=3))


@pytest.mark.parametrize("power", [4, 6, 8])
def test_a_condition_number_is_the_one_in_the_name(power):
    lam = torch.linalg.eigvalsh(
        covariance(hostile_input(f"kappa-1e{power}", 2, 16, torch.float64, 0))
    )
    assert (lam[:, -1] / lam[:, 0]).log10().tolist() == pytest.approx([power] * 2, abs=1e-3)
    assert lam[:, 0].tolist() == pytest.approx([SMALLEST] * 2, rel=1e-3)
    assert SMALLEST >= 10 * EPS


def test_inputs_match_their_names():
    def named(name):
        return hostile_input(name, 4, 16, torch.float64, 0)

    far = named("mean-1e4")
    deviation = far.std((0, 2, 3), correction=0)
    assert (far.mean((0, 2, 3)).abs() / deviation).tolist() == pytest.approx([1e4] * 32)
    assert (named("dead")[:, 1::2] == 0).all()
    assert torch.equal(named("duplicated")[:, 1::2], named("duplicated")[:, ::2])
    few = named("few-pixels")
    assert few.numel() // few.shape[1] < 16
    assert named("one-pixel").shape == (1, 32, 1, 1)
    assert named("large").abs().max() == 0.9 * torch.finfo(torch.float64).max
    constant = named("constant")
    assert (constant == constant[:, :, :1, :1]).all()
    assert constant[:, 0, 0, 0].unique().numel() == 4
    contrast = named("outlier").flatten(1).std(1)
    assert (contrast[0] / contrast[1:]).tolist() == pytest.approx([1000] * 3, rel=0.2)


def test_an_unknown_input_raises_a_key_error():
    with pytest.raises(KeyError):
        hostile_input("kappa-1e5", 1, 16, torch.float32, 0)


@pytest.mark.parametrize("norm", WHITENING)
def test_the_textbook_layer_equals_the_layer(norm):
    """Where no eigenvalues are equal, autograd through eigh is exact, and in float64 both agree."""
    x = hostile_input("ordinary", 3, 16, torch.float64, 1)
    dy, outcomes = torch.randn_like(x), []
    for solver in (TEXTBOOK, "eigh"):
        layer = build_layer(case(norm=norm, solver=solver), 32).double()
        leaf = x.clone().requires_grad_()
        y = layer(leaf)
        y.backward(dy)
        outcomes.append((y, leaf.grad))
    for textbook, ours in zip(*outcomes, strict=True):
        assert ((textbook - ours).norm() / ours.norm()).item() < 1e-10


@pytest.mark.parametrize(("norm", "solver"), [("bn", None), ("swb", "eigh"), ("iw", "newton5")])
def test_an_ordinary_input_leaves_the_digits_of_the_dtype(norm, solver):
    for dtype, unit in (("float32", 6e-8), ("bfloat16", 4e-3), ("amp-float16", 5e-4)):
        samples = measured(InputWorkload(case(norm=norm, solver=solver, dtype=dtype)))
        assert 0 < samples["y_error"][0] < 20 * unit
        assert 0 < samples["dx_error"][0] < 20 * unit
        shares = {name: value for name, value in samples.items() if name.endswith("share")}
        assert len(shares) == 3
        assert set(shares.values()) == {(0.0,)}


def test_an_error_is_of_the_layer_in_float64():
    """The errors of a layer that doubles y and triples dx are 1 and 2."""
    load = InputWorkload(case(norm="bn", solver=None))

    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y):
            return 2 * y

        @staticmethod
        def backward(ctx, dy):
            return 3 * dy

    load._layer.register_forward_hook(lambda module, given, y: Twice.apply(y))
    samples = measured(load)
    assert samples["y_error"][0] == pytest.approx(1, rel=1e-5)
    assert samples["dx_error"][0] == pytest.approx(2, rel=1e-5)


def test_a_layer_that_raises_is_a_finding():
    load = InputWorkload(case(norm="bn", solver=None, trial="one-pixel"))
    samples = measured(load)
    assert load.chosen["raised"].startswith("ValueError: Expected more than 1 value per channel")
    assert samples["y_error"] == samples["dx_error"] == ()
    assert samples["y_nonfinite_share"] == samples["parameters_nonfinite_share"] == (1.0,)


def test_a_tensor_that_is_not_finite_has_no_error():
    samples = measured(InputWorkload(case(solver="eigh:backward=paper", trial="dead")))
    assert samples["y_error"][0] < 1e-3
    assert samples["dx_error"] == ()
    assert samples["dx_nonfinite_share"][0] > 0


@pytest.mark.parametrize("norm", WHITENING)
@pytest.mark.parametrize("solver", ["polar", "polar-native", "newton", "denman-beavers"])
def test_fewer_pixels_than_channels_leave_a_gradient(norm, solver):
    """It was off by 3 in an IW layer before the Lyapunov iteration reached the one eigenvalue that
    the many others, all ε, put out of its interval.
    """
    samples = measured(InputWorkload(case(norm=norm, solver=solver, trial="few-pixels")))
    assert samples["y_error"][0] < 1e-2
    assert samples["dx_error"][0] < 5e-2


def training(**fields):
    return TrainingWorkload(case(trial=TRAINING, **{"steps": 60, "seeds": 2} | fields))


@pytest.mark.parametrize(
    ("norm", "solver", "dtype"),
    [("bn", None, "float32"), ("swa", "polar-native", "float32"), ("bw", TEXTBOOK, "amp-float16")],
)
def test_the_task_can_be_learnt(norm, solver, dtype):
    fields = {"dtype": dtype, "learning_rate": 1.0, "steps": 120, "seeds": 1}
    samples = measured(training(norm=norm, solver=solver, **fields))
    assert samples["broken"] == (0.0,)
    assert samples["final_loss"][0] < 0.7 * CHANCE


def test_a_rate_that_is_too_high_breaks():
    samples = measured(training(norm="bn", solver=None, learning_rate=1e6))
    assert samples["broken"] == (1.0, 1.0)


def test_training_ends_at_a_loss_that_is_not_finite_and_where_the_network_raises():
    task = training(seeds=1)._task_for(0)
    losses = iter([1.0, float("nan")])
    task.step = lambda: torch.tensor(next(losses))
    assert train(task, 3).broken

    def fail():
        raise torch.linalg.LinAlgError("eigh: the input is\nnot finite")

    task.step = fail
    outcome = train(task, 3)
    assert outcome.broken
    assert outcome.reason.endswith("LinAlgError: eigh: the input is not finite")


def test_training_that_learns_nothing_is_broken_by_its_last_losses():
    task = training(seeds=1)._task_for(0)
    task.step = lambda: torch.tensor(CHANCE)
    assert train(task, FINAL_STEPS).broken
    losses = iter([CHANCE] * 5 + [0.5] * FINAL_STEPS)
    task.step = lambda: torch.tensor(next(losses))
    assert train(task, 5 + FINAL_STEPS) == (0.5, False, "")


def test_data_depend_on_the_seed_alone():
    (images, classes), (same_images, _), (other_images, _) = (
        training(norm=norm)._task_for(seed).data()
        for norm, seed in (("bw", 0), ("iw", 0), ("bw", 1))
    )
    assert torch.equal(images, same_images)
    assert not torch.equal(images, other_images)
    assert images.shape == (8, 27, 8, 8)
    assert 0 <= classes.min() <= classes.max() < CLASSES


def test_float16_under_autocast_scales_gradients():
    assert training(dtype="amp-float16")._task_for(0)._scaler.is_enabled()
    assert not training(dtype="amp-bfloat16")._task_for(0)._scaler.is_enabled()
    assert not training(dtype="float32")._task_for(0)._scaler.is_enabled()
