import dataclasses
import math

import pytest
from scipy import stats

from swbench.case import BASELINE, Case
from swbench.plan import FASTER_HALF, MEDIAN, Group, Plan, Protocol
from swbench.result import Round
from swbench.run.estimate import BETWEEN_PROCESSES_SD, estimate

BN, SWA = Case(model="m", role=BASELINE), Case(model="m", norm="swa")
GROUP = Group(name="g", cases=(BN, SWA), rows=("BN", "SW"))


def plan(groups=(GROUP,), **protocol):
    settings = {"iterations": 100, "replicates": 5, "warmup_s": 2.0, "warmup_calls": 3, **protocol}
    return Plan(
        suite="s",
        title="S",
        kind="network",
        groups=groups,
        metrics=("time",),
        protocol=Protocol(**settings),
    )


def rounds(replicates=1, count=4, ratio=lambda k, i: 1.5):
    return [
        Round(
            group="g",
            replicate=k,
            attempt="1",
            index=i,
            order=(),
            samples={BN.key: {"forward_s": 0.1}, SWA.key: {"forward_s": 0.1 * ratio(k, i)}},
        )
        for k in range(replicates)
        for i in range(count)
    ]


def test_time_is_start_warm_up_and_rounds_of_every_replicate():
    assert estimate(rounds(), plan(), startup_s=3.0).seconds == pytest.approx(
        5 * (3 + 2 * 2.0 + 20 * 0.25)
    )
    assert estimate(rounds(), plan(warmup_s=0.0, warmup_cap_s=0.0)).seconds == pytest.approx(
        5 * (3 * 0.25 + 20 * 0.25)
    )


def test_half_width_of_constant_rounds_is_the_deviation_between_processes():
    got = estimate(rounds(), plan())
    assert got.half_width == pytest.approx(
        stats.t.ppf(0.975, 4) * BETWEEN_PROCESSES_SD / math.sqrt(5)
    )
    assert got.line() == "about 45 s for 5 replicates of 20 rounds; ratios to about ±0.37 %"


def test_noise_between_rounds_adds_the_error_of_a_median():
    noisy = rounds(ratio=lambda k, i: math.exp(0.1 * (-1) ** i))
    deviation = math.hypot(BETWEEN_PROCESSES_SD, 1.2533 * math.sqrt(4 / 3) * 0.1 / math.sqrt(20))
    assert estimate(noisy, plan()).half_width == pytest.approx(
        stats.t.ppf(0.975, 4) * deviation / math.sqrt(5)
    )


def test_faster_half_has_a_narrower_interval_than_the_median():
    noisy = rounds(ratio=lambda k, i: math.exp(0.1 * (-1) ** i))
    half, median = (
        estimate(noisy, plan(estimator=name)).half_width for name in (FASTER_HALF, MEDIAN)
    )
    deviation = math.hypot(BETWEEN_PROCESSES_SD, 0.8 * math.sqrt(4 / 3) * 0.1 / math.sqrt(20))
    assert half == pytest.approx(stats.t.ppf(0.975, 4) * deviation / math.sqrt(5))
    assert half < median


def test_deviation_is_estimated_from_four_processes_on():
    seen = rounds(replicates=4, ratio=lambda k, i: math.exp(0.1 * k))
    deviation = 0.1 * math.sqrt(5 / 3)
    assert estimate(seen, plan()).half_width == pytest.approx(
        stats.t.ppf(0.975, 4) * deviation / math.sqrt(5)
    )


def test_a_target_picks_the_first_look_expected_to_reach_it():
    assert estimate(rounds(), plan(target_ci=0.005)).replicates == 8
    assert estimate(rounds(), plan(target_ci=0.0005)).replicates == 32


def test_each_group_has_the_replicates_that_it_needs():
    """One group's calls scatter, the other's do not; each has the time of its own replicates."""
    still = Group(name="still", cases=GROUP.cases, rows=GROUP.rows)
    seen = rounds(ratio=lambda k, i: math.exp(0.03 * (-1) ** i))
    seen += [dataclasses.replace(item, group="still") for item in rounds()]
    times = {"g": 100.0, "still": 1000.0}
    got = estimate(seen, plan((GROUP, still), target_ci=0.01), replicate_s=times)
    assert (got.fewest, got.replicates) == (4, 16)
    assert got.seconds == 16 * 100.0 + 4 * 1000.0
    assert "for 4 to 16 replicates of 20 rounds" in got.line()
    deviation = math.hypot(BETWEEN_PROCESSES_SD, 1.2533 * math.sqrt(4 / 3) * 0.03 / math.sqrt(20))
    widths = [
        stats.t.ppf(1 - 0.0125 / 2, k - 1) * sd / math.sqrt(k)
        for k, sd in ((16, deviation), (4, BETWEEN_PROCESSES_SD))
    ]
    assert got.half_width == pytest.approx(max(widths))


def test_a_group_that_has_stopped_keeps_its_replicates():
    got = estimate(rounds(), plan(target_ci=0.0005), replicate_s={"g": 10.0}, settled={"g": 8})
    assert (got.fewest, got.replicates, got.seconds) == (8, 8, 80.0)


@pytest.mark.parametrize(("done", "expected"), [(0, 4), (3, 4), (4, 8), (6, 8), (16, 32)])
def test_a_look_that_is_over_is_not_expected(done, expected):
    got = estimate(rounds(), plan(target_ci=0.5), done={"g": done})
    assert got.replicates == expected


def test_one_replicate_has_no_interval():
    assert "no intervals" in estimate(rounds(), plan(replicates=1)).line()


def test_cpu_time_of_threads_is_not_added_to_wall_time():
    """Two threads use 1.9 s of CPU a second: time on the wall is what a run takes."""
    samples = {
        key: {"forward_s": 0.1, "forward_backward_s": 0.5, "forward_backward_cpu_s": 0.95}
        for key in (BN.key, SWA.key)
    }
    seen = [
        Round(group="g", replicate=0, attempt="1", index=i, order=(), samples=samples)
        for i in range(3)
    ]
    assert estimate(seen, plan(), before_s={"g": 7.0}).seconds == pytest.approx(5 * (7 + 20 * 1.0))


def test_gpu_call_time_is_that_of_its_block():
    """A sample is the mean of a block of 50 iterations; what a round takes is on the wall."""
    samples = {
        key: {"forward_s": 0.001, "forward_backward_s": 0.002, "forward_backward_wall_s": 0.002}
        for key in (BN.key, SWA.key)
    }
    seen = [
        Round(
            group="g",
            replicate=0,
            attempt="1",
            index=i,
            order=(),
            samples=samples,
            disturbance={"wall_s": 0.2},
        )
        for i in range(3)
    ]
    assert estimate(seen, plan(warmup_s=0.0, warmup_cap_s=0.0)).seconds == pytest.approx(
        5 * (2 * 3 * 0.1 + 20 * 0.2)
    )


def test_estimated_warm_up_lasts_two_windows_or_the_cap():
    def warm_up(**protocol):
        return estimate(rounds(), plan(**protocol)).seconds / 5 - 20 * 0.25

    assert warm_up(warmup_s=0.0, warmup_cap_s=6.0) == pytest.approx(6 * 0.25)
    assert warm_up(warmup_s=0.0, warmup_cap_s=0.75) == pytest.approx(6 * 0.1 + 0.75)
    assert warm_up(warmup_s=3.0, warmup_cap_s=1.2) == pytest.approx(2 * 3.0)


def test_a_group_without_a_round_is_scaled_by_flops_where_they_are_known():
    large = Group(
        name="large", cases=(Case(model="m", image=(713, 713), role=BASELINE),), rows=("BN",)
    )
    elsewhere = Group(
        name="gpu", cases=(Case(model="m", device="cuda", threads=0, role=BASELINE),), rows=("BN",)
    )
    work = {BN.key: 1e9, SWA.key: 1e9, large.cases[0].key: 20e9, elsewhere.cases[0].key: 1e9}
    got = estimate(rounds(), plan(groups=(GROUP, large, elsewhere), warmup_cap_s=2.0), work=work)
    call_s = 20 * 0.125
    assert got.seconds == pytest.approx(5 * (2 * 2.0 + 20 * 0.25 + 3 * call_s + 20 * call_s))
    assert got.line().endswith("; the time of large scaled by FLOPs; without gpu")


def test_estimate_names_groups_without_a_round():
    other = Group(name="other", cases=(BN,), rows=("BN",))
    assert estimate(rounds(), plan(groups=(GROUP, other))).without_rounds == ("other",)
    with pytest.raises(ValueError, match="needs a round"):
        estimate([], plan())


def test_group_without_a_baseline_has_a_time_and_no_interval():
    alone = Group(name="g", cases=(SWA,), rows=("SW",))
    without_rounds = Group(name="other", cases=(BN,), rows=("BN",))
    expected = estimate(
        rounds(replicates=2), plan((alone, without_rounds)), work={SWA.key: 2.0, BN.key: 1.0}
    )
    assert expected.half_width == 0
    assert expected.scaled == ("other",)
