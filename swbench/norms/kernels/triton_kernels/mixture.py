"""The weights of switchable whitening in a kernel: the softmax of up to eight logits, and its
gradient.

KINDS, the number of statistics that are mixed, determines which they are, in the order of their
weights: 0 none, 2 BW and IW, 3 BW, IW and LN, 5 BW, IW, BN, IN and LN. The layer statistic is the
last.
"""

import triton
import triton.language as tl

FIELDS = tl.constexpr(16)
"""Numbers that each program stores for the gradient of the weights."""
BW, IW, BN, IN = (tl.constexpr(i) for i in range(4))
"""Positions among the weights, BN and IN where they are mixed at all."""


@triton.jit
def softmax(logits, KINDS: tl.constexpr):
    """The weights, (8,), zero from KINDS on."""
    k = tl.arange(0, 8)
    given = tl.load(logits + k, mask=k < KINDS, other=-float("inf")).to(tl.float32)
    raised = tl.exp(given - tl.max(given, 0))
    return raised / tl.sum(raised, 0)


@triton.jit
def pick(weights, K: tl.constexpr):
    """Weight number K, 0 for −1."""
    return tl.sum(tl.where(tl.arange(0, 8) == K, weights, 0.0), 0)


@triton.jit
def of_means(weights, KINDS: tl.constexpr):
    """The factors of the batch's and of the image's mean."""
    bn: tl.constexpr = BN if KINDS == 5 else -1
    in_: tl.constexpr = IN if KINDS == 5 else -1
    return pick(weights, BW) + pick(weights, bn), pick(weights, IW) + pick(weights, in_)


@triton.jit
def of_covariances(weights, KINDS: tl.constexpr):
    """The factors of the batch's and of the image's covariance, and those of their diagonals."""
    bn: tl.constexpr = BN if KINDS == 5 else -1
    in_: tl.constexpr = IN if KINDS == 5 else -1
    return pick(weights, BW), pick(weights, IW), pick(weights, bn), pick(weights, in_)


@triton.jit
def through_softmax(weights, grad, out, KINDS: tl.constexpr):
    """Store the gradient of the logits in `out`, from that of the weights."""
    k = tl.arange(0, 8)
    tl.store(out + k, weights * (grad - tl.sum(weights * grad, 0)), mask=k < KINDS)


@triton.jit
def finish(
    scalars,
    weights,
    grad_mean_logits,
    grad_cov_logits,
    count,
    ALONE: tl.constexpr,
    KINDS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Store the gradients of both sets of logits, from the FIELDS numbers of each of `count`
    programs, ROWS at a time. ALONE: the batch is a single image.
    """
    field = tl.arange(0, FIELDS)
    total = tl.zeros((FIELDS,), tl.float32)
    for turn in range(tl.cdiv(count, ROWS)):
        item = turn * ROWS + tl.arange(0, ROWS)
        total += tl.sum(
            tl.load(
                scalars + item[:, None] * FIELDS + field[None, :],
                mask=(item < count)[:, None],
                other=0.0,
            ),
            0,
        )
    k = tl.arange(0, 8)
    m_batch, m_image = (
        tl.sum(tl.where(field == 0, total, 0.0), 0),
        tl.sum(tl.where(field == 1, total, 0.0), 0),
    )
    full_batch, full_image = (
        tl.sum(tl.where(field == 3, total, 0.0), 0),
        tl.sum(tl.where(field == 4, total, 0.0), 0),
    )
    own_batch, own_image = (
        tl.sum(tl.where(field == 5, total, 0.0), 0),
        tl.sum(tl.where(field == 6, total, 0.0), 0),
    )
    m_layer, layer = (
        tl.sum(tl.where(field == 2, total, 0.0), 0),
        tl.sum(tl.where(field == 7, total, 0.0), 0),
    )
    if ALONE:
        m_batch, full_batch, own_batch = m_image, full_image, own_image
    towards_mean = tl.where(k == BW, m_batch, 0.0) + tl.where(k == IW, m_image, 0.0)
    towards_cov = tl.where(k == BW, full_batch, 0.0) + tl.where(k == IW, full_image, 0.0)
    if KINDS == 5:
        towards_mean += tl.where(k == BN, m_batch, 0.0) + tl.where(k == IN, m_image, 0.0)
        towards_cov += tl.where(k == BN, own_batch, 0.0) + tl.where(k == IN, own_image, 0.0)
    if KINDS > 2:
        towards_mean += tl.where(k == KINDS - 1, m_layer, 0.0)
        towards_cov += tl.where(k == KINDS - 1, layer, 0.0)
    through_softmax(tl.load(weights + k), towards_mean, grad_mean_logits, KINDS)
    through_softmax(tl.load(weights + 8 + k), towards_cov, grad_cov_logits, KINDS)
