"""Attribution of constructed events: a GPU's kernels, and a backward pass in a thread of its
own.
"""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from swbench.profile import operators
from swbench.profile.attribution import IDLE, UNKNOWN, break_down
from swbench.profile.types import BACKWARD, CONV, FORWARD, NORM


@dataclass(eq=False)
class Event:
    name: str
    start_us: float
    end_us: float
    cpu_parent: "Event | None" = None
    thread: int = 1
    fwd_thread: int = 0
    sequence_nr: int = -1
    kernels: list = field(default_factory=list)
    self_cpu_time_total: float = 1.0
    device_type: str = "DeviceType.CPU"
    is_async: bool = False

    @property
    def time_range(self):
        return SimpleNamespace(
            start=self.start_us, end=self.end_us, elapsed_us=lambda: self.end_us - self.start_us
        )


def kernel(name, us):
    return SimpleNamespace(name=name, duration=us)


def gpu_events():
    forward = Event("swbench/phase/forward", 0, 100)
    conv = Event("swbench/layer/conv", 1, 40, forward, kernels=[kernel("swbench/layer/conv", 30)])
    conv_op = Event(
        "aten::conv2d", 2, 39, conv, sequence_nr=5, kernels=[kernel("implicit_gemm", 30)]
    )
    norm = Event("swbench/layer/norm", 41, 90, forward)
    norm_op = Event("Whitening", 42, 89, norm, sequence_nr=6)
    part = Event("swbench/part/norm: apply", 43, 60, norm_op)
    bmm = Event("aten::bmm", 44, 59, part, kernels=[kernel("gemm", 20), kernel("add", 5)])
    backward = Event("swbench/phase/backward", 100, 300)
    node = "autograd::engine::evaluate_function: "
    first = Event(
        node + "WhiteningBackward",
        110,
        150,
        thread=2,
        fwd_thread=1,
        sequence_nr=6,
        kernels=[kernel("gemm", 50)],
    )
    second = Event(node + "ConvolutionBackward0", 160, 200, thread=2, fwd_thread=1, sequence_nr=5)
    inner = Event(
        "aten::convolution_backward", 161, 199, second, thread=2, kernels=[kernel("wgrad", 60)]
    )
    gather = Event(
        node + "torch::autograd::AccumulateGrad", 201, 210, thread=2, kernels=[kernel("add", 7)]
    )
    strange = Event(
        node + "CopySlices",
        211,
        220,
        thread=2,
        fwd_thread=1,
        sequence_nr=99,
        kernels=[kernel("copy", 3)],
    )
    on_device = Event("gemm", 115, 165, device_type="DeviceType.CUDA")
    return [
        forward,
        conv,
        conv_op,
        norm,
        norm_op,
        part,
        bmm,
        backward,
        first,
        second,
        inner,
        gather,
        strange,
        on_device,
    ]


@pytest.fixture
def seconds():
    breakdown = break_down(gpu_events(), {"conv": CONV, "norm": NORM}, "cuda")
    return {key: spent.seconds * 1e6 for key, spent in breakdown.spent.items() if spent.seconds}


def test_kernels_go_to_the_layer_that_launched_them(seconds):
    # the mark's own annotation is not counted again
    assert seconds["conv", operators.CONVOLUTION, FORWARD] == pytest.approx(30)
    assert seconds["norm", operators.APPLY, FORWARD] == pytest.approx(25)


def test_backward_nodes_in_another_thread_find_their_layer(seconds):
    assert seconds["norm", operators.REST, BACKWARD] == pytest.approx(50)
    assert seconds["conv", operators.CONVOLUTION, BACKWARD] == pytest.approx(60)
    assert seconds["conv", operators.ACCUMULATION, BACKWARD] == pytest.approx(7)


def test_time_of_no_layer_has_a_named_row(seconds):
    assert seconds[UNKNOWN, operators.UNKNOWN, BACKWARD] == pytest.approx(3)
    assert seconds[IDLE, operators.IDLE, FORWARD] == pytest.approx(100 - 55)
    assert seconds[IDLE, operators.IDLE, BACKWARD] == pytest.approx(200 - 120)


def test_an_operation_that_made_no_node_does_not_own_one():
    events = gpu_events()
    forward = events[0]
    # carries the number of the node that the convolution makes
    early = Event("aten::empty", 0.5, 0.6, forward, sequence_nr=5)
    breakdown = break_down([*events, early], {"conv": CONV, "norm": NORM}, "cuda")
    assert breakdown.spent["conv", operators.CONVOLUTION, BACKWARD].seconds == pytest.approx(60e-6)
