"""A whitening layer and the ReLU after it as one operator, in graphs that inductor generates code
for on a CPU.

Of a ReLU alone inductor makes no tensor where something else reads it: it is taken anew in every
read, by ResNet's max pooling 18 times a number. After batch normalisation, which it generates
itself, it makes one. And a pass over the tensor is saved.
"""

import operator
import warnings

import torch
from torch.fx import Node


def register() -> None:
    """Let inductor look for such pairs. Does nothing where its patterns are not as they are known
    here: graphs are right without.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch itself
        try:
            from torch._inductor.fx_passes.post_grad import pass_patterns
            from torch._inductor.pattern_matcher import (
                Arg,
                CallFunction,
                register_graph_pattern,
            )
        except ImportError:
            return
    register_graph_pattern(
        CallFunction(torch.ops.aten.relu.default, Arg()),
        extra_check=lambda match: _layer_before(match.output_node()) is not None,
        pass_dict=pass_patterns[0],
    )(_join)


def _layer_before(relu: Node) -> Node | None:
    """The native layer whose y nobody reads but this ReLU; None where there is none."""
    y = relu.args[0]
    if y.target is not operator.getitem or y.args[1] != 0 or len(y.users) != 1:
        return None
    layer = y.args[0]
    if layer.target in _variants():
        return layer if layer.args[-2] == "native" else None
    # one that moves running statistics: an operator's argument, until inductor lets it write
    moves = "auto_functionalized" in getattr(layer.target, "__name__", "")
    native = moves and layer.args[0] in _variants() and layer.kwargs.get("kernels") == "native"
    return layer if native else None


def _variants() -> dict:
    ops = torch.ops.swbench
    return {
        ops.whiten_forward.default: ops.whiten_forward_relu.default,
        ops.whiten_forward_training.default: ops.whiten_forward_training_relu.default,
    }


def _join(match, y: Node) -> None:
    relu = match.output_node()
    layer = _layer_before(relu)
    if layer.target in _variants():
        layer.target = _variants()[layer.target]
    else:
        layer.args = (_variants()[layer.args[0]], *layer.args[1:])
    relu.replace_all_uses_with(y)
    relu.graph.erase_node(relu)
