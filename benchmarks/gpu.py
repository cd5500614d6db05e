"""Everything a GPU is measured for, in one command: steps in order of worth, each within its limit,
finished or stopped.

python benchmarks/gpu.py [--results DIR] [--steps graph,table2,…] [--device cuda] [--allow-busy]
[--limit SECONDS] [--dry-run]
python benchmarks/gpu.py --session [--part 1|2|3] [--archive DIR] [--wheels DIR] [--commit HASH] …

Needs no network. Without a GPU the first line says so and nothing is written. Each step is one or
more plain commands, printed with what they will write before they run, so each can be run alone
with more iterations. A step that is not over within its limit is stopped in order. What a run has
measured by then is kept, shown, and gone on with by its command and --resume; selftest keeps what
it has printed: this begins anew.

--session is for a machine that is lent for half an hour: packages are looked at first (and
installed from --wheels), every kernel is compiled on all cores, the suites' warm-up is short, and
after every step a summary of what is proven and what is not and one archive of everything (at most
eight files of 16 MiB) are written anew to --archive. --part runs the steps of one ten minutes.

Exit: 0 if every step did what it should, else the highest exit code of any, 128 + the signal for
one that a signal ended.
"""

# ruff: noqa: T201  a script: it is run by hand, and what it prints is its result
import argparse
import os
import shlex
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from gpu_session import archive, carried, claims, running, shortened, summary
from gpu_session.steps import PARTS, ROOT, STEPS, commands, writes
from gpu_session.summary import Ended


def main() -> int:
    """Run the steps, keep what each printed in `DIR/<step>.txt`, and print how long each took."""
    options = _options()
    names = options.steps
    if options.dry_run:
        for name in names:
            _announce(name, options)
        if options.session:
            _print_plan(names)
        return 0
    lacking: dict[str, str] = {}
    if options.session:
        lacking = _begin(options)
        if any(name in carried.ALL for name in lacking):
            return 2
    if code := _no_device(options.device, options.allow_busy):
        return code
    options.results.mkdir(parents=True, exist_ok=True)
    if options.session:
        options.suites = shortened.copies(options.results / "suites")
    left_out = carried.left_out(lacking)
    ended: list[Ended] = []
    for name in names:
        _announce(name, options)
        if name in left_out:
            ended.append(Ended(name, None, 0.0, f"{left_out[name]} is missing"))
        else:
            ended.append(_step(name, options))
        if options.session:
            _keep(options, ended, lacking)
    print("\n".join(map(str, ended)))
    if options.session:
        print((options.results / "summary.txt").read_text(encoding="utf-8"))
    return max((step_end.code for step_end in ended if step_end.code is not None), default=0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("results/gpu"),
        help="folder for runs and texts (default: results/gpu)",
    )
    parser.add_argument("--steps", help=f"of: {', '.join(STEPS)}")
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--allow-busy",
        action="store_true",
        help="measure on a GPU that another program uses as well",
    )
    parser.add_argument(
        "--limit",
        type=float,
        metavar="SECONDS",
        help="stop a step that takes longer, 0 for never (default: each step's own)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the commands, and what each would write, only"
    )
    parser.add_argument("--session", action="store_true", help="for half an hour: see above")
    parser.add_argument("--part", type=int, choices=sorted(PARTS), help="one ten minutes of it")
    parser.add_argument(
        "--archive", type=Path, help="where archive and summary go (default: beside the results)"
    )
    parser.add_argument("--wheels", type=Path, help=f"wheels to install ({carried.PREPARE})")
    parser.add_argument("--commit", help="of these sources, where their history did not travel")
    options = parser.parse_args()
    options.results, options.suites = options.results.resolve(), {}
    options.archive = (options.archive or options.results.with_name("gpu-archive")).resolve()
    listed = options.steps.split(",") if options.steps else list(STEPS)
    if unknown := [name for name in listed if name not in STEPS]:
        parser.error(f"no step is called {unknown[0]!r}; there are {', '.join(STEPS)}")
    options.steps = [name for name in listed if options.part in (None, STEPS[name].part)]
    return options


def _begin(options: argparse.Namespace) -> dict[str, str]:
    """Install what was carried, and say what is missing."""
    if options.commit:
        os.environ["SWBENCH_COMMIT"] = options.commit
    if options.wheels and (
        problem := carried.install(options.wheels, options.results.with_name("gpu-packages"))
    ):
        print(f"gpu.py: --wheels {options.wheels}: {problem}", file=sys.stderr)
    lacking = carried.missing()
    print("\n".join(carried.report(lacking)), flush=True)
    return lacking


def _announce(name: str, options: argparse.Namespace) -> None:
    print(f"== {name}: {STEPS[name].purpose}")
    for command in commands(name, options):
        shown_command = ["python", *command[1:]] if command[0] == sys.executable else command
        print(f"   {shlex.join(shown_command)}")
    print(f"   writes {writes(name, options)}", flush=True)


def _print_plan(names: list[str]) -> None:
    for part in sorted(PARTS):
        mine = [name for name in names if STEPS[name].part == part]
        limit_s = sum(STEPS[name].limit_s for name in mine)
        print(f"part {part}: {', '.join(mine)}; at most {limit_s:g} s")


def _step(name: str, options: argparse.Namespace) -> Ended:
    step, text = STEPS[name], options.results / f"{name}.txt"
    limit_s = step.limit_s if options.limit is None else options.limit
    started_s = time.monotonic()
    code = running.step(commands(name, options), text, limit_s, dict(step.environment))
    print(text.read_text(encoding="utf-8", errors="replace"), flush=True)
    return Ended(name, code, time.monotonic() - started_s)


def _keep(options: argparse.Namespace, ended: list[Ended], lacking: dict[str, str]) -> None:
    """Summary and archive of what there is by now. A disk that is full is no reason to end."""
    codes = {step_end.name: step_end.code for step_end in ended if step_end.code is not None}
    claim_rows = claims.claims(options.results, codes)
    try:
        summary.write(options.results, summary.page(ended, carried.report(lacking), claim_rows))
        archive.rewrite(options.results, options.archive)
    except OSError as problem:
        print(f"gpu.py: the archive was not written: {problem}", file=sys.stderr)


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
