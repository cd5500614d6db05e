import pytest

from swbench.case import Case
from swbench.result import FORWARD, FORWARD_BACKWARD
from swbench.selftest.workloads import (
    TRUTH,
    DelayedWorkload,
    DelayingStopwatch,
    SpinWorkload,
    known_value,
)


class Watch:
    """A stopwatch that reads how much work was done before each mark."""

    def __init__(self):
        self.marks = []

    def start(self):
        self.marks.clear()

    def mark(self, name):
        self.marks.append(name)

    def read(self):
        return {f"{name}_s": float(position + 1) for position, name in enumerate(self.marks)}


def test_a_cases_solver_field_holds_the_known_value():
    assert known_value(Case(model="spin", solver="length=0.005"), "length") == 0.005
    with pytest.raises(ValueError, match="length="):
        known_value(Case(model="spin", solver="eigh"), "length")


@pytest.mark.parametrize("length", ["0", "0.0001"])
def test_a_spin_is_marked_once_after_its_length(length):
    assert (
        SpinWorkload(Case(model="spin", solver=f"length={length}"), Watch()).call()[FORWARD] == 1.0
    )


def test_a_spin_holds_at_least_its_length():
    times = SpinWorkload(Case(model="spin", solver="length=0.001")).call()
    assert 0.001 <= times[TRUTH] <= times[FORWARD]
    assert SpinWorkload(Case(model="spin", solver="length=0")).call()[TRUTH] == 0.0


class Tape:
    """A clock that a test moves, and that moves by 1 µs whenever it is read."""

    def __init__(self):
        self.now_ns = 0

    def read(self):
        self.now_ns += 1000
        return self.now_ns


def test_each_pass_is_longer_by_its_share():
    tape, marked = Tape(), []

    class Marks(Watch):
        def mark(self, name):
            marked.append(tape.now_ns)

    watch = DelayingStopwatch(Marks(), 0.05, tape.read)
    watch.start()
    tape.now_ns += 10_000_000
    watch.mark("forward")
    begun = tape.now_ns
    tape.now_ns += 20_000_000
    watch.mark("forward_backward")
    assert marked[0] == pytest.approx(10_500_000, abs=4000)
    assert marked[1] - begun == pytest.approx(21_000_000, abs=4000)


def test_no_delay_reads_no_clock_before_the_mark():
    tape = Tape()
    watch = DelayingStopwatch(Watch(), 0.0, tape.read)
    watch.start()
    watch.mark("forward")
    assert tape.now_ns == 2000
    assert watch.read() == {FORWARD: 1.0}


def test_a_delayed_network_is_the_network_with_both_passes():
    workload = DelayedWorkload(
        Case(model="resnet20", classes=10, image=(32, 32), solver="delay=0.05")
    )
    seconds = workload.call()
    assert 0 < seconds[FORWARD] < seconds[FORWARD_BACKWARD]
    assert workload.finish() == []
