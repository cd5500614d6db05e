"""Shell completion: `completion SHELL` prints a script for the shell. At each tab the shell then
starts the program with `VARIABLE` set, and reads the completions. It imports no torch.
"""

from collections.abc import Callable, Iterable

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ZshComplete

from swbench import program
from swbench.cli.lazy import exporters, norms, solvers, store, suite

VARIABLE = "_SWBENCH_COMPLETE"


class _Fish(FishComplete):
    """click's own script for fish cuts a word at its first comma."""

    source_template = FishComplete.source_template.replace(
        'string split ","', 'string split --max 1 ","'
    )


SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": _Fish}
Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def complete_from(
    words: Callable[[click.Context], Iterable[str]], *, listed: bool = False
) -> Completer:
    """A completer that offers those `words` that begin with the typed text, or files where none
    does. With `listed` the parameter is a list, and its last entry is completed.
    """

    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        before, comma, prefix = incomplete.rpartition(",") if listed else ("", "", incomplete)
        completions = [
            CompletionItem(f"{before}{comma}{word}")
            for word in words(ctx)
            if word.startswith(prefix)
        ]
        return completions or ([] if listed else [CompletionItem(incomplete, type="file")])

    return complete


def of_option(flag: str, choices: Iterable[str] | None, *, listed: bool) -> Completer | None:
    """The completer of the value of an option of suites; None where its values are not known."""
    words = _OF_OPTIONS.get(flag) or ((lambda ctx: choices) if choices else None)
    return complete_from(words, listed=listed) if words else None


def _suites(ctx: click.Context) -> Iterable[str]:
    return suite.names()


def _runs(ctx: click.Context) -> Iterable[str]:
    ids = [run.id for run in store.runs(ctx.params.get("results") or "results")]
    return ["latest", *reversed(ids)] if ids else ()


def _solvers(ctx: click.Context) -> Iterable[str]:
    return ("auto", *solvers.names())


def _norms(ctx: click.Context) -> Iterable[str]:
    return norms.names()


def _formats(ctx: click.Context) -> Iterable[str]:
    return exporters.names()


_OF_OPTIONS = {"--solver": _solvers, "--only": _norms, "--device": lambda ctx: ("cpu", "cuda")}

suites, runs = complete_from(_suites), complete_from(_runs)
suites_or_runs = complete_from(lambda ctx: (*_suites(ctx), *_runs(ctx)))
runs_or_paper = complete_from(lambda ctx: (*_runs(ctx), "paper"))
format_, formats = complete_from(_formats), complete_from(_formats, listed=True)


@click.command("completion")
@click.argument("shell", type=click.Choice(tuple(SHELLS)))
def completion(shell: str) -> int:
    """Print what makes bash, zsh or fish complete commands, options, suites, solvers and runs.

    In ~/.bashrc or ~/.zshrc: eval "$(swbench completion bash)", or zsh. For fish: swbench
    completion fish > ~/.config/fish/completions/swbench.fish
    """
    commands = click.get_current_context().find_root().command
    click.echo(SHELLS[shell](commands, {}, program.NAME, VARIABLE).source())
    return 0
