"""A network on a fake GPU: blocks, modes, memory, and measurements of the device outside of
rounds.
"""

import pytest
import torch
from fake_gpu import FakeGpu
from gpu_workload import build, measured

from swbench.norms import resolve
from swbench.probes import modes, network
from swbench.probes.workload import Unsupported
from swbench.result import CRASHED, FORWARD_BACKWARD_WALL, OUT_OF_MEMORY
from swbench.solvers import choice
from swbench.worker.session import cause

OOM = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total "
    "capacity of 79.10 GiB of which 1.00 GiB is free."
)


@pytest.fixture(autouse=True)
def _switches():
    switches = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = switches


def test_a_call_is_a_block_with_the_host_beside_the_events():
    workload, gpu = build()
    del gpu.waits[:]
    seconds = workload.call()
    assert set(seconds) == {"forward_s", "forward_backward_s", "forward_backward_wall_s"}
    assert seconds["forward_s"] == pytest.approx(0.01)
    assert seconds["forward_backward_s"] == pytest.approx(0.02)
    assert gpu.waits == ["device", "device"]


@pytest.mark.parametrize(("taken_s", "expected"), [(0.03, 2), (1.0, 1), (1e-9, 1000)])
def test_blocks_last_long_enough(taken_s, expected):
    calls = []
    assert modes.block_size(lambda: calls.append(1) or {FORWARD_BACKWARD_WALL: taken_s}) == expected
    assert len(calls) == (2 if taken_s > modes.BLOCK_S else 3), (
        "long ones are not repeated for the sake of it"
    )


class FakeRank:
    """A fake rank without torch.distributed; the slowest rank takes 12 ms of wall time."""

    device, chosen = "cuda:1", {"backend": "gloo"}

    def __init__(self, case):
        self.case, self.steps = case, []

    def wrap(self, model):
        return model

    def shard(self, batch):
        return batch[:1].clone()

    def global_shape(self, shard_shape):
        return self.case.batch, *shard_shape[1:]

    def slowest(self, sample):
        return sample | {FORWARD_BACKWARD_WALL: 0.012}

    def measurements(self, call, step, dtype, collectives):
        assert set(call()) == {"forward_s", "forward_backward_s", "forward_backward_wall_s"}
        step()
        return []


def test_ranks_agree_on_the_size_of_a_block_and_each_has_its_own_images(monkeypatch):
    monkeypatch.setattr(network, "DataParallel", FakeRank)
    workload, _ = build(world=2, norm="bn", layers=0)
    samples = measured(workload.finish())
    assert samples["block_iterations"] == (5,)
    assert len(workload._inputs[0]) == len(workload._step.cotangents[0]) == 1
    assert workload.chosen["backend"] == "gloo"


def test_timings_can_be_read_without_finish():
    workload, _ = build()
    workload.call()
    assert {name: len(samples) for name, samples in measured(workload.timings()).items()} == {
        "block_iterations": 1,
        "forward_event_s": 2,
        "forward_backward_event_s": 2,
    }


@pytest.mark.parametrize("mode", ["graph", "compile"])
def test_several_processes_run_eager_only(monkeypatch, mode):
    monkeypatch.setattr(network, "DataParallel", FakeRank)
    with pytest.raises(Unsupported, match="2 processes run eager only"):
        build(world=2, mode=mode)


def test_the_size_of_a_block_is_stored():
    workload, _ = build()
    assert measured(workload.finish())["block_iterations"] == (workload._iterations,) == (2,)


def test_every_iteration_of_the_rounds_is_stored_and_none_of_the_warm_up():
    workload, _ = build()
    workload.call()
    workload.warmed()
    for _ in range(2):
        workload.call()
    samples = measured(workload.finish())
    assert len(samples["forward_event_s"]) == len(samples["forward_backward_event_s"]) == 2 * 2


def test_busy_time_and_its_share_of_wall_time_are_measured():
    workload, _ = build(FakeGpu(tick_s=0.01, device_busy_s=0.03))
    workload.call()
    samples = measured(workload.finish())
    assert samples["gpu_busy_s"][0] == pytest.approx(0.015)
    assert samples["gpu_busy_share"][0] == pytest.approx(0.015 / 0.03)


def test_a_profiler_without_kernels_is_noted():
    workload, _ = build()
    assert "gpu_busy_share" not in measured(workload.finish())
    assert workload.chosen["busy"].startswith("not measured")


def test_memory_is_the_peak_of_one_iteration():
    samples = measured(build()[0].finish())
    assert (samples["peak_bytes"], samples["peak_reserved_bytes"]) == ((1 << 20,), (2 << 20,))


def test_graph_mode_replays_two_graphs():
    workload, gpu = build(mode="graph")
    assert gpu.capture_stream_runs == 4, "three times to warm up, once for the peak of memory"
    forward, both = gpu.graphs
    before = forward.replays, both.replays
    seconds = workload.call()
    assert (forward.replays - before[0], both.replays - before[1]) == (workload._iterations,) * 2
    assert set(seconds) == {
        "forward_s",
        "forward_wall_s",
        "forward_backward_s",
        "forward_backward_wall_s",
    }


def test_the_capture_allocates_the_gradients():
    grads = []
    gpu = FakeGpu()
    workload, _ = build(gpu, mode="graph")
    workload._model.zero_grad(set_to_none=True)
    for step in (graph._step for graph in gpu.graphs):
        step()
        grads.append([p.grad is not None for p in workload._model.parameters()])
    assert not any(grads[0])
    assert all(grads[1])


@pytest.mark.parametrize("solver", ["eigh", "svd-loop", "auto"])
def test_a_solver_that_synchronises_with_the_host_is_refused_in_a_graph(
    solver, monkeypatch, request
):
    # what auto is on a GPU; on this fake's CPU it may be a solver that waits for nobody
    monkeypatch.setattr(choice, "choose", lambda *_: "eigh")
    resolve.resolve_cached.cache_clear()
    request.addfinalizer(resolve.resolve_cached.cache_clear)
    gpu = FakeGpu()
    with pytest.raises(Unsupported, match=r"^synchronises with the host"):
        build(gpu, mode="graph", solver=solver)
    assert not gpu.graphs


def test_a_failed_capture_is_unsupported_but_out_of_memory_stays_out_of_memory():
    with pytest.raises(Unsupported, match="cannot be captured"):
        build(
            FakeGpu(
                fails={"capture": RuntimeError("operation not permitted when stream is capturing")}
            ),
            mode="graph",
        )
    with pytest.raises(MemoryError, match="peak"):
        build(FakeGpu(fails={"capture": OOM}), mode="graph")


def test_compile_is_for_fixed_shapes(monkeypatch):
    compiled = []
    monkeypatch.setattr(
        torch, "compile", lambda model, **options: compiled.append(options) or model
    )
    workload, _ = build(mode="compile")
    workload.call()
    assert compiled == [{"dynamic": False}]
    assert workload.chosen["compiled"] == "0 graphs, 0 breaks"


def test_a_compiler_that_gives_up_is_unsupported(monkeypatch):
    problem = type("Unsupported", (RuntimeError,), {"__module__": "torch._dynamo.exc"})

    def give_up(model, **options):
        def run(x):
            raise problem("call to a function it does not know")

        return run

    monkeypatch.setattr(torch, "compile", give_up)
    with pytest.raises(Unsupported, match=r"torch\.compile cannot: call to"):
        build(mode="compile")


def test_out_of_memory_in_backward_names_the_peak_and_the_total(monkeypatch):
    workload, _ = build()

    def fail(self, *args, **options):
        raise OOM

    monkeypatch.setattr(torch.Tensor, "backward", fail)
    with pytest.raises(MemoryError) as caught:
        workload.call()
    status, detail = cause(caught.value)
    assert status == OUT_OF_MEMORY
    assert detail == "peak 3.00 GiB of 4.00 GiB; CUDA out of memory. Tried to allocate 20.00 GiB."


def test_a_clock_that_runs_backwards_crashes_its_case():
    workload, gpu = build()
    gpu._script = iter([0.0, -1.0])
    with pytest.raises(RuntimeError) as caught:
        workload.call()
    assert cause(caught.value)[0] == CRASHED
    assert workload.call()["forward_s"] == pytest.approx(0.01)


def test_the_arithmetic_is_that_of_the_case():
    workload, _ = build()
    assert not torch.backends.cudnn.allow_tf32
    assert workload.chosen["tf32"] == "off"
    workload, _ = build(dtype="tf32")
    assert torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32, "solvers do not converge in TF32"
    assert workload.chosen["tf32"] == "convolutions"
    assert {p.dtype for p in workload._model.parameters()} == {torch.float32}


def test_unknown_solvers_of_plugins_do_not_stop_a_graph():
    layer = torch.nn.Identity()
    layer.chosen = {"solver": "mine:steps=3"}
    assert modes.synchronising_solvers(layer) == ()
