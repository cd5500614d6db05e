"""Estimates, without a GPU, how long the small kernels of a layer take: one program's latency from
the machine code that the compiler makes. A model, within about 30 %; nothing here is measured.

python benchmarks/gpu_latency.py [--capability 90] [--norm swb] [--batch 1,16,32]
[--shape 64x112x112] [--ghz 1.755] [--warps 4] [--registers 128]

The code of one warp is walked in order: each instruction waits for the barriers that its control
bits name and then takes its stall cycles; what sets a barrier opens it after `LATENCY` (orders of
magnitude published for these GPUs; a load is taken to miss the L1 and hit the L2). Warps of a
program run side by side, and programs beside each other, so one warp stands for all while all
programs fit the chip.

`--warps` and `--registers` compile the kernels for others than the plan's: what they would take as
the tail of another kernel. The last column is what a kernel does before its first load from memory,
which a programmatic dependent launch could move beside the kernel before.
"""

# ruff: noqa: T201  a script: it is run by hand, and what it prints is its result
import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
import triton
from gpu_registers import compile_launch, layer_plan

from swbench.norms.kernels.triton_kernels.launch import Launch

LATENCY = {
    "LDGSTS": 450,
    "LDG": 550,
    "LDSM": 33,
    "LDS": 29,
    "SHFL": 24,
    "MUFU": 22,
    "HMMA": 33,
    "ULDC": 40,
    "LDC": 40,
    "S2UR": 30,
    "S2R": 30,
    "STS": 20,
    "STG": 20,
    "I2F": 20,
    "F2I": 20,
    "R2UR": 12,
}
"""Cycles until a result is there, of instructions that set a barrier."""
OTHER, BARRIER, DRAIN, READ = 15, 25, 5, 20
"""Of all others; of a barrier of the program; of a wait for copies; until operands are read at
most.
"""
SMALL = ("solve", "small", "merge", "total", "gather")


class Instruction(NamedTuple):
    """One instruction and its control bits."""

    text: str
    stall: int
    write_barrier: int
    read_barrier: int
    waits: int


def disassembled(cubin: bytes) -> tuple[list[Instruction], dict[str, int]]:
    """The instructions of a kernel, and label -> index of the instruction behind it."""
    program = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "nvdisasm"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(program), "-c", "-hex", file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    parsed, labels, pending = [], {}, None
    for line in done.stdout.splitlines():
        if match := re.match(r"\s*(\.L_x_\d+):", line):
            labels[match[1]] = len(parsed)
        elif match := re.match(r"\s+/\*[0-9a-f]{4,5}\*/\s+(.*?);\s+/\* 0x[0-9a-f]+ \*/", line):
            pending = match[1]
        elif (match := re.match(r"\s+/\* 0x([0-9a-f]+) \*/", line)) and pending:
            bits = int(match[1], 16) >> 41
            parsed.append(
                Instruction(pending, bits & 15, bits >> 5 & 7, bits >> 8 & 7, bits >> 11 & 63)
            )
            pending = None
    return parsed, labels


def _operation(text: str) -> str:
    return re.sub(r"^@!?U?P\d+\s+", "", text).split()[0]


def _latency(text: str) -> int:
    operation = _operation(text)
    return next((n for name, n in LATENCY.items() if operation.startswith(name)), OTHER)


def loops_of(code: list[Instruction], labels: dict[str, int]) -> list[tuple[int, int]]:
    """First and last instruction of each loop, in the order of their ends."""
    parsed = []
    for index, instruction in enumerate(code):
        match = re.search(r"BRA\s+.*?`?\(?(\.L_x_\d+)", instruction.text)
        if match and labels.get(match[1], len(code)) < index - 2:
            parsed.append((labels[match[1]], index))
    return parsed


def cycles(code: list[Instruction], labels: dict[str, int], trips: dict[int, int]) -> int:
    """Cycles of one warp from the first instruction to the end; `trips`: how often the loop that
    ends at an instruction goes round, once where it is not named.
    """
    start_of = {end: start for start, end in loops_of(code, labels)}
    left = {end: count - 1 for end, count in trips.items()}
    now, ready, at = 0, [0] * 6, 0
    while at < len(code):
        instruction = code[at]
        for barrier in range(6):
            if instruction.waits >> barrier & 1:
                now = max(now, ready[barrier])
        latency = _latency(instruction.text)
        if instruction.write_barrier < 6:
            ready[instruction.write_barrier] = now + latency
        if instruction.read_barrier < 6:
            ready[instruction.read_barrier] = max(
                ready[instruction.read_barrier], now + min(latency, READ)
            )
        operation = _operation(instruction.text)
        now += BARRIER if operation.startswith("BAR") else 0
        now += DRAIN if operation.startswith("DEPBAR") else 0
        now += max(1, instruction.stall)
        if operation.startswith("EXIT") and not instruction.text.startswith("@"):
            break
        if left.get(at, 0) > 0:
            left[at] -= 1
            at = start_of[at]
            continue
        if at in trips:
            left[at] = trips[at] - 1  # for the next time round a loop about it
        at += 1
    return now


def until_first_load(code: list[Instruction]) -> int:
    """Cycles of one warp before its first load from global memory."""
    loads = (
        at for at, instruction in enumerate(code) if _operation(instruction.text).startswith("LDG")
    )
    return cycles(code[: next(loads, len(code))], {}, {})


def trips_of(launch: Launch) -> list[int]:
    """How often each loop of a small kernel goes round, in the order of the ends of the loops as
    they are written; the compiler may have unrolled those of one turn.
    """
    name, constants = launch.kernel.__name__.removesuffix("_kernel"), launch.constants
    sizes = dict(zip(launch.kernel.arg_names[len(launch.names) :], launch.sizes, strict=False))
    parts, images = sizes.get("parts", 1), sizes.get("images", 1)

    def turns(count: int, chunk: str | int) -> int:
        return -(-count // (chunk if isinstance(chunk, int) else constants[chunk]))

    if name == "solve":
        added = [turns(parts, "CHUNK")] if constants["IMAGE"] else []
        layer = [turns(parts, "LAYER_CHUNK")] if constants["KINDS"] > 2 else []
        return [*added, *layer, len(constants["STEPS"]) // 3 - 1]
    if name == "small":
        return [turns(parts, "CHUNK"), len(constants["STEPS"]) // 3]
    if name in ("merge", "total"):
        both = [turns(parts, "FETCH"), turns(images, "IMAGES")]
        return [turns(images * parts, "CHUNK"), *both * (2 if name == "merge" else 1)]
    matrices = [turns(images, "CHUNK")] if launch.names[0] is not None else []
    vectors = [turns(images, "VECTORS")] * sum(name is not None for name in launch.names[4:6])
    left = [turns(images * launch.programs, "LEFT")] if constants["KINDS"] else []
    return [*matrices, *vectors, *left]


def estimate(launch: Launch, dtype: torch.dtype, capability: int) -> tuple[int, str]:
    """Cycles of one program, and a note where the loops of the machine code are not those that are
    written (then every loop is taken to go round once).
    """
    code, labels = disassembled(compile_launch(launch, dtype, capability).asm["cubin"])
    loops, expected = loops_of(code, labels), trips_of(launch)
    expected = expected if len(expected) == len(loops) else [n for n in expected if n > 1]
    if len(expected) != len(loops):
        return cycles(code, labels, {}), f"{len(loops)} loops, not {len(expected)}"
    ends = (end for _, end in loops)
    return cycles(code, labels, dict(zip(ends, expected, strict=True))), ""


def main() -> None:
    """A line a small kernel and batch."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--capability", type=int, default=90)
    parser.add_argument("--norm", default="swb")
    parser.add_argument("--batch", default="1,16,32")
    parser.add_argument("--shape", default="64x112x112")
    parser.add_argument("--ghz", type=float, default=1.755)
    parser.add_argument("--warps", type=int)
    parser.add_argument("--registers", type=int)
    given = parser.parse_args()
    compiler = f"triton {triton.__version__}, capability {given.capability}"
    print(f"{compiler}, {given.norm}, {given.shape}, estimates\n")
    print(
        "| batch | kernel | programs | warps | cycles | µs | note "
        "| until its first load, µs |\n|---|---|---|---|---|---|---|---|"
    )
    for batch in map(int, given.batch.split(",")):
        shape = (batch, *map(int, given.shape.split("x")))
        made = layer_plan(given.norm, shape, 16, torch.float32, False)
        for launch in (*made.forward, *made.backward[True]):
            name = launch.kernel.__name__.removesuffix("_kernel")
            if name not in SMALL:
                continue
            launch.warps = given.warps or launch.warps
            launch.registers = given.registers or launch.registers
            taken, note = estimate(launch, torch.float32, given.capability)
            cubin = compile_launch(launch, torch.float32, given.capability).asm["cubin"]
            before = until_first_load(disassembled(cubin)[0])
            cells = (batch, name, launch.programs, launch.warps, taken)
            times = (f"{taken / given.ghz / 1e3:.1f}", note, f"{before / given.ghz / 1e3:.2f}")
            print("|", *(f"{cell} |" for cell in (*cells, *times)))


if __name__ == "__main__":
    main()
