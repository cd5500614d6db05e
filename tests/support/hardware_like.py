"""A pytest plugin that makes Triton's interpreter more like a GPU: programs in a shuffled order,
fresh memory full of NaN, and products in three passes of TF32 as tensor cores take them.

`-p hardware_like` with TRITON_INTERPRET=1; HARDWARE_LIKE names what is done
(`shuffle,tf32,poison`), HARDWARE_SEED the order.
"""

import os
import random

import numpy as np
import torch
from triton.runtime import interpreter

REQUESTED = os.environ.get("HARDWARE_LIKE", "shuffle,tf32,poison").split(",")
STEP = 8
"""Products that a tensor core adds at once in TF32."""


def shuffled(order: random.Random) -> None:
    """The programs of a grid run in another order each time."""
    builder, run = interpreter.interpreter_builder, interpreter.GridExecutor.__call__
    place = type(builder).set_grid_idx

    def call(self, *args, **kwargs):
        grid = self.grid
        if callable(grid):
            grid = grid(dict(zip(self.arg_names, args, strict=False)) | kwargs)
        programs = list(range(grid[0]))
        order.shuffle(programs)
        builder.set_grid_idx = lambda x, y, z: place(
            builder, programs[x] if x < len(programs) else x, y, z
        )
        try:
            return run(self, *args, **kwargs)
        finally:
            del builder.set_grid_idx

    interpreter.GridExecutor.__call__ = call


def rounded(x: np.ndarray) -> np.ndarray:
    """To the ten bits of TF32, halves away from zero."""
    x = np.ascontiguousarray(x, dtype=np.float32)
    near = (x.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    return np.where(np.isfinite(x), near.view(np.float32), x)


def multiplied(a: np.ndarray, b: np.ndarray, total: np.ndarray) -> np.ndarray:
    """`total` + A B in steps of `STEP`: exact products, whose sum with what is there already is cut
    off to float32.
    """
    for k in range(0, a.shape[-1], STEP):
        exact = np.matmul(a[..., k : k + STEP].astype(np.float64), b[..., k : k + STEP, :])
        exact = exact + total.astype(np.float64)
        near = exact.astype(np.float32)
        over = (np.abs(near.astype(np.float64)) > np.abs(exact)) & np.isfinite(near)
        total = np.where(over, np.nextafter(near, np.float32(0)), near)
    return total


def dot(self, a, b, d, precision, most):
    """`create_dot` of the interpreter, with `tf32x3` as it is on tensor cores."""
    if a.data.dtype != np.float32 or "TF32x3" not in str(precision).rpartition(".")[2]:
        product = np.matmul(a.data, b.data, dtype=d.data.dtype)
        return interpreter.TensorHandle(product + d.data, d.dtype.scalar)
    with np.errstate(all="ignore"):
        large_a, large_b = rounded(a.data), rounded(b.data)
        small_a, small_b = rounded(a.data - large_a), rounded(b.data - large_b)
        shape = np.broadcast_shapes(a.data.shape[:-2], b.data.shape[:-2])
        zero = np.zeros((*shape, a.data.shape[-2], b.data.shape[-1]), np.float32)
        total = multiplied(large_a, small_b, multiplied(small_a, large_b, zero))
        total = multiplied(large_a, large_b, np.where(np.isnan(total), np.float32(0), total))
    return interpreter.TensorHandle(total + d.data, d.dtype.scalar)


def poisoned(make):
    """What makes uninitialised tensors, filled with NaN."""

    def made(*args, **kwargs):
        tensor = make(*args, **kwargs)
        if tensor.is_floating_point() and tensor.numel() and tensor.device.type == "cpu":
            tensor.fill_(float("nan"))
        return tensor

    return made


if "shuffle" in REQUESTED:
    shuffled(random.Random(int(os.environ.get("HARDWARE_SEED", "0"))))
if "tf32" in REQUESTED:
    interpreter.InterpreterBuilder.create_dot = dot
if "poison" in REQUESTED:
    torch.empty, torch.empty_like = poisoned(torch.empty), poisoned(torch.empty_like)


def pytest_report_header() -> str:
    """What is done, so that a run can be seen to have done it."""
    return f"hardware-like: {', '.join(REQUESTED)}"
