"""`run`: measures suites, stores the results and prints their tables."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from swbench import program
from swbench.cli import completion, torchrun
from swbench.cli.lazy import application, exporters, progress
from swbench.cli.options import plugin_option, results_option, suite_options
from swbench.cli.streams import notify
from swbench.cli.tables import exit_code, print_runs
from swbench.errors import OptionError, printable
from swbench.suite.options import Options

if TYPE_CHECKING:
    from swbench.plan import Plan


@click.command("run")
@click.argument("suites", nargs=-1, metavar="SUITE…", shell_complete=completion.suites)
@suite_options(Options)
@results_option
@click.option(
    "--format",
    "format_",
    shell_complete=completion.format_,
    default="table",
    show_default=True,
    help="table, markdown, csv, csv-long, latex, json, html.",
)
@click.option(
    "--resume", is_flag=True, help="Go on with the newest unfinished run of this suite and options."
)
@click.option(
    "--anyway",
    is_flag=True,
    help=(
        "With --resume: go on although code, suite or environment changed; "
        "over nodes: although they differ. Recorded."
    ),
)
@click.option(
    "--allow-busy", is_flag=True, help="Measure on a GPU that another program uses as well."
)
@click.option("--dry-run", is_flag=True, help="Print what would be measured, and stop.")
@plugin_option
def run(suites: tuple[str, ...], **options: Any) -> int:
    """Measure SUITE (a name from `list suites`, or a TOML file) and print its table."""
    model = options["model"]
    if not suites and model is None:
        raise click.UsageError("Missing argument 'SUITE…'", click.get_current_context())
    torchrun_place = torchrun.place()
    if (
        options["anyway"]
        and not options["resume"]
        and (torchrun_place is None or torchrun_place.nodes == 1)
    ):
        raise OptionError(
            "--anyway needs --resume or several nodes; add --resume, or leave --anyway out"
        )
    commands = {name: repeat_command(name, suites) for name in suites or (model,)}
    return torchrun.run_under_torchrun(
        options, lambda nodes: _measure(suites=suites, commands=commands, nodes=nodes, **options)
    )


def _measure(*, format_: str, **wanted: Any) -> int:
    exporters.TABLE.check(format_)
    given = {
        option.name: wanted.pop(option.name) for option in fields(Options) if option.name in wanted
    }
    request = application.Request(given=given, **wanted)
    if request.dry_run:
        for plan in application.plan(application.load(request, notify)):
            _print_plan(plan)
        return 0
    runs = application.measure(
        request,
        notify=notify,
        show=partial(print_runs, format_=format_),
        watch=lambda then: progress.Display(then=then),
    )
    return exit_code(runs)


def repeat_command(name: str, names: Sequence[str]) -> str:
    """The command that the user typed, with only the suite `name` of several `names`."""
    typed = sys.argv[1:]
    # the word after an option without a value may be a suite
    flags = [
        flag for param in run.params if getattr(param, "is_flag", False) for flag in param.opts
    ]
    values = {
        index
        for index, word in enumerate(typed, 1)
        if word.startswith("-") and word not in flags and "=" not in word
    }
    words = [
        word
        for index, word in enumerate(typed)
        if index in values
        or (word not in ("--resume", "--anyway") and (word == name or word not in names))
    ]
    torchrun_place = torchrun.place()
    if torchrun_place and torchrun_place.nodes > 1:
        launcher = [
            "--nnodes",
            str(torchrun_place.nodes),
            "--nproc-per-node",
            str(torchrun_place.local_world),
        ]
        return shlex.join(["torchrun", *launcher, *program.after_torchrun(), *words])
    if torchrun_place and "--nproc" not in typed:
        words += ["--nproc", str(torchrun_place.world)]
    return shlex.join([*program.words(), *words])


def _print_plan(plan: "Plan") -> None:
    """Print the plan of a run on stdout."""
    protocol = plan.protocol
    rounds = f"{protocol.replicates} replicates of {protocol.rounds} rounds"
    print(
        f"{printable(plan.suite)}: {plan.title}; {', '.join(plan.metrics)}; "
        f"{rounds}{'; QUICK' if protocol.quick else ''}"
    )
    for group in plan.groups:
        when = f": only if {group.fallback_of} runs out of memory" if group.fallback_of else ""
        print(f"  {group.name}{when}")
        for case, row in zip(group.cases, group.rows, strict=True):
            print(
                f"    {case.key}  {case.role:8s}  {row}{f' [{case.solver}]' if case.solver else ''}"
            )
