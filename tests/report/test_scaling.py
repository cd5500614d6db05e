"""Predictions are sums over layers, and are held to what was measured of the same rows."""

import dataclasses

import pytest
from stored_runs import network_group, results_of, stored

from swbench.report import scaling
from swbench.report.link import GATHER, REDUCE, Collective, Link
from swbench.result import Measurement

LINKS = {
    kind: Link(kind, (2, 4), 1e-3, 1e-4, 1e-9, error=0.1 if kind == GATHER else 0.3)
    for kind in (GATHER, REDUCE)
}
LAYERS = (1092.0, 2180.0)
SIZES = (16, 4096, 65_536)


def spread(world=2, exposed_s=0.0, late_s=0.0, varying_s=0.0):
    """A run on `world` ranks of `LINKS`: layers of a row cost `exposed_s` a step, more or less, and
    every other collective is late.
    """
    group = network_group(rows=[("swa", 7, "auto", "ResNet50-SW^a")], world=world)
    sizes = [float(size) for size in SIZES for _ in range(4)]
    single = []
    for kind, link in LINKS.items():
        times = [
            link.seconds(world, size) + (late_s if place % 2 else 0.0)
            for place, size in enumerate(sizes)
        ]
        single += [(f"{kind}_bytes", "B", sizes), (f"{kind}_s", "s", times)]
    alone = [("alone_forward_backward_s", "s", (1.0, 1.1, 0.9))]
    base = [("joint_forward_backward_s", "s", (1.2, 1.3, 1.1)), *alone, *single]
    row = [
        (
            "joint_forward_backward_s",
            "s",
            tuple(1.2 + exposed_s + one for one in (0.0, 0.1 + varying_s, -0.1 - varying_s)),
        ),
        *alone,
    ]
    row += [("gather_bytes", "B", LAYERS), ("reduce_bytes", "B", tuple(one - 4 for one in LAYERS))]
    return stored([group], results_of(group, measurements={0: base, 2: row}), ())


def test_of_each_size_the_lower_quartile_is_kept_which_late_ranks_do_not_move():
    calm, late = (scaling.measured(spread(late_s=late_s)) for late_s in (0.0, 4e-3))
    assert [(one.kind, one.world, one.nbytes) for one in calm] == [
        (kind, 2, size) for kind in (GATHER, REDUCE) for size in SIZES
    ]
    for one in calm:
        assert one.seconds == pytest.approx(LINKS[one.kind].seconds(2, one.nbytes))
    assert [one.seconds for one in late] == pytest.approx([one.seconds for one in calm])


def test_a_prediction_is_the_sum_over_layers_with_the_fits_error():
    (one,) = scaling.predict(spread(), LINKS, [64])
    each = [LINKS[GATHER].between(64, size) for size in LAYERS] + [
        LINKS[REDUCE].between(64, size - 4) for size in LAYERS
    ]
    assert (one.low_s, one.high_s) == pytest.approx(
        (sum(low for low, _ in each), sum(high for _, high in each))
    )
    assert (one.row, one.layers, one.error) == ("ResNet50-SW^a", 2, 0.3)


@pytest.mark.parametrize(
    ("exposed_s", "verdict"), [(5e-3, "holds"), (50e-3, "does not hold"), (0.0, "does not hold")]
)
def test_rows_are_held_to_what_their_layers_cost_beyond_the_baseline(exposed_s, verdict):
    (one,) = scaling.check(spread(exposed_s=exposed_s), LINKS)
    assert one.exposed_s == pytest.approx(exposed_s)
    assert one.noise_s == pytest.approx(0, abs=1e-12)
    assert one.predicted_s == pytest.approx(2 * 1.1e-3 + 2 * 1.2e-3, rel=1e-2)
    assert one.verdict == verdict


def test_steps_that_vary_by_more_than_is_predicted_tell_nothing():
    (one,) = scaling.check(spread(exposed_s=20e-3, varying_s=0.1), LINKS)
    assert one.noise_s > 5e-3
    assert one.verdict == "too noisy to tell"


def test_what_the_baseline_sends_as_well_is_not_the_whitening_layers():
    """On CUDA every batch normalisation is synchronised, in the baseline and in the rows, and is
    never turned off.
    """
    run = spread()
    baseline, (*_, row) = run.plan.groups[0].baseline.key, run.plan.groups[0].cases
    own = (
        Measurement("gather_bytes", "B", (100.0, 200.0)),
        Measurement("reduce_bytes", "B", (96.0, 196.0)),
    )
    both = (
        Measurement("gather_bytes", "B", (100.0, *LAYERS)),
        Measurement("reduce_bytes", "B", (96.0, *(one - 4 for one in LAYERS))),
    )
    kept = {"gather_bytes", "reduce_bytes"}
    results = []
    for one in run.results:
        rest = tuple(m for m in one.measurements if m.metric not in kept)
        sent = own if one.case == baseline else both if one.case == row.key else ()
        results.append(dataclasses.replace(one, measurements=rest + sent))
    (found,) = scaling.check(dataclasses.replace(run, results=tuple(results)), LINKS)
    assert found.predicted_s == pytest.approx(scaling.check(run, LINKS)[0].predicted_s)


def test_without_the_baselines_own_cost_nothing_is_held_against_a_row():
    run = spread()
    run = dataclasses.replace(
        run,
        results=tuple(one for one in run.results if one.case != run.plan.groups[0].baseline.key),
    )
    (one,) = scaling.check(run, LINKS)
    assert one.exposed_s is None
    assert one.verdict == "not measured"


def test_both_kinds_are_fitted():
    found = scaling.links(scaling.measured(spread()))
    assert set(found) == {GATHER, REDUCE}
    with pytest.raises(ValueError, match="three sizes"):
        scaling.links([Collective(GATHER, 2, 16.0, 1e-3)])
