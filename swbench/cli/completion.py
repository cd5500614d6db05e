"""Shell completion: `completion SHELL` prints what a shell reads once; from then on it starts the
program at each tab, with `VARIABLE` set, and reads what may stand there. It imports no torch.
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


def among(words: Callable[[click.Context], Iterable[str]], *, listed: bool = False) -> Completer:
    """Completes a parameter by those `words` that begin like what is there; where none does, by
    files. With `listed` the parameter is a list, and its last entry is completed.
    """

    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        before, comma, begun = incomplete.rpartition(",") if listed else ("", "", incomplete)
        found = [
            CompletionItem(f"{before}{comma}{word}")
            for word in words(ctx)
            if word.startswith(begun)
        ]
        return found or ([] if listed else [CompletionItem(incomplete, type="file")])

    return complete


def of_option(flag: str, choices: Iterable[str] | None, *, listed: bool) -> Completer | None:
    """How the value of an option of suites is completed; None where nothing is known of it."""
    words = _OF_OPTIONS.get(flag) or ((lambda ctx: choices) if choices else None)
    return among(words, listed=listed) if words else None


def _suites(ctx: click.Context) -> Iterable[str]:
    return suite.names()


def _runs(ctx: click.Context) -> Iterable[str]:
    found = [one.id for one in store.runs(ctx.params.get("results") or "results")]
    return ["latest", *reversed(found)] if found else ()


def _solvers(ctx: click.Context) -> Iterable[str]:
    return ("auto", *solvers.names())


def _norms(ctx: click.Context) -> Iterable[str]:
    return norms.names()


def _formats(ctx: click.Context) -> Iterable[str]:
    return exporters.names()


_OF_OPTIONS = {"--solver": _solvers, "--only": _norms, "--device": lambda ctx: ("cpu", "cuda")}

suites, runs = among(_suites), among(_runs)
suites_or_runs = among(lambda ctx: (*_suites(ctx), *_runs(ctx)))
runs_or_paper = among(lambda ctx: (*_runs(ctx), "paper"))
format_, formats = among(_formats), among(_formats, listed=True)


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
