"""Layers launched on a driver that launches nothing (`fake_libcuda.c`): what a kernel is given by
way of Triton's own dispatch and by way of `Launch.launch_with_addresses`. Run by
`test_triton_launch.py` in a process of its own, with TRITON_LIBCUDA_PATH and LD_LIBRARY_PATH naming
the folder of that driver.

Prints a JSON object: Triton's version, whether it is one whose compiled kernels are called with
addresses, and of each launch both sets of parameters and the microseconds of the host. Arguments:
norms and numbers of images, with `:forward` for one way (`swa:1:forward swb:3`).
"""

# ruff: noqa: T201  what it prints is its result
import ctypes
import json
import os
import sys
import time
from types import SimpleNamespace

import torch
import triton
from triton.backends.nvidia.driver import CudaDriver

fake = ctypes.CDLL(os.path.join(os.environ["TRITON_LIBCUDA_PATH"], "libcuda.so.1"))
fake.fake_parameter.restype = ctypes.c_ulonglong

MULTIPROCESSORS, CHANNELS, CALLS = 132, 64, 300


def take_the_fake_driver() -> None:
    """Triton and the layers see a GPU like an H100 whose memory is the host's."""
    torch._C._cuda_getCurrentRawStream = lambda index: 0
    CudaDriver.get_device_capability = lambda self, device=0: (9, 0)
    driver = CudaDriver()
    driver.get_current_device = lambda: 0
    driver.get_current_stream = lambda index: 0
    driver.get_device_capability = lambda device=0: (9, 0)
    triton.runtime.driver.set_active(driver)


def seen(run, signature: list[str]) -> dict:
    """What the driver is asked for by `run`, of parameters of these types."""
    before = fake.fake_launches()
    fake.fake_expect(len(signature))
    run()
    fake.fake_expect(0)
    values = [
        fake.fake_parameter(index) & (2**64 - 1 if kind.startswith("*") else 2**32 - 1)
        for index, kind in enumerate(signature)
    ]
    return {
        "launches": fake.fake_launches() - before,
        "grid": fake.fake_grid(),
        "block": fake.fake_block(),
        "shared": fake.fake_shared(),
        "parameters": values,
    }


def microseconds(run) -> float:
    """Of the host, for one call."""
    run()
    start_s = time.perf_counter()
    for _ in range(CALLS):
        run()
    return 1e6 * (time.perf_counter() - start_s) / CALLS


def dispatched(norm: str, images: int, ways: tuple[bool, ...]) -> list[dict]:
    """Every launch of a layer by both dispatches; `ways` says whether backward."""
    from swbench import norms, solvers
    from swbench.norms.context import Call, Running
    from swbench.norms.kernels.triton_kernels import autograd_function as function
    from swbench.norms.kernels.triton_kernels import layer_config

    layer_config.multiprocessors = lambda device: MULTIPROCESSORS
    layer = norms.build(norm, CHANNELS, solver="polar-triton", kernels="triton")
    x, dy, launches = torch.randn(images, CHANNELS, 9, 8), torch.randn(images, CHANNELS, 9, 8), []
    running = None
    if layer.recipe.uses_batch:
        running = Running(layer.running_mean, layer.running_cov, layer.momentum)
    call = Call(layer.recipe, solvers.get("polar-triton"), running, True)
    given = tuple(
        p if p is None else p.detach() for p in (layer.weight, layer.bias, *layer._logits())
    )
    plan = function.fused_plan(function.plan_key(call, x, given))
    saved = plan.config.saved.allocate(x)
    names = ("gamma", "beta", "mean_logits", "cov_logits")
    tensors = {"x": x, "dy": dy, "y": torch.empty_like(x), "dx": torch.empty_like(x)}
    tensors |= dict(zip(names, given, strict=True))
    tensors |= {
        f"grad_{name}": None if p is None else torch.empty_like(p)
        for name, p in zip(names, given, strict=True)
    }
    tensors |= {"running_mean": None, "running_cov": None}
    if running is not None:
        tensors |= {"running_mean": running.mean, "running_cov": running.cov}
    for is_backward in ways:
        workspace = plan.config.backward_workspace if is_backward else plan.config.forward_workspace
        memory = workspace.allocate(x)
        table = {**tensors, **plan.config.saved.tensors(saved), **workspace.tensors(memory)}
        addresses = {name: None if t is None else t.data_ptr() for name, t in table.items()}
        for launch_item in plan.backward[True] if is_backward else plan.forward:
            launch_item.launch_with_tensors(table, aligned=True)
            signature = [s for s in launch_item.compiled.src.signature.values() if s != "constexpr"]
            plain = SimpleNamespace(
                run=lambda launch_item=launch_item, table=table: launch_item.launch_with_tensors(
                    table
                )
            )
            direct = SimpleNamespace(
                run=lambda launch_item=launch_item, at=addresses: launch_item.launch_with_addresses(
                    at, 0
                )
            )
            launches.append(
                {
                    "kernel": launch_item.kernel.__name__.removesuffix("_kernel"),
                    "plain": seen(plain.run, signature),
                    "direct": seen(direct.run, signature),
                    "plain_us": microseconds(plain.run),
                    "direct_us": microseconds(direct.run),
                }
            )
    return launches


def main() -> None:
    torch.set_num_threads(1)
    take_the_fake_driver()
    from swbench.norms.kernels.triton_kernels.launch import direct

    layers = {}
    for layer_spec in sys.argv[1:]:
        norm, images, *only = layer_spec.split(":")
        layers[layer_spec] = dispatched(norm, int(images), (False,) if only else (False, True))
    print(json.dumps({"triton": triton.__version__, "known": direct(), "layers": layers}))


if __name__ == "__main__":
    main()
