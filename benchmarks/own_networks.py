"""Does conversion keep timm's networks? Converts each one several ways and compares outputs, state
and gradients with the network as it came, in float64; prints the table of docs/own-networks.md.

python benchmarks/own_networks.py [NAME …]

Of every network, with weights, running statistics and input at random:

- no site converted: every module is the same object, outputs are bit-equal in both modes;
- `bn` at every site: outputs in both modes within 1e-6 of their norm, every entry of the state that
  belongs to no site with its value;
- `bw` at every site that the group divides: eval output within 1e-6 (it is far closer), gradients
  of all parameters finite and there, but for those that have none in the network as it came;
- `swa` likewise: eval output with `mix="batch"` within 1e-6, and by how much the default changes
  it.

The exit code is 1 where anything of that is not so. Networks without batch normalisation must be
refused.
"""

# ruff: noqa: T201  a script: it is run by hand, and what it prints is its result
import contextlib
import copy
import math
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from swbench.errors import OptionError
from swbench.models.convert import convert_norms, output_change
from swbench.models.named import imported
from swbench.models.norm_sites import norm_sites
from swbench.models.outputs import floating

BOUND = 1e-6
SIDE = 64
"""Pixels a side, where the network takes any image."""

SIDES = {"levit_128s": 224, "mobilevit_xxs": 128, "inception_v3": 107, "inception_v4": 139}
SIDES |= {"efficientformer_l1": 224, "xception41": 107, "vit_tiny_patch16_224": 224}
BATCH = 2

NETWORKS = (
    *("resnet18", "resnet50", "resnet50d", "resnext50_32x4d", "seresnet50", "res2net50_26w_4s"),
    *("resnest14d", "skresnet18", "regnetx_002", "regnety_004", "cspresnet50", "dpn68"),
    *("efficientnet_b0", "tf_efficientnetv2_b0", "mobilenetv2_100", "mobilenetv3_small_100"),
    *("mnasnet_100", "fbnetc_100", "mixnet_s", "rexnet_100", "lcnet_050", "ghostnet_100"),
    *("densenet121", "inception_v3", "inception_v4", "xception41", "hrnet_w18_small", "dla34"),
    *("ese_vovnet19b_dw", "repvgg_a0", "mobileone_s0", "vgg11_bn", "selecsls42", "darknet53"),
    *("levit_128s", "mobilevit_xxs", "efficientformer_l1", "fastvit_t8", "convmixer_768_32"),
    "resnetv2_50",
)
REFUSED = ("dm_nfnet_f0", "convnext_atto", "vit_tiny_patch16_224")
"""Networks without batch normalisation."""


@dataclass
class Row:
    """What was found of one network; relative differences of outputs."""

    name: str
    sites: int = 0
    group: int = 0
    whitened: int = 0
    bn_eval: float = 0.0
    bn_train: float = 0.0
    bw_eval: float = 0.0
    batch_eval: float = 0.0
    swa_eval: float = 0.0
    without_gradient: int = 0
    refused: str = ""
    faults: tuple[str, ...] = ()


def network(name: str) -> tuple[nn.Module, Tensor]:
    """The network in float64 with the norms' parameters away from where they start and running
    statistics of a batch, and images.
    """
    timm = imported("timm")
    torch.manual_seed(0)
    net = timm.create_model(name, pretrained=False).double()
    side = SIDES.get(name, SIDE)
    images = torch.randn(2, BATCH, 3, side, side, dtype=torch.float64)
    norms = [site.module for site in norm_sites(net)]
    momenta = [norm.momentum for norm in norms]
    with torch.no_grad():
        for norm in norms:
            norm.weight.uniform_(0.8, 1.2)
            norm.bias.normal_(std=0.1)
            norm.momentum = 1.0
        net.train()(images[0])
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return net, images[1]


def check(name: str) -> Row:
    """Convert the timm network `name` in every way, and compare."""
    net, x = network(name)
    row, faults = Row(name), []
    sites = norm_sites(net)
    row.sites = len(sites)
    if (name in REFUSED) != (not sites):
        faults.append(f"has {len(sites)} norms")
    if not sites:
        try:
            convert_norms(net, "bw")
        except OptionError as problem:
            row.refused = str(problem).partition("; ")[2]
        else:
            faults.append("was not refused")
        row.faults = tuple(faults)
        return row
    before = outputs(net, x)
    modules, same = list(net.modules()), convert_norms(net, "bw", [], inplace=True)
    if same is not net or any(a is not b for a, b in zip(modules, same.modules(), strict=True)):
        faults.append("converting no site changed a module")
    if differ(before, outputs(same, x)) != [0.0, 0.0]:
        faults.append("converting no site changed an output")

    plain = convert_norms(copy_of(net), "bn", inplace=True)
    row.bn_eval, row.bn_train = differ(before, outputs(plain, x))
    faults += unlike_state(net, plain, [path for site in sites for path in site.paths])

    row.group, chosen = whitenable(net)
    row.whitened = len(chosen)
    none = without_gradient(net, x)
    row.without_gradient = len(none)
    for norm, mix in (("bw", "equal"), ("swa", "batch"), ("swa", "equal")):
        made = convert_norms(copy_of(net), norm, chosen, group=row.group, mix=mix, inplace=True)
        (change,) = differ(before[:1], outputs(made, x, modes=(False,)))
        if norm == "bw":
            row.bw_eval = change
        elif mix == "batch":
            row.batch_eval = change
            continue
        else:
            row.swa_eval = change
        lost = without_gradient(made, x) - none
        faults += [f"{norm}: no gradient of {path}" for path in sorted(lost)[:1]]
    bounded = {
        "bn in eval mode": row.bn_eval,
        "bn in training": row.bn_train,
        "bw in eval mode": row.bw_eval,
        "swa on the batch's statistics in eval mode": row.batch_eval,
    }
    faults += [f"{what} is {d:.0e} off" for what, d in bounded.items() if not d <= BOUND]
    row.faults = tuple(faults)
    return row


def copy_of(net: nn.Module) -> nn.Module:
    """A copy of modules and buffers that shares the parameters, which nothing here changes."""
    return copy.deepcopy(net, {id(parameter): parameter for parameter in net.parameters()})


def whitenable(net: nn.Module) -> tuple[int, list[int]]:
    """The largest group of 16, 8 or 4 channels that divides at least half of the sites, and their
    numbers.
    """
    sites = [site for site in norm_sites(net) if site.number]
    for group in (16, 8, 4):
        chosen = [site.number for site in sites if site.channels % group == 0]
        if 2 * len(chosen) >= len(sites):
            return group, chosen
    return 1, [site.number for site in sites]


def outputs(net: nn.Module, x: Tensor, modes: Iterable[bool] = (False, True)) -> list[list[Tensor]]:
    """What the network gives in eval and then in training mode, with the same random numbers for
    its dropout every time; its buffers are what they were.
    """
    results = []
    with unmoved(net), torch.no_grad():
        for training in modes:
            torch.manual_seed(1)
            results.append(floating(net.train(training)(x)))
    return results


@contextlib.contextmanager
def unmoved(net: nn.Module) -> Iterator[None]:
    """Put the buffers back that training calls move."""
    buffers_before = [(buffer, buffer.clone()) for buffer in net.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in buffers_before:
                buffer.copy_(value)


def differ(before: Iterable, after: Iterable) -> list[float]:
    """How far outputs are apart in each mode, over their norm."""
    return [
        output_change(lambda tensor=tensor: tensor, lambda other=other: other)
        for tensor, other in zip(before, after, strict=True)
    ]


def unlike_state(net: nn.Module, converted: nn.Module, paths: list[str]) -> list[str]:
    """The first entry that belongs to no converted norm and is not what it was."""
    own, theirs = net.state_dict(), converted.state_dict()
    prefixes = tuple(f"{path}." for path in paths)
    return [
        f"state: {key}"
        for key, value in own.items()
        if not key.startswith(prefixes) and not (key in theirs and torch.equal(value, theirs[key]))
    ][:1]


def without_gradient(net: nn.Module, x: Tensor) -> set[str]:
    """The parameters without a finite gradient after a training step."""
    torch.manual_seed(1)
    with unmoved(net):
        tensors = [tensor for tensor in floating(net.train()(x)) if tensor.requires_grad]
        torch.autograd.backward(tensors, [torch.randn_like(tensor) for tensor in tensors])
    results = {
        path
        for path, parameter in net.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all()
    }
    net.zero_grad(set_to_none=True)
    return results


HEADER = """\
| network | norms | converted, G | `bn` eval, training | `bw` eval | `swa` batch | `swa` eval |
|---|---:|---:|---:|---:|---:|---:|"""


def line(row: Row) -> str:
    """The row of the table."""
    if row.refused:
        return f"| {row.name} | 0 | refused: {row.refused} | | | | |"
    return (
        f"| {row.name} | {row.sites} | {row.whitened}, {row.group} | {digits(row.bn_eval)}, "
        f"{digits(row.bn_train)} | {digits(row.bw_eval)} | {digits(row.batch_eval)} | "
        f"{row.swa_eval:.2f} |"
    )


def digits(value: float) -> str:
    """0, or one digit and the exponent."""
    return "0" if value == 0 else f"{value:.0e}" if math.isfinite(value) else str(value)


def main(names: list[str]) -> int:
    """Check all networks, or those called `names`; 1 where anything is not as it should be."""
    torch.set_num_threads(1)
    failed = 0
    print(HEADER)
    for name in names or (*NETWORKS, *REFUSED):
        started = time.perf_counter()
        row = check(name)
        print(line(row), flush=True)
        failed += bool(row.faults)
        text = "; ".join(row.faults) or "right"
        lacking = f"; {row.without_gradient} parameters never have a gradient" * bool(
            row.without_gradient
        )
        print(f"{name}: {text}{lacking}; {time.perf_counter() - started:.0f} s", file=sys.stderr)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
