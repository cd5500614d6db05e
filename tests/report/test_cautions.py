"""Notes on biased figures: means far from their medians, and rows with carry-over."""

import dataclasses
import math

import pytest
from stored_runs import network_group, results_of, rounds_of, stored, table1

from swbench.report.build import build_table
from swbench.report.exporters import TABLE, export
from swbench.stats.intervals import absolute

LOUD = 3.005


def notes(run, start):
    return [note for note in build_table(run).notes if note.startswith(start)]


def long(*, cost=0.0, slow=0, noise=0.01, slow_s=LOUD, seed=0, metrics=("forward_s",)):
    """Five replicates of twenty rounds. The third case slows the next one down by `cost` in
    `metrics`, and the fourth takes `slow_s` in `slow` rounds.
    """
    group = network_group()
    rounds, victim, guilty = [], group.cases[3].key, group.cases[2].key
    for round_ in rounds_of(
        group, [1, 1, 1.2, 1.25, 1.3], replicates=5, rounds=20, noise=noise, seed=seed
    ):
        before = dict(zip(round_.order[1:], round_.order, strict=False))
        samples = {
            key: {
                metric: value * math.exp(cost)
                if before.get(key) == guilty and metric in metrics
                else value
                for metric, value in times.items()
            }
            for key, times in round_.samples.items()
        }
        if round_.replicate == 0 and round_.index < slow:
            samples[victim] = dict.fromkeys(samples[victim], slow_s)
        rounds.append(dataclasses.replace(round_, samples=samples))
    return stored([group], results_of(group, replicates=5), rounds)


def test_a_mean_that_one_round_moved_is_noted_with_its_median():
    (note,) = notes(long(slow=1), "Mean and median")
    assert "ResNet50-SW^a (cpu batch 1 224x224) F mean 0.27" in note
    assert ", median 0.2" in note
    assert "ResNet50-BW" not in note
    (with_it, without) = (build_table(long(slow=number)).rows[2] for number in (1, 0))
    assert with_it.cell("cpu_f_s").value > 1.1 * without.cell("cpu_f_s").value
    assert with_it.cell("ratio_cpu_f").value == pytest.approx(
        without.cell("ratio_cpu_f").value, rel=0.005
    )


def test_means_near_their_medians_get_no_note():
    assert notes(long(), "Mean and median") == []
    assert notes(table1(), "Mean and median") == []


def test_equal_samples_are_not_skewed_by_rounding():
    for value in (0.1, 0.7, 1 / 3):
        assert not absolute([[value] * 3, [value] * 7]).skewed
    assert absolute([[0.1] * 3, [0.1] * 6 + [0.11]]).skewed
    assert not absolute([[0.1, 0.1, 0.2]]).skewed, "one replicate has no interval"


def test_no_more_than_six_cells_are_named():
    group = network_group(rows=[("swa", layers, "auto", f"row {layers}") for layers in range(9)])
    rounds = [
        dataclasses.replace(
            round_,
            samples={key: dict.fromkeys(times, LOUD) for key, times in round_.samples.items()}
            if (round_.replicate, round_.index) == (0, 0)
            else round_.samples,
        )
        for round_ in rounds_of(group, [1, 1, *[1.2] * 9], replicates=5, rounds=20)
    ]
    (note,) = notes(stored([group], results_of(group, replicates=5), rounds), "Mean and median")
    assert note.count("median 0.") == 6
    assert "; and 14 more." in note


def test_a_carry_over_that_matters_is_noted_with_its_size_and_the_corrected_ratio():
    run = long(cost=0.05, noise=0.03)
    (note,) = notes(run, "Carry-over")
    assert "after ResNet50-BW (cpu batch 1 224x224) F the next takes 5 % longer" in note
    assert "longer than after the baseline (p = " in note
    assert "F+B" not in note
    ratio, right = (
        float(note.partition(word)[2].split()[0].strip(".,;")) for word in ("ratio ", "corrected ")
    )
    assert right / ratio == pytest.approx(1.01, abs=0.003)
    assert "Quote the corrected ratio" in note
    for name in set(TABLE.names()) - {"csv", "csv-long"}:
        assert "Carry-over" in export(build_table(run), name)


def test_a_carry_over_that_moves_no_ratio_visibly_gets_no_note():
    """A significant carry-over of 0.2 % in rounds of five moves the ratio by 0.04 %."""
    assert notes(long(cost=0.002, noise=0.002), "Carry-over") == []
    assert notes(long(cost=0.02, noise=0.01), "Carry-over") != []


def test_a_carry_over_gets_no_note_where_the_interval_is_much_wider():
    group = network_group()
    wide = long(cost=0.05)
    noisy_rounds = [
        dataclasses.replace(
            round_,
            samples={
                key: {
                    metric: value * (1 + 0.2 * round_.replicate) for metric, value in times.items()
                }
                if key == group.cases[2].key
                else times
                for key, times in round_.samples.items()
            },
        )
        for round_ in wide.rounds
    ]
    assert notes(dataclasses.replace(wide, rounds=tuple(noisy_rounds)), "Carry-over") == []


def test_runs_without_carry_over_get_no_note():
    assert [notes(long(seed=seed), "Carry-over") for seed in range(20)] == [[]] * 20
