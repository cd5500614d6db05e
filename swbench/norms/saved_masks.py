"""A pass over inductor's graphs on a CPU that leaves to operators of torch the mask y ≤ 0, saved
for the gradient of a ReLU after a whitening layer: its comparison, and what reads it.

For the gradient of ReLU a training graph saves y, or y ≤ 0 where nothing else reads y later, as
before ResNet's first max pooling. Inductor's C++ stores and loads a vector of booleans one by one:
for 64×112² 8 ms forward and 2.2 backward, where torch takes 0.5 and 0.2 (torch 2.13, AVX2).
"""

import operator
import warnings
from functools import cache
from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.symbolic_shapes import statically_known_true, sym_eq

_LAYERS = ("whiten_forward", "whiten_forward_training")


@cache
def register() -> None:
    """Let inductor run `separate_masks` on graphs for a CPU, after the pass that is registered
    there, if any. Its caches of compiled graphs are keyed by this file. Does nothing where torch
    has no registry of passes by device.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of torch itself
            from torch._inductor.codegen.common import (
                custom_backend_passes,
                init_backend_registration,
            )
            from torch._inductor.custom_graph_pass import (
                CustomGraphModulePass,
                get_hash_for_files,
            )

            init_backend_registration()  # called later, it would empty the entry
    except ImportError:
        return
    previous_pass = custom_backend_passes.get("cpu")

    class SeparateMasks(CustomGraphModulePass):
        def __call__(self, gm: GraphModule) -> None:
            if previous_pass is not None:
                previous_pass(gm)
            separate_masks(gm.graph)

        def uuid(self) -> Any:
            digest = get_hash_for_files((__file__,))
            if previous_pass is None:
                return digest
            previous = previous_pass.uuid()
            return None if previous is None else (digest, previous)

    custom_backend_passes["cpu"] = SeparateMasks()


def separate_masks(graph: Graph) -> None:
    """Replace each comparison `relu(y) <= 0` or `y <= 0` that `graph` returns, y the result of a
    whitening layer, by the operator `not_positive` of y; and where the gradient of such a y is a
    selection by a mask that `graph` is given, replace the selection by the operator `zero_where`.
    """
    (output,) = graph.find_nodes(op="output")
    for mask in graph.find_nodes(op="call_function", target=torch.ops.aten.le.Scalar):
        compared, bound = mask.args
        if compared.target is torch.ops.aten.relu.default:
            compared = compared.args[0]
        if bound == 0 and output in mask.users and _is_result_of_layer(compared):
            _replace(mask, torch.ops.swbench.not_positive.default, compared)
    for layer in graph.find_nodes(
        op="call_function", target=torch.ops.swbench.whiten_backward.default
    ):
        dy = layer.args[0]
        if dy.target is torch.ops.aten.where.self:
            mask, value, selected = dy.args
            if mask.op == "placeholder" and _is_zero(value) and _is_plain(dy, mask, selected):
                _replace(dy, torch.ops.swbench.zero_where.default, mask, selected)


def _replace(node: Node, by: OpOverload, *args: Node) -> None:
    graph = node.graph
    with graph.inserting_before(node):
        replacement = graph.call_function(by, args)
    replacement.meta.update(node.meta)
    node.replace_all_uses_with(replacement)
    graph.erase_node(node)


def _is_zero(node: Node) -> bool:
    return node.target is torch.ops.aten.full.default and node.args[1] == 0


def _is_plain(result: Node, mask: Node, selected: Node) -> bool:
    """Whether a selection neither broadcasts nor converts."""
    made, *operands = (node.meta["val"] for node in (result, mask, selected))
    return [tensor.dtype for tensor in operands] == [torch.bool, made.dtype] and all(
        statically_known_true(sym_eq(tensor.shape, made.shape)) for tensor in operands
    )


def _is_result_of_layer(node: Node) -> bool:
    if node.target is not operator.getitem or node.args[1] != 0:
        return False
    target = node.args[0].target
    if target in (
        torch.ops.higher_order.auto_functionalized,
        torch.ops.higher_order.auto_functionalized_v2,
    ):
        target = node.args[0].args[0]
    return any(target is getattr(torch.ops.swbench, name).default for name in _LAYERS)
