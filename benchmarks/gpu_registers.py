"""What the compiler makes of a layer's Triton kernels: registers, spills and shared memory. Needs
Triton and its ptxas, and no GPU.

python benchmarks/gpu_registers.py [--capability 80,90,100] [--norm swb] [--batch 1,32]
[--dtype float32] [--channels-last] [--group 16] [--shapes 64x112x112,…]
"""

# ruff: noqa: T201  a script: it is run by hand, and what it prints is its result
import argparse
import re
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from swbench.norms.kernels.triton_kernels import fused_plan, layer_config
from swbench.norms.kernels.triton_kernels.launch import Launch
from swbench.norms.recipe import Recipe
from swbench.solvers.polar_triton import PolarTriton

SHAPES = "64x112x112,64x56x56,128x28x28,256x14x14,512x7x7"
RECIPES = {
    "bw": ("bw",),
    "iw": ("iw",),
    "swa": ("bw", "iw"),
    "sw3": ("bw", "iw", "ln"),
    "swb": ("bw", "iw", "bn", "in", "ln"),
}
MULTIPROCESSORS = 132
"""Of an H100: plans depend on it."""
FULL_SIZE = {"x", "dy", "y", "dx"}


class Compiled(NamedTuple):
    """What ptxas and the PTX say of one launch."""

    registers: int
    spilled_bytes: int
    """What the compiler puts on the stack because registers do not suffice, and whatever else is
    there.
    """
    shared_bytes: int
    wide_loads: int
    """Loads of 16 bytes a thread from global memory, asynchronous copies into shared memory
    included.
    """
    narrow_loads: int
    """All others."""
    wide_stores: int
    narrow_stores: int
    products: int
    """Instructions for tensor cores."""


def layer_plan(
    norm: str,
    shape: tuple[int, ...],
    group: int,
    dtype: torch.dtype,
    last: bool,
    training: bool = True,
) -> fused_plan.FusedPlan:
    """The launches of a layer for a GPU like an H100, decided without one."""
    names = RECIPES[norm]
    parameters = (torch.float32,) * 2 + ((torch.float32,) * 2 if len(names) > 1 else (None, None))
    dtypes = (dtype, *parameters, *(None if norm == "iw" else torch.float32,) * 2)
    key = layer_config.Key(
        Recipe(names, group, 1e-5),
        PolarTriton(),
        shape,
        last,
        training,
        0.99,
        torch.device("cuda", 0),
        dtypes,
    )
    with patch.object(layer_config, "multiprocessors", lambda device: MULTIPROCESSORS):
        return fused_plan.FusedPlan(key)


def source_of(launch: Launch, dtype: torch.dtype) -> ASTSource:
    """A launch as the compiler takes it, with every pointer a multiple of 16 bytes."""
    kernel = launch.kernel
    element = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]
    signature, constants, attributes = {}, {}, {}
    numbers = kernel.arg_names[len(launch.names) : len(launch.names) + len(launch.sizes)]
    for index, name in enumerate(launch.names):
        argument = kernel.arg_names[index]
        if name is None:
            signature[argument], constants[(index,)] = "constexpr", None
        else:
            signature[argument] = f"*{element if name in FULL_SIZE else 'fp32'}"
            attributes[(index,)] = [["tt.divisibility", 16]]
    signature |= {
        name: "fp32" if isinstance(size, float) else "i32"
        for name, size in zip(numbers, launch.sizes, strict=True)
    }
    for name, value in launch.constants.items():
        signature[name], constants[(kernel.arg_names.index(name),)] = "constexpr", value
    return ASTSource(
        fn=kernel,
        signature={name: signature[name] for name in kernel.arg_names},
        constexprs=constants,
        attrs=attributes,
    )


@cache
def assembled(ptx: str) -> str:
    """What ptxas says of registers and memory; once for launches whose code is the same."""
    target = re.search(r"\.target (\w+)", ptx)[1]
    blackwell = int(re.search(r"\d+", target)[0]) >= 100
    programs = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    ptxas = programs / ("ptxas-blackwell" if blackwell else "ptxas")
    with tempfile.NamedTemporaryFile("w", suffix=".ptx", encoding="utf-8") as file:
        file.write(ptx)
        file.flush()
        command = [str(ptxas), "-v", f"-arch={target}", file.name, "-o", "/dev/null"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stderr


def compile_launch(launch: Launch, dtype: torch.dtype, capability: int):
    """`launch` as Triton compiles it for `capability` (90 for compute capability 9.0)."""
    return triton.compile(
        source_of(launch, dtype), target=GPUTarget("cuda", capability, 32), options=launch.options
    )


def compiled(launch: Launch, dtype: torch.dtype, capability: int) -> Compiled:
    """What the compiler says of `launch` for `capability`."""
    made = compile_launch(launch, dtype, capability)
    ptx = made.asm["ptx"]
    log = assembled(ptx)
    loads = re.findall(r"ld\.global[^;\n]*", ptx)
    wide = [load for load in loads if ".v4." in load and ".b32" in load]
    copies = re.findall(r"cp\.async\.c[ag][^;\n]*", ptx)
    stores = re.findall(r"st\.global[^;\n]*", ptx)
    large = [store for store in stores if ".v4." in store and ".b32" in store]
    copied = [copy for copy in copies if "cp.async.cg" in copy]
    return Compiled(
        int(re.search(r"Used (\d+) registers", log)[1]),
        int(re.search(r"(\d+) bytes stack frame", log)[1]),
        made.metadata.shared,
        len(wide) + len(copied),
        len(loads) - len(wide) + len(copies) - len(copied),
        len(large),
        len(stores) - len(large),
        len(re.findall(r"mma\.sync|wgmma\.mma", ptx)),
    )


def main() -> None:
    """A line a launch, those of equal constants once."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--capability", default="90", help="80,90,100 for a table of each")
    parser.add_argument("--norm", choices=RECIPES, default="swb")
    parser.add_argument("--batch", default="1,32")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--group", type=int, default=16)
    parser.add_argument("--shapes", default=SHAPES)
    given = parser.parse_args()
    for capability in map(int, given.capability.split(",")):
        print(f"capability {capability / 10}, triton {triton.__version__}\n")
        table(given, capability)
        print()


def table(given: argparse.Namespace, capability: int) -> None:
    """The table of one capability."""
    dtype = getattr(torch, given.dtype)
    print(
        "| layer | kernel | programs | warps | registers | spilled | shared | loads of 16 B "
        "/ others | stores | tensor-core products |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for batch in map(int, given.batch.split(",")):
        for shape in given.shapes.split(","):
            made = layer_plan(
                given.norm,
                (batch, *map(int, shape.split("x"))),
                given.group,
                dtype,
                given.channels_last,
            )
            for launch in (*made.forward, *made.backward[True]):
                c = compiled(launch, dtype, capability)
                cells = [
                    f"{batch}x{shape}",
                    launch.kernel.__name__.removesuffix("_kernel"),
                    launch.programs,
                    launch.warps,
                    *c[:3],
                ]
                print(
                    "|",
                    *(
                        f"{cell} |"
                        for cell in (*cells, f"{c[3]} / {c[4]}", f"{c[5]} / {c[6]}", c.products)
                    ),
                    flush=True,
                )


if __name__ == "__main__":
    main()
