"""What the checks of ranks are made of: a process group, a layer and its data alike on all ranks,
and a batch that is split and put together again.
"""

import torch
from torch import distributed as dist
from whitening_layers import WHITENING

CLOSE = {"rtol": 1e-10, "atol": 1e-10}


class Group:
    """A process group of the first ranks, and this process's place in it."""

    def __init__(self, size):
        self.handle, self.size, self.rank = dist.new_group(range(size)), size, dist.get_rank()

    def own(self, x, sizes):
        return x.split(sizes)[self.rank]

    def summed(self, tensor):
        tensor = tensor.clone()
        dist.all_reduce(tensor, group=self.handle)
        return tensor


def build(kind, channels=8, group=4, **options):
    torch.manual_seed(1)
    cls, given = WHITENING[kind]
    layer = cls(channels, group, **{"solver": "eigh", **given, **options}).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.rand_like(parameter) + 0.5)
        layer.running_mean.normal_()
    return layer


def data(images=8, channels=8, layout=torch.contiguous_format, size=(3, 5)):
    torch.manual_seed(2)
    x = torch.randn(images, channels, *size, dtype=torch.float64) * 2 + 3 * torch.randn(
        images, channels, 1, 1, dtype=torch.float64
    )
    return x.contiguous(memory_format=layout), torch.randn_like(x)


def run(layer, x, dy):
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = layer(x)
    y.backward(dy)
    return y.detach(), x.grad, {name: p.grad for name, p in layer.named_parameters()}


class SplitBatch(torch.autograd.Function):
    """This rank's images of a batch that all ranks hold; the gradient is put together from all
    ranks.
    """

    @staticmethod
    def forward(ctx, x, group, sizes):
        ctx.group, ctx.sizes = group, sizes
        return group.own(x, sizes).clone()

    @staticmethod
    def backward(ctx, dx):
        return gathered(dx, ctx.group, ctx.sizes), None, None


class GatherBatch(torch.autograd.Function):
    """The images of all ranks."""

    @staticmethod
    def forward(ctx, y, group, sizes):
        ctx.group, ctx.sizes = group, sizes
        return gathered(y, group, sizes)

    @staticmethod
    def backward(ctx, dy):
        return ctx.group.own(dy, ctx.sizes).clone(), None, None


class SharedParameter(torch.autograd.Function):
    """A parameter that all ranks use: its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx, p, group):
        ctx.group = group
        return p.clone()

    @staticmethod
    def backward(ctx, dp):
        return ctx.group.summed(dp), None


def gathered(part, group, sizes):
    full = part.new_zeros(sum(sizes), *part.shape[1:])
    start = sum(sizes[: group.rank])
    full[start : start + sizes[group.rank]] = part
    return group.summed(full)
