import pytest

from swbench.report.overhead import timed_share
from swbench.result import Round


def one(index, started, wall_s=1.0, attempt="a"):
    samples = {"bn": {"forward_s": 0.1, "forward_backward_s": 0.3}, "swa": {"forward_s": 0.2, "forward_backward_s": 0.6}}
    return Round(group="g", replicate=0, attempt=attempt, index=index, order=(), samples=samples, started=started, disturbance={"wall_s": wall_s})


def test_the_longest_sample_of_each_case_over_first_start_to_last_end():
    assert timed_share([one(1, 11.5), one(0, 10.0)]) == pytest.approx(2 * 0.9 / 2.5)


def test_what_lies_between_two_workers_does_not_count():
    assert timed_share([one(0, 10.0), one(0, 500.0, attempt="b")]) == pytest.approx(0.9)


def test_no_round_no_share():
    assert timed_share([]) is None
