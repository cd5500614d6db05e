"""The work of every layer, by calculation: FLOPs at two per multiply-add, and bytes read and
written once a pass.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from swbench import solvers
from swbench.errors import NotCounted
from swbench.flops.paper import COSTS, PaperRule
from swbench.flops.recorder import TRAIN, record
from swbench.flops.torch_formulas import TorchRule
from swbench.flops.trace import Operation, Shaped, Trace
from swbench.norms.layers import Whiten2d
from swbench.profile.types import BACKWARD, FORWARD, Work

_COPIES = frozenset(
    (
        "copy_",
        "clone",
        "_to_copy",
        "cat",
        "constant_pad_nd",
        "reflection_pad2d",
        "replication_pad2d",
    )
)
_ADDITIONS = frozenset(("add", "add_"))
_ACTIVATIONS = frozenset(("relu", "relu_"))
_SMALL_BYTES = 4
"""Whitening matrices are float32 (float64 only for float64 inputs, where the difference is a
rounding error of the traffic).
"""


def work_by_layer(
    model: nn.Module, inputs: tuple[Tensor, ...], layers: Mapping[str, nn.Module]
) -> tuple[dict[str, tuple[Work, Work]], dict[str, int]]:
    """Forward and backward work of every layer in `layers` (path -> module, after a forward pass of
    `model`) on `inputs`, and its paper FLOPs.

    The shapes come from one recorded pass (`swbench.flops.recorder`), which computes nothing. A
    layer that only moves views has none.
    """
    totals: dict[str, list[float]] = defaultdict(lambda: [0.0] * 4)
    whitening_inputs: dict[str, Shaped] = {}
    products_seen = 0
    trace = record(model, inputs, TRAIN)
    for op in trace.operations:
        path = layer_path_of(op.module, layers)
        layer = layers.get(path)
        if isinstance(layer, Whiten2d):
            for t in op.inputs:
                if len(t.shape) == 4 and t.shape[1] == layer.num_features:
                    whitening_inputs.setdefault(path, t)
            continue
        product_flops = TorchRule().cost(op)
        products_seen += product_flops is not None
        for i, value in enumerate(_operation_work(op, product_flops, first=products_seen == 1)):
            totals[path][i] += value
    for path, shape in whitening_inputs.items():
        totals[path] = list(whitening_work(layers[path], shape))
    work = {
        path: (
            Work(phase=FORWARD, flops=f, traffic_bytes=fb),
            Work(phase=BACKWARD, flops=b, traffic_bytes=bb),
        )
        for path, (f, fb, b, bb) in totals.items()
        if f or fb
    }
    return work, _paper(trace, layers)


def _paper(trace: Trace, layers: Mapping[str, nn.Module]) -> dict[str, int]:
    """Forward FLOPs by the paper's rule; nothing where it meets an operation that its tables do not
    show.
    """
    flops_by_layer: dict[str, int] = defaultdict(int)
    try:
        for path, flops in PaperRule().count(trace, strict=True).by_layer.items():
            flops_by_layer[layer_path_of(path, layers)] += flops
    except NotCounted:
        return {}
    return dict(flops_by_layer)


def layer_path_of(path: str, layers: Mapping[str, object]) -> str:
    """The path of the row that a module belongs to: its own, or that of the nearest module around
    it.
    """
    while path and path not in layers:
        path = path.rpartition(".")[0]
    return path


def whitening_work(layer: Whiten2d, x: Shaped) -> tuple[float, float, float, float]:
    """FLOPs and bytes forward, FLOPs and bytes backward, of a whitening layer on `x` (N, C, H, W).

    The forward pass takes two reads of x and a write: second moments and y = A x + b, 2G
    multiply-adds an element in all. The backward pass takes four reads and a write: Σ dy xᵀ and dx
    = Aᵀ dy + B x + c, 3G multiply-adds. In addition every G×G matrix is solved (`Solver.flops`; in
    the backward pass the four products of Daleckii–Krein stand for all solvers), scaled and
    applied. This is the least that the closed form needs; kernels may do more.
    """
    elements, group = x.numel, layer.num_pergroup
    images = x.shape[0] if layer.recipe.uses_image else 1
    matrices = images * (layer.num_features // group)
    solver = (
        layer.solver if not isinstance(layer.solver, str) else solvers.get(layer.chosen["solver"])
    )
    matrix_flops = matrices * 3 * group**2
    forward = (4 * group + 4) * elements + matrices * solver.flops(group) + matrix_flops
    backward = (6 * group + 4) * elements + matrices * 8 * group**3 + matrix_flops
    tensor, matrix = elements * x.dtype.itemsize, matrices * group**2 * _SMALL_BYTES
    return forward, 3 * tensor + 4 * matrix, backward, 5 * tensor + 6 * matrix


def _operation_work(
    op: Operation, product_flops: int | None, first: bool
) -> tuple[float, float, float, float]:
    """FLOPs and bytes forward, FLOPs and bytes backward. `first` says that the product reads the
    network's input, which needs no gradient.
    """
    read, written = _bytes(op.inputs), _bytes(op.outputs)
    if op.moves_only:
        return (
            (0.0, read + written, 0.0, read + written)
            if op.name in _COPIES
            else (0.0, 0.0, 0.0, 0.0)
        )
    if product_flops is not None:
        # Each gradient (of the weight, of the input) reads the other operand and dy, and writes its
        # own.
        return (
            product_flops,
            read + written,
            product_flops * (1 if first else 2),
            (read + written) * (1 if first else 2),
        )
    flops = COSTS[op.name](op) if op.name in COSTS else sum(t.numel for t in op.outputs)
    largest = max((_bytes((t,)) for t in op.inputs), default=0)
    if "_norm" in op.name:
        # statistics and application are a pass each, as in whitening
        return flops, 3 * largest, 2 * flops, 5 * largest
    if op.name in _ADDITIONS:
        return flops, read + written, 0.0, 0.0  # its gradient is passed on as it is
    if op.name in _ACTIVATIONS:
        return flops, read + written, flops, 3 * largest
    return flops, read + written, flops, read + written


def _bytes(tensors: Iterable[Shaped]) -> float:
    return float(sum(t.numel * t.dtype.itemsize for t in tensors))
