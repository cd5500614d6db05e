"""The whitening layers and batch normalisation as torch's own module tests describe modules
(`torch.testing._internal.common_modules`), and the checks that these tests make.
"""

import copy
import pickle
from functools import partial

import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import make_tensor
from torch.testing._internal.common_modules import (
    FunctionInput,
    ModuleInfo,
    ModuleInput,
    module_inputs_torch_nn_BatchNorm2d,
)

from swbench.norms.layers import BatchWhiten2d, InstanceWhiten2d, SwitchWhiten2d

# torch's module forbids, for the whole process, what other tests here set and set back
torch.backends.flags_frozen.__globals__["__allow_nonbracketed_mutation_flag"] = True
assert not torch.backends.flags_frozen()


def whitening_inputs(options, module_info, device, dtype, requires_grad, training, **_):
    """Samples like those of batch normalisation: one image and several, with each setting."""
    x = partial(make_tensor, device=device, dtype=dtype, requires_grad=requires_grad)
    settings = [
        {},
        {"eps": 1e-3, "momentum": None},
        {"running_decay": 0.2},
        {"affine": False},
        {"track_running_stats": False},
    ]
    # one image takes other ways through the kernels
    return [
        ModuleInput(
            constructor_input=FunctionInput(6, 3, **options, **given),
            forward_input=FunctionInput(x((images, 6, 4, 5))),
            desc=f"{given} N={images}",
        )
        for given in settings
        for images in (1, 2)
    ]


def some_of_batch_norm(*args, **options):
    """Torch's own samples, but the batch without images, which whitening layers refuse."""
    inputs = module_inputs_torch_nn_BatchNorm2d(*args, **options)
    return [sample_ for sample_ in inputs if sample_.desc != "zero_batch"]


def info(cls, **options):
    return ModuleInfo(
        cls, module_inputs_func=partial(whitening_inputs, options), train_and_eval_differ=True
    )


INFOS = {
    "BatchNorm2d": ModuleInfo(
        nn.BatchNorm2d, module_inputs_func=some_of_batch_norm, train_and_eval_differ=True
    ),
    "BatchWhiten2d": info(BatchWhiten2d),
    "InstanceWhiten2d": info(InstanceWhiten2d),
    "SwitchWhiten2d, sw_type=2": info(SwitchWhiten2d, sw_type=2),
    "SwitchWhiten2d, sw_type=3": info(SwitchWhiten2d, sw_type=3),
    "SwitchWhiten2d, sw_type=5": info(SwitchWhiten2d, sw_type=5),
}


def samples(info, dtype=torch.float32, *, train=True, differentiated=False):
    """Each sample's module (in `dtype`) and input; of those to be `differentiated` none that
    differ in how statistics move alone.
    """
    torch.manual_seed(0)
    for sample in info.module_inputs_func(
        info, device="cpu", dtype=dtype, requires_grad=differentiated, training=train
    ):
        if (
            differentiated
            and {"momentum", "running_decay"} & sample.constructor_input.kwargs.keys()
        ):
            continue
        built = info.module_cls(
            *sample.constructor_input.args, **sample.constructor_input.kwargs, dtype=dtype
        )
        yield built.train(train), sample.forward_input.args[0]


def forward(info, train):
    for module, x in samples(info, train=train):
        y = module(x)
        assert y.shape == x.shape
        assert y.dtype == x.dtype
        assert y.isfinite().all()


def factory_arguments(info, train):
    for sample in info.module_inputs_func(
        info, device="cpu", dtype=torch.float32, requires_grad=False, training=train
    ):
        args, kwargs = sample.constructor_input.args, sample.constructor_input.kwargs
        for device in ("cpu", "meta"):
            built = info.module_cls(*args, **kwargs, device=device, dtype=torch.float64)
            for tensor in (*built.parameters(), *built.buffers()):
                assert tensor.device.type == device
                assert tensor.dtype == torch.float64 or not tensor.is_floating_point()


def pickled(info, train):
    for module, x in samples(info, train=train):
        second = pickle.loads(pickle.dumps(module))
        assert torch.equal(second(x), module(x))
        assert second.state_dict().keys() == module.state_dict().keys()


def in_place(info, train):
    """What comes out may be changed in place, and what went in was not changed."""
    for module, x in samples(info, train=train):
        before, leaf = x.clone(), x.clone().requires_grad_()
        reference = copy.deepcopy(module)
        module(leaf).relu_().sum().backward()
        other = x.clone().requires_grad_()
        reference(other).relu().sum().backward()
        assert torch.equal(leaf.grad, other.grad)
        assert torch.equal(leaf.detach(), before)


def non_contiguous(info, train):
    for module, x in samples(info, train=train):
        reference = copy.deepcopy(module)
        strided = torch.stack([x, torch.zeros_like(x)], -1)[..., 0].requires_grad_()
        leaf = x.clone().requires_grad_()
        dy = torch.randn(*x.shape, 2)[..., 0]
        y, expected = module(strided), reference(leaf)
        torch.testing.assert_close(y, expected)
        y.backward(dy), expected.backward(dy.contiguous())
        torch.testing.assert_close(strided.grad, leaf.grad, rtol=1e-4, atol=1e-4)


def memory_format(info, train):
    for module, x in samples(info, train=train):
        reference = copy.deepcopy(module)
        y = module(x.contiguous(memory_format=torch.channels_last))
        assert y.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(y, reference(x), rtol=1e-4, atol=1e-4)


def _of(module):
    """A function of x and the parameters that leaves the module's own statistics alone."""
    names = [name for name, _ in module.named_parameters()]
    buffers = {name: b.clone() for name, b in module.named_buffers()}

    def call(x, *parameters):
        given = dict(zip(names, parameters, strict=True))
        given |= {name: b.clone() for name, b in buffers.items()}
        return torch.func.functional_call(module, given, (x,))

    return call, [p.detach().clone().requires_grad_() for p in module.parameters()]


def grad(info, train):
    for module, x in samples(info, torch.float64, train=train, differentiated=True):
        call, parameters = _of(module)
        assert gradcheck(
            call, (x, *parameters), check_forward_ad=True, check_batched_grad=True, fast_mode=True
        )


def gradgrad(info, train):
    for module, x in samples(info, torch.float64, train=train, differentiated=True):
        call, parameters = _of(module)
        assert gradgradcheck(call, (x, *parameters), check_batched_grad=True, fast_mode=True)


def train_and_eval(info, train):
    """The mode sets `training`, and counts where running statistics do."""
    for module, x in samples(info, train=train):
        assert module.training is train
        module.train()(2 * x + 1)  # so that an average over batches is not that of the next
        sample_, other = module(x), copy.deepcopy(module).eval()(x)
        keeps = getattr(module, "running_mean", None) is not None
        assert torch.allclose(sample_, other, atol=1e-3) is not keeps


def to_another_dtype(info, train):
    for module, x in samples(info, train=train):
        for dtype in (torch.float64, torch.bfloat16, torch.float16):
            y = copy.deepcopy(module).to(dtype)(x.to(dtype))
            assert y.dtype is dtype
            torch.testing.assert_close(y.float(), copy.deepcopy(module)(x), rtol=0.1, atol=0.1)


def shown(info, train):
    for module, _ in samples(info, train=train):
        assert repr(module).startswith(f"{info.module_cls.__name__}({module.num_features}, ")


def state_dict(info, train):
    for module, x in samples(info, train=train):
        module(x)
        other = copy.deepcopy(module)
        other.reset_parameters()
        assert not other.load_state_dict(module.state_dict(), strict=True).missing_keys
        assert torch.equal(other.eval()(x), module.eval()(x))


def per_sample(info, train):
    """Gradients of every sample of a batch; in training those that keep statistics refuse."""
    for module, x in samples(info, train=train):
        images = torch.randn(3, *x.shape)
        function = torch.vmap(torch.func.grad(lambda image, m=module: m(image).sin().sum()))
        keeps = getattr(module, "running_mean", None) is not None
        if train and keeps:
            try:
                function(images)
            except RuntimeError:
                continue
            raise AssertionError("statistics of many samples went into one")
        assert function(images).isfinite().all()


CHECKS = {
    "forward": forward,
    "factory arguments": factory_arguments,
    "pickle": pickled,
    "in place": in_place,
    "non-contiguous": non_contiguous,
    "memory format": memory_format,
    "gradcheck, forward mode, batched": grad,
    "gradgradcheck, batched": gradgrad,
    "train and eval": train_and_eval,
    "to another dtype": to_another_dtype,
    "repr": shown,
    "state dict": state_dict,
    "per-sample gradients": per_sample,
}
