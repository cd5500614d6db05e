"""Everything a GPU is measured for, in one command: each step is over within three minutes,
finished or stopped.

python benchmarks/gpu.py [--results DIR] [--steps table1,table2,…] [--device cuda] [--allow-busy]
[--limit 170] [--dry-run]

Needs no network. Without a GPU the first line says so and nothing is written. Each step is one
plain command, printed with what it will write before it runs, so it can be run alone with more
iterations. A step that is not over within the limit is stopped in order. What a run has measured by
then is kept, shown, and gone on with by its command and --resume; selftest keeps what it has
printed, layer nothing: these begin anew. Exit: 0 if every step did what it should, else the highest
exit code of any, 128 + the signal for one that a signal ended.
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
    "table1": (
        "Table 1 at batch 1 and 32",
        ["imagenet", "--quick", "--metrics", "flops,time,memory"],
    ),
    "table2": (
        "Table 2 at batch 16, or at the largest below it at which every row fits the memory",
        ["cityscapes", "--until-fits", *ONCE, "--metrics", "flops,time,memory"],
    ),
    "paper-2019": (
        "Table 1 with the solver of 2019",
        ["paper-2019", *ONCE, "--metrics", "flops,time,memory"],
    ),
    "scaling": (
        "the number of images against their size",
        ["scaling", *ONCE, "--batch", "1,4,16", "--budget", "150s"],
    ),
    "selftest": (
        (
            "the instrument against known answers: cycles, the host's wall, triton's "
            "do_bench, A/A, delays"
        ),
        ["selftest"],
    ),
    "layer": (
        (
            "one layer: each kernel's time and bandwidth, the layer beside BN, the solve "
            "beside cuSOLVER"
        ),
        None,
    ),
    "utilisation": (
        (
            "NVML's utilisation, energy and kernel-busy time of BN, 2019's solver and today's at "
            "batch 32"
        ),
        [
            "imagenet",
            "--only",
            "swa",
            "--solver",
            "svd-loop,auto",
            "--batch",
            "32",
            *ONCE,
            "--metrics",
            "time,utilisation,energy",
        ],
    ),
    "graph": (
        "Table 1 in CUDA graphs, with the solvers that can be captured",
        [
            "imagenet",
            "--mode",
            "graph",
            "--solver",
            "newton5,polar",
            "--quick",
            "--replicates",
            "1",
            "--metrics",
            "time,memory",
        ],
    ),
    "solvers": (
        "solvers in windows of a millisecond, the L2 hot and cold",
        [
            "solvers",
            "--mode",
            "graph,eager",
            "--batch",
            "72,2304",
            "--group",
            "16",
            "--spectrum",
            "kappa=1e3",
            *ONCE,
        ],
    ),
}
"""Name -> what it is for, and the arguments of `bench.py`, None for the script beside this one; the
order is that of their worth if time runs out.
"""

LIMIT_S, GRACE_S, SHOW_S = 170.0, 20.0, 30.0
"""Of a step, so that with its end in order it is over within about three minutes; how long that end
may take, and the table of what it has measured.
"""

STOPPED = 124
"""The exit code of a step that was stopped, as that of timeout(1)."""


def command(name: str, options: argparse.Namespace) -> list[str]:
    """The command of a step."""
    arguments, beside = STEPS[name][1], ["--allow-busy"] if options.allow_busy else []
    if arguments is None:
        script = str(ROOT / "benchmarks" / "whitening_gpu.py")
        return [
            sys.executable,
            script,
            "--device",
            options.device,
            *beside,
            "--out",
            str(options.results / "layer.json"),
        ]
    placed = [] if name == "selftest" else ["--results", str(options.results / "runs")]
    return [
        sys.executable,
        str(ROOT / "bench.py"),
        *arguments,
        "--device",
        options.device,
        *beside,
        *placed,
    ]


def writes(name: str, options: argparse.Namespace) -> str:
    """What a step will write, in one line."""
    text, arguments = str(options.results / f"{name}.txt"), STEPS[name][1]
    if arguments is None:
        return f"{text} and {options.results / 'layer.json'}"
    if name == "selftest":
        return text
    return (
        f"{text}, and every sample to a run of its own, "
        f"{options.results / 'runs' / f'<time>_{arguments[0]}_<machine>'}"
    )


def main() -> int:
    """Run the steps, keep what each printed in `DIR/<step>.txt`, and print how long each took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("results/gpu"),
        help="folder for runs and texts (default: results/gpu)",
    )
    parser.add_argument("--steps", default=",".join(STEPS), help=f"of: {', '.join(STEPS)}")
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--allow-busy",
        action="store_true",
        help="measure on a GPU that another program uses as well",
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=LIMIT_S,
        metavar="SECONDS",
        help="stop a step that takes longer, 0 for never (default: %(default)g)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the commands, and what each would write, only"
    )
    options = parser.parse_args()
    options.results = options.results.resolve()
    chosen = options.steps.split(",")
    if unknown := [name for name in chosen if name not in STEPS]:
        parser.error(f"no step is called {unknown[0]!r}; there are {', '.join(STEPS)}")
    if not options.dry_run and (code := _no_device(options.device, options.allow_busy)):
        return code
    worst, lines = 0, []
    for name in chosen:
        words = command(name, options)
        print(
            (
                f"== {name}: {STEPS[name][0]}\n   {shlex.join(['python', *words[1:]])}\n   "
                f"writes {writes(name, options)}"
            ),
            flush=True,
        )
        if options.dry_run:
            continue
        options.results.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        code = step(words, options.results / f"{name}.txt", options.limit)
        print((options.results / f"{name}.txt").read_text(), flush=True)
        ending = "stopped" if code == STOPPED else f"exit {code}"
        lines.append(f"{name:12s} {ending:8s} {time.monotonic() - started:6.1f} s")
        worst = max(worst, code)
    if lines:
        print("\n".join(lines))
    return worst


def step(words: list[str], text: Path, limit_s: float) -> int:
    """Run a command with its output in `text` for at most `limit_s`; returns its exit code, or
    `STOPPED` after its end and a table of what it has measured.
    """
    runs = Path(words[words.index("--results") + 1]) if "--results" in words else None
    before = _stored(runs)
    with open(text, "w", encoding="utf-8") as file:
        running = subprocess.Popen(words, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
        try:
            code = running.wait(timeout=limit_s or None)
            return code if code >= 0 else 128 - code  # a signal, told as a shell tells it
        except subprocess.TimeoutExpired:
            running.terminate()
        try:
            running.wait(timeout=GRACE_S)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
        file.write(f"stopped after {limit_s:g} s\n")
        file.flush()
        # none where it was stopped before it had one: the newest is an earlier step's then
        for run in sorted(_stored(runs) - before)[-1:]:
            show = [*words[:2], "show", run, "--results", str(runs)]
            try:
                subprocess.run(
                    show,
                    cwd=ROOT,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    timeout=SHOW_S,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                file.write(
                    f"no table within {SHOW_S:g} s; {shlex.join(['python', *show[1:]])} prints it\n"
                )
    return STOPPED


def _stored(runs: Path | None) -> set[str]:
    """The names of the runs in a folder."""
    return {one.parent.name for one in runs.glob("*/run.json")} if runs else set()


def _no_device(device: str, allow_busy: bool) -> int:
    """The exit code of a mistake, after one line, where the device is not here, or is busy and may
    not be; else 0.
    """
    sys.path.insert(0, str(ROOT))
    from swbench.errors import DeviceError
    from swbench.run import devices

    try:
        devices.check((device,), allow_busy=allow_busy)
    except DeviceError as problem:
        print(f"gpu.py: {problem}", file=sys.stderr)
        return problem.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
