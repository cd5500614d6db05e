"""The way of suites from their names to their tables: load → plan → open → count → run → show. It
prints nothing and reads no command line: who calls it says what is wanted and is told the rest.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from swbench import plugins as plugin_files
from swbench import solvers, store, suite
from swbench.errors import NodeLost, OptionError, ResumeRefused, StoreError, SwbenchError, printable
from swbench.machine import environment
from swbench.plan import Plan
from swbench.plugins import NamedModel, Plugin
from swbench.ranks.nodes import Nodes
from swbench.report.build import stored_runs
from swbench.run import Interrupted, SubprocessExecutor, devices, events, run
from swbench.run.counting import count
from swbench.suite import Options, Suite

Notify = Callable[[str], None]
"""Takes a line that the user should read, such as a warning."""

Show = Callable[[Sequence[store.StoredRun]], None]
"""Takes runs whose tables the user wants to see, as one document."""


class Display(Protocol):
    """Hears the events of a run between timed regions, and lines that belong to it."""

    def __call__(self, event: events.Event) -> None: ...

    def say(self, text: str) -> None: ...


Watch = Callable[[Sequence[str]], AbstractContextManager[Display]]
"""Makes the display of one run; it is given the names of the suites that come after it."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be measured.

    `given` are the values of `Options` by name; they are checked once the `plugins` are executed,
    which may add the names in them; with a `model` among them there are no `suites`. `commands`
    holds by suite (or model) the command that repeats it alone. `nodes` are the other machines.
    `resume` goes on with the newest unfinished run of the same suite and options, `anyway` also
    where something has changed; `allow_busy` measures beside other
    programs on a GPU; `dry_run` says that nothing will be measured.
    """

    suites: Sequence[str]
    given: Mapping[str, Any] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)
    results: str = "results"
    plugins: Sequence[str] = ()
    nodes: Nodes | None = None
    resume: bool = False
    anyway: bool = False
    allow_busy: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class Loaded:
    """What the names of a request stand for; `options` name the devices to measure on."""

    plugins: tuple[Plugin | NamedModel, ...]
    suites: dict[str, Suite]
    options: Options
    asked: Mapping[str, Any]


def measure(request: Request, *, notify: Notify, show: Show, watch: Watch) -> list[store.StoredRun]:
    """Measure the suites of `request` one after the other, show their tables together and return
    their runs. Everything is checked before the first is measured.
    """
    loaded = load(request, notify)
    plans = plan(loaded)
    here, folders = None, []
    for name, one in zip(loaded.suites, plans, strict=True):
        before = newest(request, loaded, one, notify)
        if before is not None and before.complete:
            folders.append(before.path)
            continue
        here = here or describe(request, loaded, notify)
        if before is not None:
            notify(f"going on with {before.path}")
        writer = open_run(request, loaded, name, one, before, here)
        try:
            with writer, watch([later.suite for later in plans[len(folders) + 1 :]]) as display:
                display.say(f"results: {writer.path}")
                measure_one(writer, loaded.plugins, request.nodes, display)
        except StoreError:
            rescue(writer, notify, show)
            raise
        folders.append(writer.path)
    runs = stored_runs(folders, notify)
    show(runs)
    return runs


def load(request: Request, notify: Notify) -> Loaded:
    """Execute the plugins, read the suites, check the options and the devices."""
    plugins = plugin_files.load(request.plugins)
    names = tuple(dict.fromkeys(request.suites))
    if request.resume and not plugins:
        for name in names:
            _ask_for_plugins(request.results, name)
    suites = {name: suite.load(name) for name in names}
    options = Options.of(**request.given)
    asked = options.asked()
    asked |= {"plugins": [plugin.name for plugin in plugins]} if plugins else {}
    _model_or_suites(options, names)
    if options.model is not None:
        plugins += suite.permission(options.model)
        suites[options.model] = suite.suite_of(options)
    if any(one.kind == "network" for one in suites.values()):
        devices.check_autocast(options.dtypes, options.devices)
    if set(options.metrics or ()) != {"flops"} and not (request.dry_run and options.devices):
        processes = max(
            world
            for one in suites.values()
            for world in options.over("base", one.base).get("world", (1,))
        )
        options = replace(
            options,
            devices=devices.check(
                options.devices,
                allow_busy=request.allow_busy or request.dry_run,
                processes=min(processes, options.per_node or processes),
                notify=notify if request.allow_busy else lambda text: None,
            ),
        )
    return Loaded(plugins, suites, options, asked)


def _model_or_suites(options: Options, names: Sequence[str]) -> None:
    if options.model is not None and names:
        raise OptionError(f"--model stands for a suite; leave {names[0]} out, or --model")
    if options.model is None and (options.norms or options.where):
        flag = "--norm" if options.norms else "--where"
        raise OptionError(f"{flag} needs --model; rows of a suite are chosen by --only")


def plan(loaded: Loaded) -> list[Plan]:
    """The plan of each suite. Raises OptionError for a solver option that is none; solvers without
    options were checked by name, without loading torch.
    """
    plans = [suite.expand(one, loaded.options) for one in loaded.suites.values()]
    cases = [case for one in plans for group in one.groups for case in group.cases]
    for spec in {case.solver for case in cases if case.solver and ":" in case.solver}:
        solvers.get(spec)
    return plans


def newest(request: Request, loaded: Loaded, one: Plan, notify: Notify) -> store.Summary | None:
    """The run to go on with: the newest of the suite with these options, if that was asked for.
    Where a new one is started although one is unfinished, that is said.
    """
    found = store.newest(request.results, one.suite, loaded.asked)
    if found is not None and not request.resume:
        if not found.complete and not store.held(found.path):
            notify(
                f"an unfinished run of {one.suite} with these options is in {found.path}; --resume "
                "would go on with it; this starts anew"
            )
        return None
    if found is not None and found.complete:
        notify(f"the newest run of {one.suite} with these options is complete: {found.path}")
    elif found is None and request.resume:
        runs = (run for run in reversed(store.runs(request.results)) if run.suite == one.suite)
        other = next((run for run in runs if not (run.complete or store.held(run.path))), None)
        if other is not None:
            notify(
                f"an unfinished run of {one.suite} with other options is in {other.path}; "
                f"`{other.command} --resume` would go on with it; this starts anew"
            )
    return found


def describe(request: Request, loaded: Loaded, notify: Notify) -> dict[str, Any]:
    """The environment of this node, with what differs on the others."""
    here, nodes = environment.record(), request.nodes
    unlike = nodes.compare(here, loaded.plugins, anyway=request.anyway) if nodes else {}
    for node, lines in unlike.items():
        notify(f"node {node} differs from node 0: {'; '.join(lines)}")
    torch = here.get("torch", {})
    if missing := torch.get("native", {}).get("missing"):
        notify(f"{missing}; on a CPU torch's operations stand in for them")
    said = {str(node): lines for node, lines in unlike.items()}
    return {**here, "nodes": said} if unlike else here


def open_run(
    request: Request,
    loaded: Loaded,
    name: str,
    one: Plan,
    before: store.Summary | None,
    here: Mapping[str, Any],
) -> store.RunWriter:
    """The run's folder, opened to be written: that of `before`, or a new one."""
    command, digests = request.commands.get(name, ""), plugin_files.digests(loaded.plugins)
    if before is not None:
        return store.resume(
            before.path, one, here, anyway=request.anyway, command=command, plugins=digests
        )
    return store.RunWriter.create(
        request.results,
        one,
        here,
        command,
        suite_text=loaded.suites[name].text,
        options=loaded.asked,
        plugins=digests,
    )


def measure_one(
    writer: store.RunWriter,
    plugins: Sequence[Plugin | NamedModel],
    nodes: Nodes | None,
    display: Display,
) -> None:
    """Count and time what the run's own plan asks for, which a resumed run has from its folder."""
    plan = writer.plan
    try:
        if "flops" in plan.metrics:
            count_or_discard(plan, writer, plugins)
        if set(plan.metrics) == {"flops"}:
            writer.finish("counted")
        else:
            executor = SubprocessExecutor(writer.path / "logs", plugins=plugins, nodes=nodes)
            run(plan, writer, executor, display)
    except KeyboardInterrupt as problem:  # while counting; `run` has its own ending
        raise Interrupted.after(problem, writer) from None
    except NodeLost as problem:
        kept = (
            f"{len(writer.results)} finished cells are kept in {writer.path}; the same "
            "command with --resume goes on from there"
        )
        raise NodeLost(f"{problem}: {kept}") from None


def count_or_discard(
    plan: Plan, writer: store.RunWriter, plugins: Sequence[Plugin | NamedModel]
) -> None:
    """Count; where a case cannot be built at all, nothing is left of a run that has nothing yet."""
    try:
        count(plan, writer, plugins)
    except StoreError:
        raise
    except SwbenchError:
        if not writer.results:
            writer.discard()
        raise


def rescue(writer: store.RunWriter, notify: Notify, show: Show) -> None:
    """Where a run cannot be written any more: show what was measured if its folder cannot be read
    either.
    """
    try:
        store.load(writer.path)
    except StoreError:
        if writer.results:
            notify("what was measured is in no folder any more, so here it is:")
            show([writer.snapshot()])


def _ask_for_plugins(results: str, name: str) -> None:
    """Refuse to look for a run among those without plugins where the newest of that suite had some:
    a stored run never loads code by itself.
    """
    runs = (one for one in reversed(store.runs(results)) if one.suite == Path(name).stem)
    newest = next(runs, None)
    if newest is not None and not newest.complete and (used := newest.options.get("plugins")):
        flags = " ".join(
            f"--plugin {printable(one)}" for one in (used if isinstance(used, list) else [used])
        )
        raise ResumeRefused(
            f"run {newest.id} was begun with {flags}; give the flag again (with "
            "the file's path), or leave out --resume"
        )
