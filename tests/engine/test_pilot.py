import math

import pytest
from scipy import stats

from swbench.case import BASELINE, Case
from swbench.engine.pilot import BETWEEN, estimate
from swbench.plan import Group, Plan, Protocol
from swbench.result import Round

BN, SWA = Case(model="m", role=BASELINE), Case(model="m", norm="swa")
GROUP = Group(name="g", cases=(BN, SWA), rows=("BN", "SW"))


def plan(groups=(GROUP,), **protocol):
    settings = {"iterations": 100, "replicates": 5, "warmup_s": 2.0, "warmup_calls": 3, **protocol}
    return Plan(suite="s", title="S", kind="network", groups=groups, metrics=("time",), protocol=Protocol(**settings))


def rounds(replicates=1, count=4, ratio=lambda k, i: 1.5):
    return [
        Round(group="g", replicate=k, attempt="1", index=i, order=(), samples={BN.key: {"forward_s": 0.1}, SWA.key: {"forward_s": 0.1 * ratio(k, i)}})
        for k in range(replicates)
        for i in range(count)
    ]


def test_time_is_start_warm_up_and_rounds_of_every_replicate():
    assert estimate(rounds(), plan(), startup_s=3.0).seconds == pytest.approx(5 * (3 + 2 * 2.0 + 20 * 0.25))
    assert estimate(rounds(), plan(warmup_s=0.0)).seconds == pytest.approx(5 * (3 * 0.25 + 20 * 0.25))


def test_precision_of_steady_rounds_is_what_processes_differ_by():
    got = estimate(rounds(), plan())
    assert got.half_width == pytest.approx(stats.t.ppf(0.975, 4) * BETWEEN / math.sqrt(5))
    assert got.line() == "about 45 s for 5 replicates of 20 rounds; ratios to about ±2.5 %"


def test_noise_between_rounds_adds_the_error_of_a_median():
    noisy = rounds(ratio=lambda k, i: math.exp(0.1 * (-1) ** i))
    spread = math.hypot(BETWEEN, 1.2533 * math.sqrt(4 / 3) * 0.1 / math.sqrt(20))
    assert estimate(noisy, plan()).half_width == pytest.approx(stats.t.ppf(0.975, 4) * spread / math.sqrt(5))


def test_four_processes_speak_for_themselves():
    seen = rounds(replicates=4, ratio=lambda k, i: math.exp(0.1 * k))
    spread = 0.1 * math.sqrt(5 / 3)
    assert estimate(seen, plan()).half_width == pytest.approx(stats.t.ppf(0.975, 4) * spread / math.sqrt(5))


def test_a_target_picks_the_first_look_expected_to_reach_it():
    assert estimate(rounds(), plan(target_ci=0.03)).replicates == 8
    assert estimate(rounds(), plan(target_ci=0.001)).replicates == 32


def test_one_replicate_buys_no_interval():
    assert "no intervals" in estimate(rounds(), plan(replicates=1)).line()


def test_groups_without_a_round_are_named():
    other = Group(name="other", cases=(BN,), rows=("BN",))
    assert estimate(rounds(), plan(groups=(GROUP, other))).unseen == ("other",)
    with pytest.raises(ValueError, match="pilot"):
        estimate([], plan())
