"""What whitening costs in a compiled ResNet50, beside batch normalisation: `python -m
benchmarks.compiled_network [--batch 1] [--phase train] [--profile]`.

All networks live in one process and are called in turn, in random order in each round. Printed is
the median of the rounds' ratios to `bn`, with the quartiles. A second network of a norm (`bn
again`) runs the graphs of the first. `--profile` prints the milliseconds of a call by kind of
operation instead, medians over the rounds, and the longest loops that inductor generated.
"""

import argparse
import os
import random
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable

# as in every worker; torch's runtime reads it when it is loaded
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch._functorch import config as functorch_config
from torch._inductor import config
from torch.profiler import ProfilerActivity, profile

from swbench import models

NETWORKS = ("bn", "bn again", "swa", "swb")
WARM_UP = 3
SIDE = 224

KINDS = {
    "generated loops": "cpp_fused",  # whose names may have those of the others
    "convolutions": "convolution",
    "whitening": "swbench",
    "other": "",
}
"""Parts of the names of operations; an operation belongs to the first that its name has."""
LONGEST = 20


def compiled(name: str, layers: int, image: torch.Tensor, train: bool) -> Callable[[], None]:
    """A call of network `name`: forward and backward, or one forward in inference mode."""
    norm = name.split()[0]
    torch.manual_seed(0)
    network = models.build("resnet50", norm, 0 if norm == "bn" else layers).train(train)
    run = torch.compile(network, fullgraph=True, dynamic=False)

    def call() -> None:
        if not train:
            with torch.inference_mode():
                run(image)
            return
        run(image).sum().backward()
        network.zero_grad(set_to_none=True)

    call()
    return call


def breakdown(call: Callable[[], None]) -> tuple[Counter[str], Counter[str]]:
    """Milliseconds of one call by kind of operation, and by generated loop."""
    kinds: Counter[str] = Counter()
    loops: Counter[str] = Counter()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        call()
    for event in profiled.key_averages():
        ms = event.self_cpu_time_total / 1e3
        kind = next(kind for kind, part in KINDS.items() if part in event.key)
        kinds[kind] += ms
        if kind == "generated loops":
            loops[re.sub(r"graph_\d+_", "", event.key)] += ms
    return kinds, loops


def print_profiles(calls: dict[str, Callable[[], None]], rounds: int) -> None:
    """Print a line a network, and its longest generated loops."""
    profiles: dict[str, list[tuple[Counter[str], Counter[str]]]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name in random.sample(list(calls), len(calls)):
            profiles[name].append(breakdown(calls[name]))
    for name, rows in profiles.items():
        medians = {kind: statistics.median(kinds[kind] for kinds, _ in rows) for kind in KINDS}
        cells = "   ".join(f"{kind} {ms:.1f}" for kind, ms in medians.items())
        sys.stdout.write(f"{name:10} ms: {cells}\n")
        loops = {
            loop: statistics.median(loops[loop] for _, loops in rows)
            for loop in {loop for _, loops in rows for loop in loops}
        }
        for loop in sorted(loops, key=loops.__getitem__)[: -LONGEST - 1 : -1]:
            sys.stdout.write(f"    {loops[loop]:6.2f} {loop}\n")


def main() -> None:
    """Measure, and print a line a network."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--batch", type=int, default=1)
    options.add_argument("--layers", type=int, choices=(7, 14), default=7)
    options.add_argument("--phase", choices=("train", "eval"), default="train")
    options.add_argument("--networks", default=",".join(NETWORKS))
    options.add_argument("--rounds", type=int, default=100)
    options.add_argument("--profile", action="store_true", help="the time by kind of operation")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    if given.profile:  # graphs from a cache may have been compiled without it
        config.cpp.enable_kernel_profile = True
        config.fx_graph_cache = functorch_config.enable_autograd_cache = False
    image = torch.randn(given.batch, 3, SIDE, SIDE)
    calls = {
        name: compiled(name, given.layers, image, given.phase == "train")
        for name in given.networks.split(",")
    }
    spent: dict[str, list[float]] = {name: [] for name in calls}
    random.seed(0)
    if given.profile:
        print_profiles(calls, given.rounds)
        return
    for _ in range(given.rounds + WARM_UP):
        for name in random.sample(list(calls), len(calls)):
            start = time.perf_counter()
            calls[name]()
            spent[name].append(time.perf_counter() - start)
    for name, own in spent.items():
        ratios = [a / b for a, b in zip(own[WARM_UP:], spent["bn"][WARM_UP:], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        milliseconds = 1e3 * statistics.median(own[WARM_UP:])
        sys.stdout.write(
            f"{name:10} {milliseconds:7.1f} ms   {middle:.3f} [{low:.3f}, {high:.3f}] of bn\n"
        )


if __name__ == "__main__":
    main()
