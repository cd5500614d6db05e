"""Everything a GPU is measured for, in one command: each step ends within three minutes at these few iterations on a GPU of the H100's speed.

python benchmarks/gpu.py [--results DIR] [--steps clock,table1,…] [--device cuda] [--dry-run]

Needs no network. Without a GPU the first step says so in a line and nothing is written. Each step is one plain command, printed
before it runs, so it can be run alone with more iterations. Exit: 0 if every step did, else the highest exit code of any.
"""

# ruff: noqa: T201  a script: it is run by hand, and what it prints is its result
import argparse
import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

ONCE = ["--quick", "--iterations", "3", "--replicates", "1"]
"""One process and three rounds: no interval, so a look and not yet a claim."""

STEPS = {
    "clock": ("our reading of a known cycle count, and of a 1 ms product beside triton's do_bench", None),
    "layer": ("one layer: each kernel's time and bandwidth, the layer beside BN, the solve beside cuSOLVER", None),
    "table1": ("Table 1 at batch 1 and 32", ["imagenet", "--quick", "--metrics", "flops,time,memory"]),
    "table2": ("Table 2 at batch 16", ["cityscapes", *ONCE, "--metrics", "flops,time,memory"]),
    "paper-2019": ("Table 1 with the solver of 2019", ["paper-2019", *ONCE, "--metrics", "flops,time,memory"]),
    "scaling": (
        "the number of images against their size",
        ["scaling", *ONCE, "--batch", "1,4,16", "--budget", "150s"],
    ),
    "selftest": ("the instrument against known answers", ["selftest"]),
    "utilisation": (
        "NVML's utilisation, energy and kernel-busy time of BN, 2019's solver and today's at batch 32",
        ["imagenet", "--only", "swa", "--solver", "svd-loop,auto", "--batch", "32", *ONCE, "--metrics", "time,utilisation,energy"],
    ),
    "graph": (
        "Table 1 in CUDA graphs, with the solvers that can be captured",
        ["imagenet", "--mode", "graph", "--solver", "newton5,polar", "--quick", "--replicates", "1", "--metrics", "time,memory"],
    ),
    "solvers": (
        "solvers in windows of a millisecond, the L2 hot and cold",
        ["solvers", "--mode", "graph,eager", "--batch", "72,2304", "--group", "16", "--spectrum", "kappa=1e3", *ONCE],
    ),
}
"""Name -> what it is for, and the arguments of `bench.py`; the order is that of their worth if time runs out."""


SCRIPTS = {"clock": "gpu_clock.py", "layer": "whitening_gpu.py"}
"""The steps that are scripts beside this one."""


def command(name: str, options: argparse.Namespace) -> list[str]:
    """The command of a step."""
    arguments = STEPS[name][1]
    if arguments is None:
        placed = ["--out", str(options.results / "layer.json")] if name == "layer" else []
        return [sys.executable, str(ROOT / "benchmarks" / SCRIPTS[name]), "--device", options.device, *placed]
    placed = [] if name == "selftest" else ["--device", options.device, "--results", str(options.results / "runs")]
    return [sys.executable, str(ROOT / "bench.py"), *arguments, *placed]


def main() -> int:
    """Run the steps, keep what each printed in `DIR/<step>.txt`, and print how long each took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results/gpu"), help="folder for runs and texts (default: results/gpu)")
    parser.add_argument("--steps", default=",".join(STEPS), help=f"of: {', '.join(STEPS)}")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dry-run", action="store_true", help="print the commands only")
    options = parser.parse_args()
    options.results = options.results.resolve()
    chosen = options.steps.split(",")
    if unknown := [name for name in chosen if name not in STEPS]:
        parser.error(f"no step is called {unknown[0]!r}; there are {', '.join(STEPS)}")
    if not options.dry_run and (code := _no_device(options.device)):
        return code
    worst, lines = 0, []
    for name in chosen:
        words = command(name, options)
        print(f"== {name}: {STEPS[name][0]}\n   {shlex.join(['python', *words[1:]])}", flush=True)
        if options.dry_run:
            continue
        options.results.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        with open(options.results / f"{name}.txt", "w") as file:
            done = subprocess.run(words, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, check=False)
        text = (options.results / f"{name}.txt").read_text()
        print(text, flush=True)
        lines.append(f"{name:12s} exit {done.returncode}  {time.monotonic() - started:6.1f} s")
        worst = max(worst, done.returncode)
    print("\n".join(lines))
    return worst


def _no_device(device: str) -> int:
    """The exit code of a mistake, after one line, where the device is not here or is busy; else 0."""
    sys.path.insert(0, str(ROOT))
    from swbench.engine import devices
    from swbench.errors import DeviceError

    try:
        devices.check((device,))
    except DeviceError as problem:
        print(f"gpu.py: {problem}", file=sys.stderr)
        return problem.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
