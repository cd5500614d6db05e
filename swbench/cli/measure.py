"""What `run` does: check everything, then measure suite after suite, and print one document of all
their tables.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swbench import program, store, suite
from swbench.cli.streams import tell
from swbench.errors import NodeLost, ResumeRefused, StoreError, SwbenchError, printable
from swbench.plan import Plan
from swbench.plugins import Plugin
from swbench.result import FAILURES

if TYPE_CHECKING:
    from swbench.ranks.nodes import Nodes

FAILED_CELL = 3


def measure(
    names: Sequence[str],
    *,
    format_: str,
    results: str,
    resume: bool,
    anyway: bool,
    dry_run: bool,
    plugins: Sequence[str],
    allow_busy: bool = False,
    nodes: "Nodes | None" = None,
    **given: Any,
) -> int:
    """Run the suites called `names` under the options `given` and print their tables; `nodes` are
    the other machines. Returns the exit code.
    """
    from swbench import plugins as plugin_files
    from swbench.machine.environment import record
    from swbench.report import exporters
    from swbench.run import devices

    exporters.TABLE.check(format_)
    loaded = plugin_files.load(plugins)
    if resume and not loaded:
        for name in names:
            _ask_for_plugins(results, name)
    suites = [suite.load(name) for name in dict.fromkeys(names)]
    options = suite.Options.of(**given)
    if set(options.metrics or ()) != {"flops"} and not (dry_run and options.devices):
        processes = max(
            world for one in suites for world in options.worlds or one.base.get("world", (1,))
        )
        processes = min(processes, options.per_node or processes)
        said = tell if allow_busy else lambda text: None
        options = replace(
            options,
            devices=devices.check(
                options.devices, allow_busy=allow_busy or dry_run, processes=processes, tell=said
            ),
        )
    plans = [suite.expand(one, options) for one in suites]
    _check_solver_options(plans)
    if dry_run:
        for plan in plans:
            _announce(plan)
        return 0
    asked = {name: value for name, value in given.items() if value not in (None, False)}
    asked |= {"plugins": [plugin.name for plugin in loaded]} if loaded else {}
    digests = plugin_files.digests(loaded)
    environment, folders = None, []
    for typed, one, plan in zip(dict.fromkeys(names), suites, plans, strict=True):
        found = _to_go_on_with(results, one.name, asked, resume)
        if found is not None and found.complete:
            tell(f"the newest run of {one.name} with these options is complete: {found.path}")
            folders.append(found.path)
            continue
        environment = environment or _compared(record(), nodes, loaded, anyway)
        if found is not None:
            tell(f"going on with {found.path}")
            command = _command(typed, names)
            writer = store.resume(
                found.path, plan, environment, anyway=anyway, command=command, plugins=digests
            )
        else:
            text, command = one.text, _command(typed, names)
            writer = store.RunWriter.create(
                results, plan, environment, command, suite_text=text, options=asked, plugins=digests
            )
        try:
            folders.append(
                _measure_one(
                    writer, loaded, [other.name for other in suites[suites.index(one) + 1 :]], nodes
                )
            )
        except StoreError:
            _rescue(writer, format_)
            raise
    return show(folders, format_)


def _to_go_on_with(
    results: str, name: str, asked: dict[str, Any], resume: bool
) -> store.Summary | None:
    """The newest run of the suite with these options, under `resume`. Where a new one is started
    although one is unfinished, that is said.
    """
    found = store.newest(results, name, asked)
    if found is not None and not resume:
        if not found.complete and not store.held(found.path):
            tell(
                f"an unfinished run of {name} with these options is in {found.path}; --resume "
                "would go on with it; this starts anew"
            )
        return None
    if found is None and resume:
        other = next(
            (
                run
                for run in reversed(store.runs(results))
                if run.suite == name and not run.complete and not store.held(run.path)
            ),
            None,
        )
        if other is not None:
            tell(
                f"an unfinished run of {name} with other options is in {other.path}; "
                f"`{other.command} --resume` would go on with it; this starts anew"
            )
    return found


def _compared(
    environment: dict[str, Any], nodes: "Nodes | None", plugins: Sequence[Plugin], anyway: bool
) -> dict[str, Any]:
    """The environment of this node with what differs on the others, under `nodes`."""
    unlike = nodes.compare(environment, plugins, anyway=anyway) if nodes else {}
    for node, lines in unlike.items():
        tell(f"node {node} differs from node 0: {'; '.join(lines)}")
    return (
        {**environment, "nodes": {str(node): lines for node, lines in unlike.items()}}
        if unlike
        else environment
    )


def _check_solver_options(plans: Sequence[Plan]) -> None:
    """Refuse a solver option that is none before anything runs. Solvers without options were
    checked by name, without loading torch.
    """
    from swbench import solvers

    for spec in {
        case.solver
        for plan in plans
        for group in plan.groups
        for case in group.cases
        if case.solver and ":" in case.solver
    }:
        solvers.get(spec)


def _rescue(writer: store.RunWriter, format_: str) -> None:
    """Where a run cannot be written any more: print what was measured if its folder cannot be read
    either.
    """
    try:
        store.load(writer.path)
    except StoreError:
        if writer.results:
            tell("what was measured is in no folder any more, so here it is:")
            _print([writer.snapshot()], format_)


def terminal() -> dict[str, Any]:
    """Width and colour of stdout, for the exporters."""
    here = sys.stdout.isatty()
    return {
        "width": shutil.get_terminal_size((140, 24)).columns if here else 140,
        "colour": here and "NO_COLOR" not in os.environ,
    }


def show(folders: Sequence[Any], format_: str) -> int:
    """Print the tables of stored runs as one document; exit code 3 if a cell failed."""
    runs = [store.load(folder) for folder in folders]
    for run in runs:
        for warning in run.warnings:
            tell(warning)
    _print(runs, format_)
    return (
        FAILED_CELL
        if any(result.status in FAILURES for run in runs for result in run.results)
        else 0
    )


def _print(runs: Sequence[store.StoredRun], format_: str) -> None:
    from swbench.report import exporters
    from swbench.report.build import build_table

    sys.stdout.write(exporters.export([build_table(run) for run in runs], format_, **terminal()))
    sys.stdout.flush()


def _measure_one(
    writer: store.RunWriter,
    plugins: Sequence[Plugin],
    then: Sequence[str] = (),
    nodes: "Nodes | None" = None,
) -> Any:
    """Count and time what the run's own plan asks for, which a resumed run has from its folder; the
    suites in `then` come after. Returns the folder.
    """
    from swbench.cli.progress import Display
    from swbench.run import Interrupted, SubprocessExecutor, run

    plan = writer.plan
    with writer, Display(then=then) as display:
        display.say(f"results: {writer.path}")
        try:
            if "flops" in plan.metrics:
                _count(plan, writer, plugins)
            if set(plan.metrics) == {"flops"}:
                writer.finish("counted")
            else:
                run(
                    plan,
                    writer,
                    SubprocessExecutor(writer.path / "logs", plugins=plugins, nodes=nodes),
                    display,
                )
        except KeyboardInterrupt as problem:  # while counting; `run` has its own ending
            raise Interrupted.after(problem, writer) from None
        except NodeLost as problem:
            kept = (
                f"{len(writer.results)} finished cells are kept in {writer.path}; the same "
                "command with --resume goes on from there"
            )
            raise NodeLost(f"{problem}: {kept}") from None
    return writer.path


def _count(plan: Plan, writer: store.RunWriter, plugins: Sequence[Plugin]) -> None:
    """Count; where a case cannot be built at all, nothing is left of a run that has nothing yet."""
    from swbench.run.counting import count

    try:
        count(plan, writer, plugins)
    except StoreError:
        raise
    except SwbenchError:
        if not writer.results:
            writer.discard()
        raise


def _ask_for_plugins(results: str, name: str) -> None:
    """Refuse to look for a run among those without plugins where the newest of that suite had some:
    a stored run never loads code by itself.
    """
    newest = next(
        (one for one in reversed(store.runs(results)) if one.suite == Path(name).stem), None
    )
    if newest is not None and not newest.complete and (used := newest.options.get("plugins")):
        flags = " ".join(
            f"--plugin {printable(one)}" for one in (used if isinstance(used, list) else [used])
        )
        raise ResumeRefused(
            f"run {newest.id} was begun with {flags}; give the flag again (with "
            "the file's path), or leave out --resume"
        )


FLAGS = (
    "--quick",
    "--full",
    "--resume",
    "--anyway",
    "--allow-busy",
    "--until-fits",
    "--every-batch",
)
"""Options of `run` without a value: the word after one of them may be a suite."""


def _command(name: str, names: Sequence[str]) -> str:
    """What the user typed, with the suite `name` alone where several `names` were
    typed.
    """
    import shlex

    from swbench.cli import torchrun

    typed = sys.argv[1:]
    values = {
        place
        for place, word in enumerate(typed, 1)
        if word.startswith("-") and word not in FLAGS and "=" not in word
    }
    kept = [
        word
        for place, word in enumerate(typed)
        if place in values
        or (word not in ("--resume", "--anyway") and (word == name or word not in names))
    ]
    here = torchrun.place()
    if here and here.nodes > 1:
        return shlex.join(
            [
                "torchrun",
                "--nnodes",
                str(here.nodes),
                "--nproc-per-node",
                str(here.local_world),
                *program.after_torchrun(),
                *kept,
            ]
        )
    if here and "--nproc" not in typed:
        kept += ["--nproc", str(here.world)]
    return shlex.join([*program.words(), *kept])


def _announce(plan: Plan) -> None:
    """What a run would do, on stdout."""
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
