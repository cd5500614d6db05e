"""Where a whitening layer's time goes on a CPU, beside batch normalisation: `python -m
benchmarks.whitening_cpu [--threads 1] [--out FILE]`.

Every piece is run once a round in random order, all rounds in one process; medians and tenth
percentiles (what a busy machine leaves alone) are given in µs, and ratios are medians of ratios of
the same round. Single layers, so caches are as warm as a loop over one layer leaves them: a profile
to find the next thing to remove, not the price in a network.
"""

import argparse
import json
import platform
import random
import statistics
import sys
import time
from pathlib import Path

import torch

from swbench import norms, solvers
from swbench.native import library
from swbench.norms.kernels import kernels_for
from swbench.norms.kernels.algebra import Parameters
from swbench.norms.kernels.pass_by_pass import shift_of
from swbench.norms.statistics import Statistics, merge

SHAPES = {
    "imagenet": ((64, 112, 112), (64, 56, 56), (128, 28, 28), (256, 14, 14)),
    "cityscapes": ((64, 357, 357), (64, 179, 179), (128, 90, 90), (256, 90, 90)),
}


def parts(
    norm: str, kernels_name: str, solver_name: str, x: torch.Tensor, dy: torch.Tensor
) -> dict:
    """Name -> the function of one piece of the layer, each on inputs made beforehand."""
    layer = norms.build(norm, x.shape[1], solver=solver_name, kernels=kernels_name)
    layer(x)
    kernels, solver, recipe = (
        kernels_for(x, kernels_name),
        solvers.get(layer.chosen["solver"]),
        layer.recipe,
    )
    shift = shift_of(x, x.dtype)
    mean, cov = kernels.moments(x, shift, recipe.group)
    batch = merge(mean, cov)
    stats = Statistics(mean, cov, *batch, share=1 / len(x), single_image=len(x) == 1)
    parameters = Parameters(layer.weight.data, layer.bias.data, *(p.data for p in layer._logits()))
    solved = kernels.mix_and_solve(recipe, solver, stats, parameters)
    sums = kernels.products(dy, x, shift, recipe.group)
    grads = kernels.small_gradients(
        recipe, solver, stats, parameters, solved, *sums, shift, x.shape[2] * x.shape[3]
    )
    flat = cov.view(-1, recipe.group, recipe.group) + 1e-5 * torch.eye(recipe.group)
    w, saved = solver.forward(flat)
    return {
        "moments": lambda: kernels.moments(x, shift, recipe.group),
        "merge": lambda: merge(mean, cov),
        "mix_and_solve": lambda: kernels.mix_and_solve(recipe, solver, stats, parameters),
        "solve alone": lambda: solver.forward(flat),
        "affine": lambda: kernels.affine(x, solved.a, solved.b),
        "products": lambda: kernels.products(dy, x, shift, recipe.group),
        "small_gradients": lambda: kernels.small_gradients(
            recipe, solver, stats, parameters, solved, *sums, shift, x.shape[2] * x.shape[3]
        ),
        "gradient alone": lambda: solver.gradient(saved, w),
        "combine": lambda: kernels.combine(dy, x, solved.a.mT, grads.b, grads.c),
    }


def time_both_passes(
    layer: torch.nn.Module, x: torch.Tensor, dy: torch.Tensor
) -> tuple[float, float]:
    """Seconds of forward and of forward and backward, in one call."""
    leaf = x.detach().requires_grad_()
    start = time.perf_counter()
    y = layer(leaf)
    middle = time.perf_counter()
    y.backward(dy)
    return middle - start, time.perf_counter() - start


def profile(shape: tuple[int, ...], rounds: int) -> dict:
    """Medians in µs, and ratios to BN, for one input shape."""
    x, dy = torch.randn(shape), torch.randn(shape)
    layers = {
        "bn": norms.build("bn", shape[1]),
        "bn again": norms.build("bn", shape[1]),
        "swa plain": norms.build("swa", shape[1], solver="eigh", kernels="torch"),
        "swa": norms.build("swa", shape[1]),
        "swb": norms.build("swb", shape[1]),
    }
    times: dict[str, list] = {}

    def time_layer(name: str) -> None:
        forward, both = time_both_passes(layers[name], x, dy)
        times.setdefault(f"{name}: F", []).append(forward)
        times.setdefault(f"{name}: F+B", []).append(both)

    def part_of(name: str, call) -> None:
        start = time.perf_counter()
        call()
        times.setdefault(name, []).append(time.perf_counter() - start)

    work = [lambda name=name: time_layer(name) for name in layers]
    work += [
        lambda name=name, call=call: part_of(f"swa: {name}", call)
        for name, call in parts("swa", "auto", "auto", x, dy).items()
    ]
    for index in range(rounds + 3):
        random.shuffle(work)
        for measure in work:
            measure()
        if index == 2:
            times.clear()
    result = {"chosen": layers["swa"].chosen}
    for column, of in (
        ("median us", statistics.median),
        ("tenth percentile us", lambda values: sorted(values)[len(values) // 10]),
    ):
        result[column] = {
            name: round(1e6 * of(values), 1) for name, values in sorted(times.items())
        }
    result["ratio to bn"] = {
        f"{name}: {pass_name}": round(
            statistics.median(
                a / b
                for a, b in zip(
                    times[f"{name}: {pass_name}"], times[f"bn: {pass_name}"], strict=True
                )
            ),
            3,
        )
        for name in layers
        if name != "bn"
        for pass_name in ("F", "F+B")
    }
    return result


def main() -> None:
    """Profile every shape and write JSON."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--images", choices=SHAPES, default="imagenet")
    options.add_argument("--batch", type=int, default=1)
    options.add_argument("--rounds", type=int, default=40)
    options.add_argument("--out", type=Path)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    random.seed(0)
    torch.manual_seed(0)
    record = {
        "threads": given.threads,
        "batch": given.batch,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "native": library.select(),
    }
    record["layers"] = {
        "x".join(map(str, shape)): profile((given.batch, *shape), given.rounds)
        for shape in SHAPES[given.images]
    }
    text = json.dumps(record, indent=1) + "\n"
    if given.out:
        given.out.write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
