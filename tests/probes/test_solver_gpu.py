"""A solver on a fake GPU: windows, graphs, cold caches, and accuracy of the outputs that were
timed.
"""

import dataclasses

import pytest
from fake_gpu import FakeGpu

from swbench.case import SolverCase
from swbench.probes.event_windows import MOST_CALLS, Flush
from swbench.probes.solver import SolverWorkload
from swbench.probes.workload import Unsupported

CASE = SolverCase(solver="polar", batch=3, group=4, device="cuda", threads=0)


def build(gpu=None, **fields):
    gpu = gpu or FakeGpu(tick_s=0.002)
    return SolverWorkload(dataclasses.replace(CASE, **fields), gpu=gpu), gpu


def measured(workload):
    return {measurement.metric: measurement.samples for measurement in workload.finish()}


def test_eager_windows_judge_the_outputs_they_timed():
    workload, _ = build()
    seconds = workload.call()
    assert seconds == {
        "forward_s": pytest.approx(0.002),
        "forward_backward_s": pytest.approx(0.002),
    }
    judged = measured(workload)
    assert judged["w_error_worst"][0] < 1e-3
    assert judged["forward_window_calls"] == (1,)
    assert len(judged["forward_event_s"]) == 5, "windows are repeated until a sample takes 10 ms"


def test_timings_can_be_read_without_finish():
    workload, _ = build()
    workload.call()
    names = {measurement.metric for measurement in workload.timings()}
    assert names == {
        f"{of}_{what}"
        for of in ("forward", "forward_backward")
        for what in ("event_s", "window_calls")
    }


def test_short_calls_share_a_window():
    workload, _ = build(FakeGpu(script=iter([1e-5] * 10), tick_s=0.002))
    assert measured(workload)["forward_window_calls"][0] > 50


def test_a_window_holds_at_most_so_many_calls():
    workload, _ = build(FakeGpu(tick_s=1e-9))
    assert measured(workload)["forward_window_calls"] == (MOST_CALLS,)


def test_graphs_hold_the_calls():
    workload, gpu = build(mode="graph")
    before = [graph.replays for graph in gpu.graphs]
    workload.call()
    assert all(graph.replays > n for graph, n in zip(gpu.graphs, before, strict=True))
    assert gpu.capture_stream_runs == 2
    assert measured(workload)["gradient_error_worst"][0] < 1e-3


def test_a_solver_that_waits_is_unsupported_in_a_graph():
    with pytest.raises(Unsupported, match=r"^synchronises"):
        build(mode="graph", solver="eigh")


def test_a_cold_cache_is_flushed_before_every_call_and_that_is_verified():
    workload, _ = build(cache="cold")
    workload.call()
    samples = measured(workload)
    assert samples["forward_window_calls"] == (1,)
    assert samples["l2_flushes"][0] >= 2 * 5


def test_a_flush_that_did_not_touch_the_buffer_is_an_error():
    flush = Flush(FakeGpu())
    assert flush._buffer.numel() * 4 == 2 * FakeGpu.cache_bytes
    flush()
    assert flush.verified() == 1
    flush._buffer[7] -= 1
    with pytest.raises(RuntimeError, match="not flushed"):
        flush.verified()


def test_without_the_size_of_the_cache_cold_is_unsupported():
    gpu = FakeGpu()
    gpu.cache_bytes = 0
    with pytest.raises(Unsupported, match="L2"):
        build(gpu, cache="cold")


def test_warm_up_is_discarded():
    workload, _ = build()
    workload.call()
    workload.warmed()
    workload.call()
    assert len(measured(workload)["forward_event_s"]) == 5
