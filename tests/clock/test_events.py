"""Events are read once a block. Times that contradict the order of the events are an error."""

from types import SimpleNamespace

import pytest
from fake_gpu import FakeGpu, stamps

from swbench.clock.busy import busy_s, union
from swbench.clock.events import EventStopwatch


def block(watch, windows):
    for _ in range(windows):
        watch.start()
        watch.mark("forward")
        watch.mark("forward_backward")
    return watch.read()


def test_a_block_gives_means_and_waits_twice_whatever_its_length():
    gpu = FakeGpu(tick_s=0.01)
    watch = EventStopwatch(gpu)
    readings = block(watch, 50)
    assert gpu.waits == ["device", "device"]
    assert readings["forward_s"] == pytest.approx(0.01)
    assert readings["forward_backward_s"] == pytest.approx(0.02)
    assert readings["forward_backward_wall_s"] == pytest.approx(0.03), (
        "the wall counts what lies between two windows"
    )


def test_every_window_is_stored_until_take():
    watch = EventStopwatch(FakeGpu(script=stamps(0, 1, 3, 10, 12, 15)))
    assert block(watch, 2)["forward_s"] == pytest.approx(1.5)
    assert watch.take() == {
        "forward": pytest.approx([1, 2]),
        "forward_backward": pytest.approx([3, 5]),
    }
    assert watch.take() == {}


def test_a_window_of_many_calls_is_divided_by_them():
    watch = EventStopwatch(FakeGpu(script=stamps(0, 1)))
    watch.start()
    watch.mark("forward", calls=100)
    assert watch.read() == {"forward_s": pytest.approx(0.01), "forward_wall_s": pytest.approx(0.01)}


@pytest.mark.parametrize("script", [(0, 2, 1), (5, 4, 6), (0, float("nan"), 1)])
def test_events_out_of_order_are_a_failure_and_the_next_block_is_sound(script):
    gpu = FakeGpu(script=stamps(*script))
    watch = EventStopwatch(gpu)
    with pytest.raises(RuntimeError, match="out of order"):
        block(watch, 1)
    gpu._now_s = 0.0
    assert block(watch, 1)["forward_backward_s"] == pytest.approx(0.02)
    assert len(watch.take()["forward"]) == 1


def test_events_are_reused():
    gpu = FakeGpu()
    made = []
    gpu.event = lambda make=gpu.event: made.append(make()) or made[-1]
    watch = EventStopwatch(gpu)
    for _ in range(4):
        block(watch, 5)
    assert len(made) == 15


def test_forward_is_never_longer_than_both():
    readings = block(EventStopwatch(FakeGpu(script=iter([0.3, 0.0, 0.0, 0.1, 0.5, 0.2]))), 2)
    assert readings["forward_s"] <= readings["forward_backward_s"]


def kineto(name, start, end, device="CUDA", kind="kernel", mark=False):
    return SimpleNamespace(
        name=lambda: name,
        start_ns=lambda: start,
        duration_ns=lambda: end - start,
        device_type=lambda: f"DeviceType.{device}",
        activity_type=lambda: kind,
        is_user_annotation=lambda: mark,
    )


def test_busy_counts_time_once_and_marks_not_at_all():
    events = [
        kineto("late", 100, 200),
        kineto("early", 0, 50, kind="gpu_memcpy"),
        kineto("overlapping", 150, 260),
        kineto("within", 160, 170),
        kineto("annotation", 0, 10_000, kind="gpu_user_annotation", mark=True),
        kineto("wait", 0, 10_000, kind="cuda_sync"),
        kineto("launch", 0, 10_000, device="CPU", kind="cuda_runtime"),
    ]
    assert busy_s(events) == pytest.approx(210e-9)
    assert busy_s([events[-1]]) is None


def test_busy_is_read_from_a_torch_without_kinds():
    bare = kineto("kernel", 3, 8)
    del bare.activity_type, bare.is_user_annotation
    assert busy_s([bare]) == pytest.approx(5e-9)


def test_union_of_nothing_and_of_touching_spans():
    assert union([]) == 0
    assert union([(5, 5), (0, 5), (5, 9)]) == 9
