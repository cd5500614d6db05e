"""The progress bar: the number of rounds, and how many are done, as failures and fallbacks change
them.
"""

import dataclasses
import io

import fakes
import pytest
from rich.console import Console

from swbench.cli.progress import Display
from swbench.result import OUT_OF_MEMORY, Result, Round
from swbench.run import events
from swbench.run.estimate import Estimate


@pytest.fixture
def plan():
    """Two replicates of two rounds, of a batch and of the one to fall back on."""
    made = fakes.plan("a", groups=2, replicates=2, iterations=4)
    first, second = made.groups
    return dataclasses.replace(
        made, groups=(first, dataclasses.replace(second, fallback_of=first.name))
    )


@pytest.fixture
def bar(plan, tmp_path):
    """`bar(events)` -> (done, total) after each of them, `RunStarted` before the first, with
    `sealed` of its keywords.
    """

    def bar(received_events, ran_out=frozenset(), plan=plan, **sealed):
        display, updates = Display(Console(file=io.StringIO(), force_terminal=True)), []
        begun = events.RunStarted(
            plan=plan,
            path=tmp_path,
            replicates=2,
            sealed={"cpu batch 1": 0, "cpu batch 2": 0, **sealed},
            ran_out=ran_out,
        )
        with display:
            for event in (begun, *received_events):
                display(event)
                (task,) = display._bar.tasks
                updates.append((task.completed, task.total))
        return updates

    return bar


def rounds(plan, index, replicates):
    group = plan.groups[index]
    samples = {case.key: {"forward_s": 1.0} for case in group.cases}
    places = [(replicate, index) for replicate in replicates for index in range(2)]
    return [
        events.RoundDone(
            round=Round(
                group=group.name,
                replicate=r,
                attempt="a",
                index=index,
                order=tuple(samples),
                samples=samples,
            ),
            rounds=2,
        )
        for r, index in places
    ]


def falling_back(plan):
    return events.FallingBack(group=plan.groups[0].name, fallback=plan.groups[1].name)


def test_time_left_is_by_the_average_pace_with_warm_up(plan, tmp_path):
    display, clock = Display(Console(file=io.StringIO(), force_terminal=True)), [0.0]
    display._bar.get_time = lambda: clock[0]
    with display:
        display(events.RunStarted(plan=plan, path=tmp_path, replicates=20, sealed={}))
        for replicate in range(10):
            for event in rounds(plan, 0, [replicate]):
                display(event)
                clock[0] += 1.0 if event.round.index == 0 else 99.0
        (task,) = display._bar.tasks
    assert (task.completed, task.total) == (20, 40)
    assert task.time_remaining == pytest.approx(10 * 100, rel=0.06)


@pytest.mark.parametrize("tried", [(), (0,), (0, 1)])
def test_given_up_batch_counts_with_its_completed_rounds(plan, bar, tried):
    """Nothing, where no case had memory; all of a replicate, where others had; more, where memory
    ran out late.
    """
    updates = bar([*rounds(plan, 0, tried), falling_back(plan), *rounds(plan, 1, (0, 1))])
    assert all(done <= total for done, total in updates)
    assert updates[0] == (0, 4)
    assert updates[-1] == (2 * len(tried) + 4, 2 * len(tried) + 4)


def test_rounds_before_a_resume_count_as_done(plan, bar):
    late = bar([*rounds(plan, 0, (1,)), falling_back(plan)], **{"cpu batch 1": 1})
    assert (late[0], late[-1]) == ((2, 4), (4, 8))
    over = bar(
        rounds(plan, 1, (1,)),
        ran_out=frozenset({"cpu batch 1"}),
        **{"cpu batch 1": 2, "cpu batch 2": 1},
    )
    assert (over[0], over[-1]) == ((6, 8), (8, 8))


def one_round(plan, cases, index, attempt, replicate=0):
    group = plan.groups[0]
    samples = {group.cases[case].key: {"forward_s": 1.0} for case in cases}
    return events.RoundDone(
        round=Round(
            group=group.name,
            replicate=replicate,
            attempt=attempt,
            index=index,
            order=tuple(samples),
            samples=samples,
        ),
        rounds=2,
    )


def done(plan, replicate, results=()):
    return events.ReplicateDone(
        group=plan.groups[0].name, replicate=replicate, results=results, elapsed_s=1.0
    )


def test_bar_advances_in_every_pair_and_not_beyond_its_total(bar, plan):
    """Four cases: the baseline, its control and a pair each for the other two; baseline and control
    count once.
    """
    (group, *rest) = plan.groups
    wide = dataclasses.replace(
        group,
        cases=(*group.cases, dataclasses.replace(group.cases[2], layers=8)),
        rows=(*group.rows, "b"),
    )
    plan = dataclasses.replace(plan, groups=(wide, *rest))
    received_events = [
        one_round(plan, cases, index, attempt)
        for attempt, cases in (("a", (0, 1, 2)), ("b", (0, 1, 3)))
        for index in range(2)
    ]
    updates = [completed for completed, _ in bar([*received_events, done(plan, 0)], plan=plan)]
    assert updates == [0, 0.75, 1.5, 1.75, 2, 2]


def test_failed_case_counts_as_done(bar, plan):
    assert [completed for completed, _ in bar([one_round(plan, (0, 1), 0, "a"), done(plan, 0)])][
        -1
    ] == 2


def test_batch_out_of_memory_counts_only_its_completed_rounds(bar, plan):
    out = (
        Result(
            case=plan.groups[0].cases[2].key,
            group=plan.groups[0].name,
            replicate=0,
            attempt="a",
            status=OUT_OF_MEMORY,
        ),
    )
    updates = bar([one_round(plan, (0, 1, 2), 0, "a"), done(plan, 0, out), falling_back(plan)])
    assert (updates[-2], updates[-1]) == ((1, 4), (1, 5))


def test_an_estimate_after_a_look_says_of_what_it_is(plan, tmp_path, monkeypatch):
    """Others are printed as they are."""
    begun = events.RunStarted(plan=plan, path=tmp_path, replicates=8, sealed={})
    replicate = events.ReplicateStarted(group="cpu batch 1", replicate=4, attempt="a", cases=())
    expected = Estimate(seconds=600.0, half_width=0.01, replicates=8, rounds=13, fewest=8)
    estimates = {events.RunStarted: None}
    output = io.StringIO()
    display = Display(Console(file=output, width=200))
    monkeypatch.setattr(display._eta, "update", lambda event: estimates.get(type(event), expected))
    with display:
        for event in (begun, rounds(plan, 0, [0])[0], replicate):
            display(event)
    assert output.getvalue().splitlines() == [
        "about 10 min for 8 replicates of 13 rounds; ratios to about ±1 %",
        "after 4 replicates, the whole run: about 10 min for 8 replicates of 13 rounds; "
        "ratios to about ±1 %",
    ]
