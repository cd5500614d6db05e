"""What each whitened layer costs inside ResNet50, beside batch normalisation in its place: `python
-m benchmarks.whitening_in_network [--dtype amp-bfloat16] [--layout channels_last] [--phase eval]`.

All networks of a round run in random order in one process; hooks read the clock where a layer
begins and ends, forward and backward. Unlike a loop over one layer, the convolutions between have
emptied the caches and put other threads to sleep. Printed are medians in µs; the ratio of whole
passes to BN's; and what the layers add to BN's whole pass, from their own times alone. The last is
far less noisy than the ratio.
"""

import argparse
import os
import random
import statistics
import sys
import time
from contextlib import AbstractContextManager, nullcontext

# as in every worker; torch's runtime reads it when it is loaded
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from swbench import models
from swbench.norms.layers import Whiten2d

NORMS = ("bn", "bn again", "bw", "swa", "swb")
SIZES = {"resnet50": 224, "resnet50-seg": 713}

Moments = dict[tuple[str, str, str], list[float]]


def watch(network: torch.nn.Module, name: str, sites: list[str], moments: Moments) -> None:
    """Append the time at which every layer of `sites` begins (`F0`, `B0`) and ends (`F1`, `B1`) to
    `moments`, under (name, site, which).
    """

    def at(site: str, which: str) -> None:
        moments.setdefault((name, site, which), []).append(time.perf_counter())

    def before(site: str, inputs: tuple) -> None:
        if inputs[0].requires_grad:
            inputs[0].register_hook(lambda _: at(site, "B1"))
        at(site, "F0")

    def after(site: str, output: torch.Tensor) -> None:
        at(site, "F1")
        if output.requires_grad:
            output.register_hook(lambda _: at(site, "B0"))

    for site in sites:
        layer = network.get_submodule(site)
        layer.register_forward_pre_hook(lambda _, inputs, site=site: before(site, inputs))
        layer.register_forward_hook(lambda _, __, output, site=site: after(site, output))


def run(
    networks: dict[str, torch.nn.Module], image: torch.Tensor, rounds: int, dtype: str, train: bool
) -> dict[tuple[str, str], list[float]]:
    """Seconds of whole passes by (network, `F` or `B`)."""
    passes: dict[tuple[str, str], list[float]] = {}

    def context() -> AbstractContextManager:
        if not train:
            return torch.inference_mode()
        if dtype.startswith("amp-"):
            return torch.autocast("cpu", getattr(torch, dtype.removeprefix("amp-")))
        return nullcontext()

    for _ in range(rounds):
        for name in random.sample(list(networks), len(networks)):
            start = time.perf_counter()
            with context():
                y = networks[name](image)
            middle = time.perf_counter()
            passes.setdefault((name, "F"), []).append(middle - start)
            if not train:
                continue
            y.backward(torch.ones_like(y))
            passes.setdefault((name, "B"), []).append(time.perf_counter() - middle)
            networks[name].zero_grad(set_to_none=True)
    return passes


def main() -> None:
    """Measure, and print a line for each layer and pass."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--batch", type=int, default=1)
    options.add_argument(
        "--model",
        choices=tuple(SIZES),
        default="resnet50",
        help="at 224×224, or dilated for segmentation at 713×713",
    )
    options.add_argument("--layers", type=int, choices=(7, 14), default=7)
    options.add_argument(
        "--norms",
        default=",".join(NORMS),
        help=(
            "the first is what others are compared with, the last one whitens: default %(default)s"
        ),
    )
    options.add_argument("--rounds", type=int, default=30)
    options.add_argument("--warm-up", type=int, default=3, help="rounds before them")
    options.add_argument(
        "--dtype", choices=("float32", "bfloat16", "amp-bfloat16"), default="float32"
    )
    options.add_argument("--layout", choices=("contiguous", "channels_last"), default="contiguous")
    options.add_argument("--phase", choices=("train", "eval"), default="train")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    size = SIZES[given.model]
    random.seed(0)
    torch.manual_seed(0)
    train, networks = given.phase == "train", {}
    layout = torch.channels_last if given.layout == "channels_last" else torch.contiguous_format
    dtype = torch.bfloat16 if given.dtype == "bfloat16" else torch.float32
    for name in given.norms.split(","):
        norm = name.split()[0]
        network = models.build(given.model, norm, 0 if norm == "bn" else given.layers)
        networks[name] = network.train(train).to(dtype).to(memory_format=layout)
    image = torch.randn(given.batch, 3, size, size).to(dtype).to(memory_format=layout)
    sites = [site for site, layer in networks[name].named_modules() if isinstance(layer, Whiten2d)]
    moments: Moments = {}
    for name, network in networks.items():
        watch(network, name, sites, moments)
    run(networks, image, given.warm_up, given.dtype, train)
    moments.clear()
    passes = run(networks, image, given.rounds, given.dtype, train)
    say = sys.stdout.write
    added: dict[str, float] = dict.fromkeys(networks, 0.0)
    base_us = 0.0
    for pass_name in "FB" if train else "F":
        totals = dict.fromkeys(networks, 0.0)
        for site in sites:
            spent = {}
            for name in networks:
                pairs = zip(
                    moments[name, site, f"{pass_name}0"],
                    moments[name, site, f"{pass_name}1"],
                    strict=True,
                )
                spent[name] = 1e6 * statistics.median(end - begin for begin, end in pairs)
                totals[name] += spent[name]
            say(
                f"{pass_name} {site:16}"
                + "".join(f"{name} {value:7.0f}   " for name, value in spent.items())
                + "\n"
            )
        say(
            f"{pass_name} {'all of them':16}"
            + "".join(f"{name} {value:7.0f}   " for name, value in totals.items())
            + "\n"
        )
        for name in networks:
            ratios = [
                own / base
                for own, base in zip(
                    passes[name, pass_name],
                    passes["bn", pass_name],
                    strict=True,
                )
            ]
            say(f"{pass_name} whole pass, {name} to bn: {statistics.median(ratios):.4f}\n")
        base_us += 1e6 * statistics.median(passes["bn", pass_name])
        for name in networks:
            added[name] += totals[name] - totals["bn"]
            say(
                f"{'F' if pass_name == 'F' else 'F+B'} by the layers' own times, {name} to bn: "
                f"{1 + added[name] / base_us:.4f} ({added[name]:+.0f} of {base_us:.0f} µs)\n"
            )


if __name__ == "__main__":
    main()
