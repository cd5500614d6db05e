"""A stopwatch reads spans from the start, on any clock."""

from fake_clock import FakeClock, drifting, stepping

from swbench.clock import HostClock, HostStopwatch, stopwatch_for


def test_marks_are_read_from_the_start():
    clock = FakeClock()
    watch = HostStopwatch(clock)
    for _ in range(2):
        watch.start()
        clock.advance(2.0, cpu_s=1.5)
        watch.mark("forward")
        clock.advance(3.0)
        watch.mark("forward_backward")
        clock.advance(7.0)
        assert watch.read() == {
            "forward_s": 2.0,
            "forward_backward_s": 5.0,
            "forward_cpu_s": 1.5,
            "forward_backward_cpu_s": 4.5,
        }


def test_a_fake_clocks_script_changes_wall_time_alone():
    for script, expected in ((drifting(0.5), 3.0), (stepping(at_s=1.0, by_s=10.0), 12.0)):
        clock = FakeClock(script)
        watch = HostStopwatch(clock)
        watch.start()
        clock.advance(2.0)
        watch.mark("forward")
        assert watch.read() == {"forward_s": expected, "forward_cpu_s": 2.0}


def test_the_host_clock_goes_forward():
    clock = HostClock()
    assert clock.now() <= clock.now()
    assert clock.cpu() <= clock.cpu()


def test_a_missing_device_has_no_stopwatch():
    assert isinstance(stopwatch_for("cpu"), HostStopwatch)
    assert stopwatch_for("cuda:99") is None
