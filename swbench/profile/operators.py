"""Names of a profile's operators, and the operator of each torch operation."""

CONVOLUTION = "conv"
MOMENTS, SOLVE, ALGEBRA, APPLY, FUSED, REST = (
    f"norm: {name}" for name in ("moments", "solve", "algebra", "apply", "fused", "rest")
)
"""Parts of a norm. In the backward pass `moments` are the sums over pixels (Σ dy xᵀ, Σ dy), and
`apply` computes dx. `fused` is a norm that torch has as one operation. `rest` are a norm's other
operations: a whitening layer's between its kernels, BN's count of batches.
"""

LINEAR, ACTIVATION, ADDITION, POOLING, RESIZING, COPYING, ACCUMULATION, PYTHON, OTHER = (
    f"other: {name}"
    for name in (
        "linear",
        "activation",
        "addition",
        "pooling",
        "resizing",
        "copying",
        "gradient accumulation",
        "python",
        "other",
    )
)
"""Everything else. `python` is time inside a module but in no operation; `gradient accumulation` is
autograd adding a parameter's gradient.
"""

ENGINE, HARNESS, UNKNOWN, IDLE, UNEVEN = (
    f"other: {name}"
    for name in (
        "autograd engine",
        "outside the model",
        "unattributed",
        "device idle",
        "uneven between calls",
    )
)

OPERATORS = (
    *(CONVOLUTION, MOMENTS, SOLVE, ALGEBRA, APPLY, FUSED, REST),
    *(LINEAR, ACTIVATION, ADDITION, POOLING, RESIZING, COPYING, ACCUMULATION, PYTHON, OTHER),
    *(ENGINE, HARNESS, UNKNOWN, IDLE, UNEVEN),
)
"""All operators, in the order of a table."""

_WORDS = (
    (CONVOLUTION, ("conv",)),
    (FUSED, ("batch_norm", "group_norm", "layer_norm", "instance_norm")),
    (LINEAR, ("linear", "addmm", "matmul", "bmm", "mm")),
    (ACTIVATION, ("relu", "threshold", "sigmoid", "tanh", "gelu", "silu", "softmax")),
    (POOLING, ("pool", "mean")),
    (RESIZING, ("upsample", "interpolate")),
    (COPYING, ("copy", "clone", "contiguous", "pad", "cat", "slice", "::to")),
    (ADDITION, ("::add",)),
)


def operator_of(operation: str) -> str:
    """The operator of an operation's name, such as `aten::conv2d`; `OTHER` for a name that the list
    does not know.
    """
    return next(
        (operator for operator, words in _WORDS if any(word in operation for word in words)), OTHER
    )
