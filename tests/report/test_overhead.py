import pytest

from swbench.report.overhead import spans, timed_share
from swbench.result import Result, Round


def timed_round(index, started, wall_s=1.0, attempt="a"):
    samples = {
        "bn": {"forward_s": 0.1, "forward_backward_s": 0.3, "forward_backward_cpu_s": 0.59},
        "swa": {"forward_s": 0.2, "forward_backward_s": 0.6, "forward_backward_cpu_s": 1.17},
    }
    return Round(
        group="g",
        replicate=0,
        attempt=attempt,
        index=index,
        order=(),
        samples=samples,
        started=started,
        disturbance={"wall_s": wall_s},
    )


def test_the_longest_sample_of_each_case_over_first_start_to_last_end():
    assert timed_share([timed_round(1, 11.5), timed_round(0, 10.0)]) == pytest.approx(2 * 0.9 / 2.5)


def test_the_cpu_time_of_two_threads_is_no_time_on_the_wall():
    assert timed_share([timed_round(0, 10.0)]) <= 1


def test_time_between_two_workers_does_not_count():
    assert timed_share([timed_round(0, 10.0), timed_round(0, 500.0, attempt="b")]) == pytest.approx(
        0.9
    )


def test_reading_out_counts_where_its_end_is_known():
    ended = [
        Result(case=case, group="g", replicate=0, attempt="a", ended=end)
        for case, end in (("bn", 11.2), ("swa", 11.5))
    ]
    assert timed_share(
        [timed_round(0, 10.0), timed_round(0, 500.0, attempt="b")], ended
    ) == pytest.approx(1.8 / 2.5)
    assert spans([timed_round(0, 10.0)], ended) == [(10.0, 11.5)]


def test_a_run_without_rounds_has_no_timed_share():
    assert timed_share([]) is None
