"""What each whitened layer costs inside ResNet50, beside batch normalisation in its place: `python
-m benchmarks.whitening_in_network [--threads 2]`.

All networks of a round run in random order in one process; hooks read the clock where a layer
begins and ends, forward and backward. Unlike a loop over one layer, the convolutions between have
emptied the caches and put other threads to sleep. Medians in µs, and the ratio of whole passes to
BN's.
"""

import argparse
import os
import random
import statistics
import sys
import time

# as in every worker; torch's runtime reads it when it is loaded
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from swbench import models
from swbench.norms.layers import Whiten2d

NORMS = ("bn", "bn again", "bw", "swa", "swb")
SIZES = {"resnet50": 224, "resnet50-seg": 713}
WARM_UP = 3

Moments = dict[tuple[str, str, str], list[float]]


def watch(network: torch.nn.Module, name: str, sites: list[str], moments: Moments) -> None:
    """Append the time at which every layer of `sites` begins (`F0`, `B0`) and ends (`F1`, `B1`) to
    `moments`, under (name, site, which).
    """

    def at(site: str, which: str) -> None:
        moments.setdefault((name, site, which), []).append(time.perf_counter())

    def before(site: str, inputs: tuple) -> None:
        inputs[0].register_hook(lambda _: at(site, "B1"))
        at(site, "F0")

    def after(site: str, output: torch.Tensor) -> None:
        at(site, "F1")
        output.register_hook(lambda _: at(site, "B0"))

    for site in sites:
        layer = network.get_submodule(site)
        layer.register_forward_pre_hook(lambda _, inputs, site=site: before(site, inputs))
        layer.register_forward_hook(lambda _, __, output, site=site: after(site, output))


def run(
    networks: dict[str, torch.nn.Module], image: torch.Tensor, rounds: int
) -> dict[tuple[str, str], list[float]]:
    """Seconds of whole passes by (network, `F` or `B`), warm-up included."""
    passes: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds + WARM_UP):
        for name in random.sample(list(networks), len(networks)):
            start = time.perf_counter()
            loss = networks[name](image).sum()
            middle = time.perf_counter()
            loss.backward()
            passes.setdefault((name, "F"), []).append(middle - start)
            passes.setdefault((name, "B"), []).append(time.perf_counter() - middle)
            networks[name].zero_grad(set_to_none=True)
    return passes


def main() -> None:
    """Measure, and print a line a layer and way."""
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
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    size = SIZES[given.model]
    random.seed(0)
    torch.manual_seed(0)
    networks = {}
    for name in given.norms.split(","):
        norm = name.split()[0]
        networks[name] = models.build(
            given.model, norm, 0 if norm == "bn" else given.layers
        ).train()
    sites = [site for site, layer in networks[name].named_modules() if isinstance(layer, Whiten2d)]
    moments: Moments = {}
    for name, network in networks.items():
        watch(network, name, sites, moments)
    passes = run(networks, torch.randn(given.batch, 3, size, size), given.rounds)
    say = sys.stdout.write
    for pass_name in "FB":
        totals = dict.fromkeys(networks, 0.0)
        for site in sites:
            spent = {}
            for name in networks:
                pairs = zip(
                    moments[name, site, f"{pass_name}0"][WARM_UP:],
                    moments[name, site, f"{pass_name}1"][WARM_UP:],
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
                    passes[name, pass_name][WARM_UP:],
                    passes["bn", pass_name][WARM_UP:],
                    strict=True,
                )
            ]
            say(f"{pass_name} whole pass, {name} to bn: {statistics.median(ratios):.4f}\n")


if __name__ == "__main__":
    main()
