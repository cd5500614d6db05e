"""The command table, and the place where errors become a line on stderr and an exit code."""

import importlib
import os
import signal
import sys
from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem

from swbench import program
from swbench.cli.completion import VARIABLE, suites
from swbench.cli.lazy import native, software, suite
from swbench.cli.signals import orderly_shutdown
from swbench.cli.streams import discard, notify
from swbench.errors import SwbenchError, near_miss, printable
from swbench.gc_control import gc_disabled
from swbench.version import __version__

COMMANDS = {
    "run": (
        "swbench.cli.run:run",
        "Measure SUITE (a name from `list suites`, or a TOML file) and print its table.",
    ),
    "list": (
        "swbench.cli.listing:list_",
        "List suites, models, norms, solvers, probes (what can be measured) or runs.",
    ),
    "check": (
        "swbench.cli.check:check",
        (
            "Check suite files (or suites by name), and say what they would measure and which "
            "norms they replace; or show the norms of the network that --model names."
        ),
    ),
    "show": ("swbench.cli.reports:show", "Print the table of stored runs again."),
    "export": ("swbench.cli.reports:export", "Write the table of a stored run as files."),
    "plot": ("swbench.cli.reports:plot", "Draw the plots that a stored run allows."),
    "compare": (
        "swbench.cli.reports:compare",
        "Compare run B with run A, cell by cell; `compare RUN paper` sets a run beside the "
        "supplement.",
    ),
    "predict": (
        "swbench.cli.predict:predict",
        "Account for what the ranks of a training step send, layer by layer, from shapes alone.",
    ),
    "profile": (
        "swbench.cli.profile:profile",
        "Show where the time of one row of SUITE goes: `profile imagenet --only swa-7`.",
    ),
    "doctor": (
        "swbench.cli.doctor_commands:doctor",
        "Say what this machine can measure, what would spoil it, and the fix for each.",
    ),
    "completion": (
        "swbench.cli.completion:completion",
        "Print what makes bash, zsh or fish complete commands, options, suites, solvers and runs.",
    ),
    "selftest": (
        "swbench.cli.doctor_commands:selftest",
        "Let the instrument measure things of known size, before a table is believed.",
    ),
}
"""Commands by name: `module:attribute`, imported on first use, and the line of the help."""

READING = ("show", "export", "compare")
"""Commands that load results, print and end."""

MISTAKE = 2


class _Commands(click.Group):
    """The group of commands, imported on first use. A first word that is no command names a suite
    to run.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name][0].partition(":")
        if name in READING:
            # many small objects without cycles: collecting would double the time to load a large
            # run
            ctx.with_resource(gc_disabled())
        return getattr(importlib.import_module(module), attribute)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Format the texts of `COMMANDS`, so that `--help` imports no command."""
        limit = formatter.width - 6 - max(map(len, COMMANDS))
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (name, click.Command(name, help=words).get_short_help_str(limit))
                    for name, (_, words) in COMMANDS.items()
                ]
            )

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Completions of commands, suites, options of the group, or files."""
        commands = [
            CompletionItem(name, help=words)
            for name, (_, words) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        completions = suites(ctx, self.params[0], incomplete)
        return [
            *commands,
            *(
                completion
                for completion in completions
                if completion.type == "plain" or not commands
            ),
        ]

    def invoke(self, ctx: click.Context) -> int:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # click would exit with 1, which is a regression's code
            discard(sys.stdout)
            return 0

    def resolve_command(self, ctx: click.Context, args: list[str]):
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            if ctx.resilient_parsing:  # during completion, which refuses nothing
                pass
            elif args[0] not in suite.names() and not os.path.exists(args[0]):
                known = [*COMMANDS, *suite.names()]
                raise click.UsageError(
                    f"{printable(args[0])!r} is neither a command nor a "
                    f"suite.{near_miss(args[0], known)}"
                    f" Commands: {', '.join(COMMANDS)}. Suites: {', '.join(suite.names())}."
                )
            args = ["run", *args]
        return super().resolve_command(ctx, args)


def _version(ctx: click.Context) -> None:
    torch = f"torch {version}" if (version := software.packages()["torch"]) else "no torch"
    click.echo(f"{program.NAME} {__version__}, {torch}, {native.summary()}")
    ctx.exit()


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=lambda ctx, _, requested: _version(ctx) if requested else None,
    help="Show the versions of swbench and torch, and the native kernels; then exit.",
)
@click.pass_context
def group(ctx: click.Context) -> int | None:
    """Measure what whitening costs in deep networks.

    A SUITE alone is short for `run SUITE`. RUN is a path, an id, or `latest`.
    Tables go to stdout, everything else to stderr.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        return MISTAKE
    return None


def start(arguments: Sequence[str]) -> int:
    """Run the command line on `arguments` and return the exit code. Only a defect of swbench itself
    raises.
    """
    with orderly_shutdown():
        try:
            code = (
                group.main(
                    args=list(arguments),
                    prog_name=program.name(),
                    standalone_mode=False,
                    complete_var=VARIABLE,
                )
                or 0
            )
            sys.stdout.flush()  # here, where a full disk behind it can still be reported
            return code
        except SwbenchError as problem:
            return _refuse(str(problem), problem.exit_code)
        except click.ClickException as problem:
            message = problem.format_message().replace("\n", " ").rstrip(".")
            full_stop = "" if message.endswith("?") else "."
            hint = (
                f"{full_stop} See: {problem.ctx.command_path} --help"
                if isinstance(problem, click.UsageError) and problem.ctx
                else ""
            )
            return _refuse(message + hint, MISTAKE)
        except (KeyboardInterrupt, click.Abort) as problem:
            return _refuse(
                "interrupted", 128 + getattr(problem.__cause__ or problem, "number", signal.SIGINT)
            )
        except BrokenPipeError:  # the reader of the table has ended, as `head` does
            discard(sys.stdout)
            return 0
        except OSError as problem:
            return _refuse(
                (
                    f"the system refused: {_os_error_text(problem)}; free space or give permission "
                    "there, then try again"
                ),
                MISTAKE,
            )


def _os_error_text(problem: OSError) -> str:
    return f"{problem.strerror or problem}{f' ({problem.filename})' if problem.filename else ''}"


def _refuse(message: str, code: int) -> int:
    """Print `message` on stderr, with control characters escaped; returns `code`."""
    try:
        sys.stdout.flush()
    except OSError:  # a full disk behind it, perhaps the one that the message is about
        discard(sys.stdout)
    notify(*message.split("\n"))
    return code
