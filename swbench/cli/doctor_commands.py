"""The commands `doctor` and `selftest`, which check whether this machine measures correctly."""

import sys

import click
from rich.console import Console
from rich.markup import escape

from swbench.cli.lazy import devices_here, doctor_checks, native, selftests, suite
from swbench.cli.options import CommaList, results_option
from swbench.cli.streams import notify
from swbench.errors import OptionError

FAILED = 1
_COLOURS = {
    "ok": "green",
    "passed": "green",
    "warn": "yellow",
    "inconclusive": "yellow",
    "skipped": "bright_black",
    "bad": "red",
    "failed": "red",
}


def _line(console: Console, verdict: str, name: str, rest: str) -> None:
    console.print(
        (f"[{_COLOURS[verdict]}]{verdict:12s}[/] [bold]{escape(name)}[/]: {escape(rest)}"),
        soft_wrap=True,
    )


@click.command("doctor")
@click.option(
    "--threads",
    type=click.IntRange(1, 4096),
    help="The intended number of threads.  [default: the physical cores allowed]",
)
@results_option
def doctor(threads: int | None, results: str) -> int:
    """Say what this machine can measure, what would spoil it, and the fix for each."""
    console = Console(file=sys.stdout, highlight=False)
    checks = doctor_checks.examine(results=results, threads=threads, native=_native)
    for check in checks:
        _line(
            console,
            check.status,
            check.name,
            check.finding + (f" Fix: {check.fix}" if check.fix else ""),
        )
    counts = {
        status: sum(check.status == status for check in checks) for status in ("ok", "warn", "bad")
    }
    console.print(", ".join(f"{count} {status}" for status, count in counts.items()))
    return 0


def _native() -> str | None:
    return native.missing()


@click.command("selftest")
@click.option(
    "--long",
    "long_",
    is_flag=True,
    help="Replay 1000 runs of each kind instead of 200, on the CPU.",
)
@click.option(
    "--power",
    is_flag=True,
    help="Report also how small a difference runs here detect, and how often they are wrong.",
)
@click.option(
    "--device",
    "devices",
    type=CommaList(),
    help=("Only the checks on these: cpu, cuda, cuda:1.  [default: all that are here]"),
)
@click.option("--allow-busy", is_flag=True, help="Check a GPU that another program uses as well.")
def selftest(long_: bool, power: bool, devices: tuple[str, ...] | None, allow_busy: bool) -> int:
    """Let the instrument measure things of known size, before a table is believed. About three
    minutes, and one more with a GPU; exit 1 if a check failed.
    """
    for flag, given, what in (
        ("--long", long_, "replays more runs on the CPU"),
        ("--power", power, "judges runs on the CPU"),
    ):
        if given and devices and "cpu" not in devices:
            raise OptionError(
                f"{flag} {what}, and --device {','.join(devices)} leaves the CPU out; add cpu to "
                f"it, or leave {flag} out"
            )
    devices_found = devices_here.check(
        suite.Options.of(devices=devices).devices, allow_busy=allow_busy, notify=notify
    )
    console = Console(file=sys.stdout, highlight=False)
    outcomes = []
    for outcome in selftests.selftest(
        long_, power=power, devices=devices_found if devices else None
    ):
        outcomes.append(outcome)
        _line(
            console,
            outcome.verdict,
            outcome.name,
            f"{outcome.result} (expected: {outcome.expected})"
            + (f" {outcome.remedy}" if outcome.remedy else ""),
        )
    verdict = selftests.overall(outcomes)
    console.print(f"[{_COLOURS[verdict]} bold]self-test {verdict}[/]")
    return FAILED if verdict == selftests.FAILED else 0
