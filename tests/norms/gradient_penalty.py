"""Second derivatives of a layer as a gradient penalty takes them, for the tests of all backends."""

import norms_oracle
import torch
from torch.func import functional_call


def of_tensors(layer, *, naive=False):
    """`layer` as a function of x and its parameters, and these."""
    names = [name for name, _ in layer.named_parameters()]

    def call(x, *parameters):
        given = dict(zip(names, parameters, strict=True))
        if naive:
            return norms_oracle.reference(layer, x, **given)[0]
        return functional_call(layer, given, (x,))

    return call, [p.detach().clone().requires_grad_() for p in layer.parameters()]


def second(call, x, parameters):
    """The gradient of a penalty on gradients, as GANs have it, for x and all parameters."""
    x = x.detach().clone().requires_grad_()
    y = call(x, *parameters)
    torch.manual_seed(7)

    def weighted(tensor):
        return (tensor * torch.randn(tensor.shape, dtype=torch.float64).to(tensor)).sum()

    first = torch.autograd.grad(weighted(y.tanh()), [x, *parameters], create_graph=True)
    penalty = sum(weighted(g) + g.square().sum() for g in first)
    return (*first, *torch.autograd.grad(penalty, [x, *parameters]))
