"""What a whitening layer's kernels cost on a GPU, beside batch normalisation: `python
benchmarks/whitening_gpu.py [--out FILE] [--device cuda] [--allow-busy]`.

Four parts, each in windows of a millisecond (`swbench.probes.event_windows`), medians over rounds,
ratios within rounds:
- `copy`: the bandwidth of a copy of 256 MiB, bytes read and written: the roofline.
- `kernels`: each launch of a layer alone, in a graph, with the bytes it must move and the share of
  the copy's bandwidth that it reaches. Tensors smaller than the L2 stay in it, so a share above 1
  is no mistake; `small` kernels move next to nothing, and only their time counts.
- `layers`: BN and the whitening layers, forward and both ways, in graphs and eager.
- `solves`: W of 72 and 2048 matrices of 16×16 in a graph, and batched cuSOLVER's eigh, which cannot
  be captured, eager.
"""

# ruff: noqa: T201  a script: it is run by hand, and what it prints is its result
import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from swbench import norms, solvers
from swbench.clock.cuda import CudaGpu, gpu_for
from swbench.errors import DeviceError
from swbench.probes.event_windows import Windows
from swbench.run import devices
from swbench.solvers import spectra

SHAPES = ((64, 112, 112), (64, 56, 56), (128, 28, 28), (256, 14, 14))
COPY_BYTES = 256 * 2**20
MOVED = {"sums": (1, 2), "map": (2, 3)}
"""Tensors that a pass reads and writes, forward and backward."""


def medians(
    gpu: CudaGpu, passes: dict[str, Callable[[], object]], rounds: int, graph: bool
) -> dict[str, list[float]]:
    """Seconds of each pass, round by round."""
    windows = Windows(gpu, passes, graph=graph, cold=False)
    windows.sample()
    samples = [windows.sample() for _ in range(rounds)]
    return {name: [sample[f"{name}_s"] for sample in samples] for name in passes}


def copy_bandwidth(gpu: CudaGpu, rounds: int) -> float:
    """Bytes a second of a copy on the device, read and written."""
    a = torch.randn(COPY_BYTES // 4, device=gpu.device)
    b = torch.empty_like(a)
    return (
        2
        * COPY_BYTES
        / statistics.median(medians(gpu, {"copy": lambda: b.copy_(a)}, rounds, False)["copy"])
    )


def launches(
    norm: str, x: torch.Tensor, dy: torch.Tensor
) -> dict[str, tuple[Callable[[], None], int]]:
    """Name -> one launch of the layer on inputs made beforehand, and the bytes it must move (0 for
    a small kernel).
    """
    from swbench.norms.context import Call, Running
    from swbench.norms.kernels.triton_kernels import autograd_function as function
    from swbench.norms.kernels.triton_kernels.launch import launch

    layer = norms.build(norm, x.shape[1], solver="polar-triton", kernels="triton").to(x.device)
    running = (
        Running(layer.running_mean, layer.running_cov, layer.momentum)
        if layer.recipe.uses_batch
        else None
    )
    call = Call(layer.recipe, solvers.get("polar-triton"), running, True)
    parameters = tuple(
        p if p is None else p.detach() for p in (layer.weight, layer.bias, *layer._logits())
    )
    plan = function.fused_plan(function.plan_key(call, x, parameters))
    buffers = (None, None) if running is None else (running.mean, running.cov)
    saved = plan.config.saved.allocate(x)
    y = function.run_forward(plan, running, x, parameters, saved)
    dx, *grads = function.run_backward(plan, x, dy, parameters[0], saved)
    names = ("gamma", "beta", "mean_logits", "cov_logits")
    tensors = {
        "x": x,
        "y": y,
        "dy": dy,
        "dx": dx,
        "running_mean": buffers[0],
        "running_cov": buffers[1],
    }
    tensors |= dict(zip(names, parameters, strict=True)) | dict(
        zip((f"grad_{name}" for name in names), grads, strict=True)
    )
    samples = {}
    for is_backward, listed, workspace in (
        (False, plan.forward, plan.config.forward_workspace),
        (True, plan.backward[True], plan.config.backward_workspace),
    ):
        workspaces = ((plan.config.saved, saved), (workspace, workspace.allocate(x)))
        plan.run(listed, tensors, *workspaces)  # fills the workspace
        for item in listed:
            name = item.kernel.__name__.removesuffix("_kernel")
            moved = MOVED.get(name, (0, 0))[is_backward] * x.numel() * x.element_size()
            samples[f"{'backward' if is_backward else 'forward'} {name}"] = (
                lambda item=item, r=workspaces: launch([item], tensors, r, x.device),
                moved,
            )
    return samples


def kernels(
    gpu: CudaGpu,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    last: bool,
    rounds: int,
    bandwidth: float,
) -> dict:
    """Every launch of SW^a and SW^b: µs, and the share of `bandwidth`."""
    layout = torch.channels_last if last else torch.contiguous_format
    x, dy = (
        torch.randn(shape, device=gpu.device, dtype=dtype).contiguous(memory_format=layout)
        for _ in range(2)
    )
    result = {}
    for norm in ("swa", "swb"):
        made = launches(norm, x, dy)
        times = medians(gpu, {name: call for name, (call, _) in made.items()}, rounds, True)
        for name, (_, moved) in made.items():
            seconds = statistics.median(times[name])
            result[f"{norm} {name}"] = {
                "us": round(1e6 * seconds, 2),
                "bytes": moved,
                "share of copy": round(moved / seconds / bandwidth, 3) if moved else None,
            }
    return result


def layers(
    gpu: CudaGpu, shape: tuple[int, ...], dtype: torch.dtype, rounds: int, graph: bool
) -> dict:
    """µs of BN and the whitening layers, forward and both ways, and ratios to BN."""
    x, dy = (torch.randn(shape, device=gpu.device, dtype=dtype) for _ in range(2))
    made = {
        name: norms.build(norm, shape[1]).to(gpu.device)
        for name, norm in (
            ("bn", "bn"),
            ("bn again", "bn"),
            ("bw", "bw"),
            ("swa", "swa"),
            ("swb", "swb"),
        )
    }

    def both(layer: torch.nn.Module) -> None:
        leaf = x.detach().requires_grad_()
        layer.zero_grad(set_to_none=True)
        layer(leaf).backward(dy)

    passes = {f"{name} F": (lambda layer=layer: layer(x)) for name, layer in made.items()}
    passes |= {f"{name} F+B": (lambda layer=layer: both(layer)) for name, layer in made.items()}
    times = medians(gpu, passes, rounds, graph)
    result = {
        "chosen": made["swa"].chosen,
        "us": {name: round(1e6 * statistics.median(values), 2) for name, values in times.items()},
    }
    result["ratio to bn"] = {
        name: round(
            statistics.median(
                a / b for a, b in zip(values, times[f"bn {name.rpartition(' ')[2]}"], strict=True)
            ),
            3,
        )
        for name, values in times.items()
        if not name.startswith("bn ") or name.startswith("bn again")
    }
    return result


def solves(gpu: CudaGpu, rounds: int) -> dict:
    """µs of Σ^(-1/2) of batches of 16×16, κ = 1e3: the kernel in a graph, its gradient too, and
    eigh eager.
    """
    result = {}
    for count in (72, 2048):
        cov = spectra.covariances("kappa=1e3", count, 16).float().to(gpu.device)
        solver = solvers.get("polar-triton")
        w, saved = solver.forward(cov)
        times = medians(
            gpu,
            {
                "polar-triton": lambda c=cov, s=solver: s.forward(c),
                "gradient": lambda v=saved, g=w, s=solver: s.gradient(v, g),
            },
            rounds,
            True,
        )
        times |= medians(gpu, {"eigh": lambda c=cov: torch.linalg.eigh(c)}, rounds, False)
        result[count] = {
            name: round(1e6 * statistics.median(values), 2) for name, values in times.items()
        }
        result[count]["eigh/polar-triton"] = round(
            result[count]["eigh"] / result[count]["polar-triton"], 1
        )
    return result


def main() -> int:
    """Measure, write JSON; 2 without the device, or where another program uses it and
    `--allow-busy` is not given.
    """
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--device", default="cuda")
    options.add_argument(
        "--allow-busy",
        action="store_true",
        help="measure on a GPU that another program uses as well",
    )
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--out", type=Path)
    given = options.parse_args()
    try:
        devices.check(
            (given.device,),
            allow_busy=given.allow_busy,
            notify=lambda text: print(f"whitening_gpu.py: {text}", file=sys.stderr),
        )
    except DeviceError as problem:
        print(f"whitening_gpu.py: {problem}", file=sys.stderr)
        return problem.exit_code
    gpu = gpu_for(given.device)
    if gpu is None:
        print("whitening_gpu.py: torch sees no such device here", file=sys.stderr)
        return 2
    torch.manual_seed(0)
    bandwidth = copy_bandwidth(gpu, given.rounds)
    record = {
        "device": torch.cuda.get_device_name(gpu.index),
        "torch": torch.__version__,
        "copy bytes a second": bandwidth,
        "kernels": {},
        "layers": {},
    }

    def keep() -> None:  # after each part: what there is by the time somebody stops it
        if given.out:
            given.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    record["solves us"] = solves(gpu, given.rounds)
    keep()
    for batch, shape in [(32, SHAPES[0]), *((1, shape) for shape in SHAPES)]:
        name = "x".join(map(str, (batch, *shape)))
        for graph in (True, False):
            record["layers"][f"{name} {'graph' if graph else 'eager'}"] = layers(
                gpu, (batch, *shape), torch.float32, given.rounds, graph
            )
        record["kernels"][f"{name} float32"] = kernels(
            gpu, (batch, *shape), torch.float32, False, given.rounds, bandwidth
        )
        keep()
    for dtype, last in ((torch.float32, True), (torch.bfloat16, False), (torch.bfloat16, True)):
        name = (
            f"32x64x112x112 {str(dtype).removeprefix('torch.')}{' channels_last' if last else ''}"
        )
        record["kernels"][name] = kernels(
            gpu, (32, *SHAPES[0]), dtype, last, given.rounds, bandwidth
        )
    keep()
    print(json.dumps(record, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
