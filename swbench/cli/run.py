"""`run`: suites in, results on disk, a table on stdout."""

from typing import Any

import click

from swbench.cli import torchrun
from swbench.cli.options import CommaList, DtypeList, Duration, Percent, SolverList, plugin_option
from swbench.errors import OptionError


def measuring_options(command: Any) -> Any:
    """The options that say what to measure and how; `run` and `profile` share them."""
    for option in reversed(_MEASURING):
        command = option(command)
    return command


def _which_batches(name: str, text: str) -> Any:
    """A flag that makes `which_batches` its own name. click would take the last of two such flags
    without a word.
    """

    def choose(ctx: click.Context, _: click.Parameter, given: bool) -> None:
        before = ctx.params.setdefault("which_batches", None)
        if given and before is not None:
            raise OptionError(
                "--until-fits and --every-batch contradict each other; leave one of them out"
            )
        if given:
            ctx.params["which_batches"] = name

    return click.option(f"--{name}", is_flag=True, expose_value=False, callback=choose, help=text)


_MEASURING = (
    click.option(
        "--device",
        "devices",
        type=CommaList(),
        help=("Devices: cpu, cuda, cuda:1.  [default: cpu, and cuda where there is one]"),
    ),
    click.option(
        "--threads",
        type=int,
        help="Intra-op threads on a CPU.  [default: the physical cores allowed]",
    ),
    click.option(
        "--only",
        type=CommaList(),
        help=(
            "Rows by norm, norm-layers, label or solver, globs allowed: 'swa*'. The baseline stays."
        ),
    ),
    click.option(
        "--solver",
        "solvers",
        type=SolverList(),
        help=("Solvers instead of the suite's, a row each: eigh,polar,eigh:backward=paper."),
    ),
    click.option(
        "--nproc",
        "worlds",
        type=CommaList(int),
        help=(
            "Processes that a batch is spread over, started by torch's elastic "
            "launcher: 8, or 1,2,4,8."
        ),
    ),
    click.option(
        "--batch", "batches", type=CommaList(int), help="Batch sizes instead of the suite's."
    ),
    _which_batches(
        "until-fits",
        (
            "Of several batches the largest first, smaller ones only until every "
            "row fits the device."
        ),
    ),
    _which_batches(
        "every-batch", "Every batch, in a suite that tries them until all rows fit, too."
    ),
    click.option(
        "--group",
        "groups",
        type=CommaList(int),
        help=("Whitening group sizes (in a solver suite: matrix sizes) instead of the suite's."),
    ),
    click.option(
        "--spectrum",
        "spectra",
        type=CommaList(),
        help="Spectra of a solver suite: kappa=1e3, identity …",
    ),
    click.option(
        "--dtype",
        "dtypes",
        type=DtypeList(),
        help="float32, tf32, bfloat16 (bf16), float16 (fp16), float64.",
    ),
    click.option("--mode", "modes", type=CommaList(), help="eager, graph, compile."),
    click.option("--layout", "layouts", type=CommaList(), help="contiguous, channels_last."),
)


@click.command("run")
@click.argument("suites", nargs=-1, required=True, metavar="SUITE…")
@measuring_options
@click.option("--iterations", type=int, help="Rounds in all.  [default: the suite's, 100]")
@click.option(
    "--replicates",
    type=int,
    help="Fresh worker processes the rounds are spread over.  [default: 5]",
)
@click.option(
    "--metrics",
    type=CommaList(),
    help="What to measure, of `list probes`. flops alone need no timing.",
)
@click.option(
    "--quick",
    is_flag=True,
    help="2 replicates of 5 rounds, 3 warm-up calls; every output says QUICK.",
)
@click.option(
    "--full", is_flag=True, help="A solver suite's whole grid instead of its default slice."
)
@click.option(
    "--target-ci", type=Percent(), help="Stop when every ratio is known to ± this, such as 1%."
)
@click.option(
    "--budget",
    "budget_s",
    type=Duration(),
    help=(
        "Begin no replicate after this time of measuring, such as 10m, earlier lives of a "
        "resumed run included; the one that runs is finished."
    ),
)
@click.option(
    "--case-limit",
    "case_limit_s",
    type=Duration(),
    help="The longest one case may stay silent.  [default: 10m]",
)
@click.option("--seed", type=int, help="Seed of orders and data.  [default: 0]")
@click.option("--results", default="results", show_default=True, help="Folder that holds the runs.")
@click.option(
    "--format",
    "format_",
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
@click.option("--dry-run", is_flag=True, help="Say what would be measured, and stop.")
@plugin_option
def run(suites: tuple[str, ...], **options: Any) -> int:
    """Measure SUITE (a name from `list suites`, or a TOML file) and print its table."""
    from swbench.cli.measure import measure

    here = torchrun.place()
    if options["anyway"] and not options["resume"] and (here is None or here.nodes == 1):
        raise OptionError(
            "--anyway only means something with --resume or over several nodes; "
            "add --resume, or leave --anyway out"
        )
    return torchrun.under(options, lambda nodes: measure(suites, nodes=nodes, **options))
