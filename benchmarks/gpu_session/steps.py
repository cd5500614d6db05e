"""The steps in order of worth: what each runs, for how long at most, and what it needs."""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
ONCE = ("--quick", "--iterations", "3", "--replicates", "1")
"""One process and three rounds: no interval, so a look and not yet a claim."""
TIMED = ("--metrics", "time")
THREADS = (1, 2, 4, 8, 16)
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "default", "-o", "addopts=")

Command = tuple[str, ...]


class Step(NamedTuple):
    """Commands that run one after the other within one limit."""

    purpose: str
    commands: tuple[Command, ...]
    """A script below the root of the repository with its arguments, or `-m` and a module, or a
    program.
    """
    limit_s: float
    part: int
    """Which ten minutes of the session it belongs to."""
    needs: tuple[str, ...] = ()
    """Modules without which it is left out."""
    environment: tuple[tuple[str, str], ...] = ()


def _bench(*words: str) -> tuple[Command, ...]:
    return (("bench.py", *words),)


STEPS = {
    "facts": Step(
        "clocks, limits and what throttles the card; what is installed",
        (("nvidia-smi", "-q", "-d", "PERFORMANCE,CLOCK,UTILIZATION,POWER"), ("bench.py", "doctor")),
        30,
        1,
    ),
    "warm": Step(
        "every kernel compiled and every launcher built, on all cores at once",
        (("benchmarks/gpu_session/warm.py",),),
        90,
        1,
        ("triton",),
    ),
    "correct": Step(
        "the layers', passes' and solvers' tests on the device, against float64",
        (
            (
                *(*PYTEST, "-n", "12", "-k", "triton or not norm_kernels"),
                *("tests/norms/interpreted_triton.py", "tests/norms/test_norm_kernels.py"),
                "tests/solvers/interpreted_kernels.py",
            ),
        ),
        140,
        1,
        ("pytest", "xdist", "triton"),
        (("SWBENCH_TEST_DEVICE", "cuda"), ("OMP_NUM_THREADS", "1")),
    ),
    "layer": Step(
        "one layer: each kernel's time and bandwidth, the layer beside BN, the solve beside "
        "cuSOLVER",
        (("benchmarks/whitening_gpu.py",),),
        140,
        1,
        ("triton",),
    ),
    "graph": Step(
        "the claim: Table 1 in CUDA graphs with what auto takes, at batch 1, 16 and 32",
        _bench(
            *("imagenet", "--mode", "graph", "--solver", "auto", "--batch", "1,16,32"),
            *("--only", "swa,swb", "--replicates", "4", "--iterations", "20"),
            *("--metrics", "time,memory", "--budget", "130s"),
        ),
        170,
        1,
    ),
    "table1": Step(
        "Table 1 at batch 1 and 32, with FLOPs",
        _bench(
            *("imagenet", "--replicates", "4", "--iterations", "20"),
            *("--metrics", "flops,time,memory", "--budget", "110s"),
        ),
        150,
        2,
    ),
    "table2": Step(
        "Table 2 at batch 16, or at the largest below it at which every row fits the memory",
        _bench(
            *("cityscapes", "--until-fits", "--replicates", "2", "--iterations", "6"),
            *("--metrics", "flops,time,memory"),
        ),
        200,
        2,
    ),
    "paper-2019": Step(
        "Table 1 with the solver of 2019 at batch 1",
        _bench("paper-2019", "--batch", "1", *ONCE, "--metrics", "flops,time,memory"),
        70,
        2,
    ),
    "threads": Step(
        "Table 1 on the host's cores, from one thread to more than there are",
        (
            ("setup.py", "build_ext", "--inplace"),
            *(
                ("bench.py", "imagenet", "--device", "cpu", "--threads", threads, *ONCE, *TIMED)
                for threads in map(str, THREADS)
            ),
            (*PYTEST, "tests/norms/test_native_threads.py"),
        ),
        140,
        2,
        ("pytest",),
    ),
    "utilisation": Step(
        "NVML's utilisation, energy and kernel-busy time of BN, 2019's solver and today's at "
        "batch 32",
        _bench(
            *("imagenet", "--only", "swa", "--solver", "svd-loop,auto", "--batch", "32", *ONCE),
            *("--metrics", "time,utilisation,energy"),
        ),
        130,
        3,
    ),
    "solvers": Step(
        "solvers in windows of a millisecond, eager and in graphs, the L2 hot and cold",
        _bench(
            *("solvers", "--mode", "graph,eager", "--batch", "72,2304", "--group", "16"),
            *("--solver", "eigh,svd,newton5,polar,polar-triton,jacobi-triton"),
            *("--spectrum", "kappa=1e3", *ONCE),
        ),
        110,
        3,
    ),
    "svd-loop": Step(
        "the solver of 2019 alone: one decomposition after the other",
        _bench(
            *("solvers", "--mode", "eager", "--batch", "72", "--group", "16"),
            *("--solver", "svd-loop", "--spectrum", "kappa=1e3", *ONCE),
        ),
        40,
        3,
    ),
    "selftest": Step(
        "the instrument against known answers: cycles, the host's wall, triton's do_bench, A/A, "
        "delays",
        _bench("selftest"),
        100,
        3,
    ),
    "scaling": Step(
        "the number of images against their size",
        _bench("scaling", *ONCE, "--batch", "1,16", "--budget", "90s"),
        130,
        3,
    ),
    "paper-2019-batch-32": Step(
        "BN and SW^a with the solver of 2019 at batch 32",
        _bench(
            *("paper-2019", "--batch", "32", "--only", "bn,swa-7", "--quick"),
            *("--iterations", "2", "--replicates", "1", *TIMED),
        ),
        60,
        3,
    ),
}
"""Name -> step, the first that of most worth."""

PARTS = {1, 2, 3}


def commands(name: str, options: argparse.Namespace) -> list[list[str]]:
    """The commands of a step as they are run."""
    return [_command(name, words, options) for words in STEPS[name].commands]


def _command(name: str, words: Command, options: argparse.Namespace) -> list[str]:
    program, *rest = words
    if program == "-m":
        return [sys.executable, *words]
    if not program.endswith(".py"):
        return list(words)
    command = [sys.executable, str(ROOT / program)]
    placed = ["--device", options.device, *(["--allow-busy"] if options.allow_busy else [])]
    if name == "layer":
        return [*command, *rest, *placed, "--out", str(options.results / "layer.json")]
    if program.startswith("benchmarks/"):
        return [*command, *rest, *placed[:2]]
    if program != "bench.py" or rest[0] == "doctor":
        return [*command, *rest]
    placed = [] if "--device" in rest else placed
    if rest[0] == "selftest":
        return [*command, *rest, *placed]
    rest[0] = options.suites.get(rest[0], rest[0])
    return [*command, *rest, *placed, "--results", str(options.results / "runs")]


def writes(name: str, options: argparse.Namespace) -> str:
    """What a step will write, in one line."""
    text = str(options.results / f"{name}.txt")
    if name == "layer":
        return f"{text} and {options.results / 'layer.json'}"
    suites = [w[1] for w in STEPS[name].commands if w[0] == "bench.py" and w[1] not in NO_RUN]
    if not suites:
        return text
    run = options.results / "runs" / f"<time>_{suites[0]}_<machine>"
    return f"{text}, and every sample to a run of its own, {run}"


NO_RUN = ("selftest", "doctor")
"""Commands of `bench.py` that store no run."""
