"""The weights of switchable whitening in a kernel: softmax of up to eight logits, and the way back from what each statistic was multiplied by.

BW, IW, BN, IN, LN are the positions of the statistics among the logits, −1 for one that is not mixed.
"""

import triton
import triton.language as tl

FIELDS = tl.constexpr(16)
"""Numbers a program leaves for the way back through the weights."""


@triton.jit
def softmax(logits, COUNT: tl.constexpr):
    """The weights, (8,), zero from COUNT on."""
    k = tl.arange(0, 8)
    given = tl.load(logits + k, mask=k < COUNT, other=-float("inf")).to(tl.float32)
    raised = tl.exp(given - tl.max(given, 0))
    return raised / tl.sum(raised, 0)


@triton.jit
def pick(weights, K: tl.constexpr):
    """Weight number K, 0 for −1."""
    return tl.sum(tl.where(tl.arange(0, 8) == K, weights, 0.0), 0)


@triton.jit
def through_softmax(weights, grad, out, COUNT: tl.constexpr):
    """The gradient of the logits into `out`, from that of the weights."""
    k = tl.arange(0, 8)
    tl.store(out + k, weights * (grad - tl.sum(weights * grad, 0)), mask=k < COUNT)


@triton.jit
def finish(
    scalars,
    weights,
    grad_mean_logits,
    grad_cov_logits,
    count,
    ROUNDS: tl.constexpr,
    ALONE: tl.constexpr,
    BW: tl.constexpr,
    IW: tl.constexpr,
    BN: tl.constexpr,
    IN: tl.constexpr,
    LN: tl.constexpr,
    COUNT: tl.constexpr,
):
    """The gradients of both sets of logits from the FIELDS numbers that each of `count` programs left, 32 a round. ALONE: the batch is the one image."""
    field = tl.arange(0, FIELDS)
    total = tl.zeros((FIELDS,), tl.float32)
    for turn in range(ROUNDS):
        item = turn * 32 + tl.arange(0, 32)
        total += tl.sum(tl.load(scalars + item[:, None] * FIELDS + field[None, :], mask=(item < count)[:, None], other=0.0), 0)
    k = tl.arange(0, 8)
    m_batch, m_image = tl.sum(tl.where(field == 0, total, 0.0), 0), tl.sum(tl.where(field == 1, total, 0.0), 0)
    full_batch, full_image = tl.sum(tl.where(field == 3, total, 0.0), 0), tl.sum(tl.where(field == 4, total, 0.0), 0)
    own_batch, own_image = tl.sum(tl.where(field == 5, total, 0.0), 0), tl.sum(tl.where(field == 6, total, 0.0), 0)
    m_layer, layer = tl.sum(tl.where(field == 2, total, 0.0), 0), tl.sum(tl.where(field == 7, total, 0.0), 0)
    if ALONE:
        m_batch, full_batch, own_batch = m_image, full_image, own_image
    towards = tl.where((k == BW) | (k == BN), m_batch, 0.0) + tl.where((k == IW) | (k == IN), m_image, 0.0) + tl.where(k == LN, m_layer, 0.0)
    through_softmax(tl.load(weights + k), towards, grad_mean_logits, COUNT)
    towards = tl.where(k == BW, full_batch, 0.0) + tl.where(k == IW, full_image, 0.0)
    towards += tl.where(k == BN, own_batch, 0.0) + tl.where(k == IN, own_image, 0.0) + tl.where(k == LN, layer, 0.0)
    through_softmax(tl.load(weights + 8 + k), towards, grad_cov_logits, COUNT)
