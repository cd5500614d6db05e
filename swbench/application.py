"""The application: from the names of suites to their tables, load → plan → open → count → run →
show. It prints nothing and reads no command line: the caller passes a request and callbacks.
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
"""Called with a line that the user should read, such as a warning."""

Show = Callable[[Sequence[store.StoredRun]], None]
"""Called with the runs whose tables are to be shown, as one document."""


class Display(Protocol):
    """Receives the events of a run between timed regions, and lines that belong to it."""

    def __call__(self, event: events.Event) -> None: ...

    def say(self, text: str) -> None: ...


Watch = Callable[[Sequence[str]], AbstractContextManager[Display]]
"""Makes the display of one run from the names of the suites that follow it."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request to measure suites.

    `given` holds the values of `Options` by name. They are checked after the `plugins` are
    executed, which may add the names in them. With a `model` among them there are no `suites`.
    `commands` maps each suite (or model) to the command that repeats it alone. `nodes` are the
    other machines. `resume` goes on with the newest unfinished run of the same suite and options,
    `anyway` also where something has changed. `allow_busy` measures beside other programs on a GPU,
    and with `dry_run` nothing is measured.
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
    """The loaded plugins and suites of a request, and its checked options, with the devices to
    measure on. `given_options` holds the options that were given, by which a run is found again.
    """

    plugins: tuple[Plugin | NamedModel, ...]
    suites: dict[str, Suite]
    options: Options
    given_options: Mapping[str, Any]


def measure(request: Request, *, notify: Notify, show: Show, watch: Watch) -> list[store.StoredRun]:
    """Measure the suites of `request` one after the other, show their tables together and return
    their runs. Everything is checked before the first is measured.
    """
    loaded = load(request, notify)
    plans = plan(loaded)
    environment_record, folders = None, []
    for name, plan_ in zip(loaded.suites, plans, strict=True):
        previous = newest(request, loaded, plan_, notify)
        if previous is not None and previous.complete:
            folders.append(previous.path)
            continue
        environment_record = environment_record or describe(request, loaded, notify)
        if previous is not None:
            notify(f"going on with {previous.path}")
        writer = open_run(request, loaded, name, plan_, previous, environment_record)
        try:
            with writer, watch([later.suite for later in plans[len(folders) + 1 :]]) as display:
                display.say(f"results: {writer.path}")
                measure_plan(writer, loaded.plugins, request.nodes, display)
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
            _require_plugins(request.results, name)
    suites = {name: suite.load(name) for name in names}
    options = Options.of(**request.given)
    given_options = options.as_given()
    given_options |= {"plugins": [plugin.name for plugin in plugins]} if plugins else {}
    _check_model_or_suites(options, names)
    if options.model is not None:
        plugins += suite.permission(options.model)
        suites[options.model] = suite.suite_of(options)
    if any(suite_.kind == "network" for suite_ in suites.values()):
        devices.check_autocast(options.dtypes, options.devices)
    if set(options.metrics or ()) != {"flops"} and not (request.dry_run and options.devices):
        processes = max(
            world
            for suite_ in suites.values()
            for world in options.over("base", suite_.base).get("world", (1,))
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
    return Loaded(plugins, suites, options, given_options)


def _check_model_or_suites(options: Options, names: Sequence[str]) -> None:
    if options.model is not None and names:
        raise OptionError(f"--model stands for a suite; leave {names[0]} out, or --model")
    if options.model is None and (options.norms or options.where):
        flag = "--norm" if options.norms else "--where"
        raise OptionError(f"{flag} needs --model; rows of a suite are chosen by --only")


def plan(loaded: Loaded) -> list[Plan]:
    """The plan of each suite. Raises OptionError for an unknown solver option. Solvers without
    options were checked by name, without loading torch.
    """
    plans = [suite.expand(suite_, loaded.options) for suite_ in loaded.suites.values()]
    cases = [case for plan_ in plans for group in plan_.groups for case in group.cases]
    for spec in {case.solver for case in cases if case.solver and ":" in case.solver}:
        solvers.get(spec)
    return plans


def newest(request: Request, loaded: Loaded, plan: Plan, notify: Notify) -> store.Summary | None:
    """The run to resume: the newest of the suite with these options, or None without `resume`.
    Notifies where a new run is started although one is unfinished.
    """
    previous = store.newest(request.results, plan.suite, loaded.given_options)
    if previous is not None and not request.resume:
        if not previous.complete and not store.held(previous.path):
            notify(
                f"an unfinished run of {plan.suite} with these options is in {previous.path}; "
                "this starts a new one; --resume would go on with it"
            )
        return None
    if previous is not None and previous.complete:
        notify(f"the newest run of {plan.suite} with these options is complete: {previous.path}")
    elif previous is None and request.resume:
        runs = (run for run in reversed(store.runs(request.results)) if run.suite == plan.suite)
        other = next((run for run in runs if not (run.complete or store.held(run.path))), None)
        if other is not None:
            notify(
                f"an unfinished run of {plan.suite} with other options is in {other.path}; "
                f"this starts a new one; `{other.command} --resume` would go on with it"
            )
    return previous


def describe(request: Request, loaded: Loaded, notify: Notify) -> dict[str, Any]:
    """The environment of this node, with the differences of the others."""
    environment_record, nodes = environment.record(), request.nodes
    unlike = (
        nodes.compare(environment_record, loaded.plugins, anyway=request.anyway) if nodes else {}
    )
    for node, lines in unlike.items():
        notify(f"node {node} differs from node 0: {'; '.join(lines)}")
    torch = environment_record.get("torch", {})
    if missing := torch.get("native", {}).get("missing"):
        notify(f"{missing}; on a CPU torch's operations stand in for them")
    differences = {str(node): lines for node, lines in unlike.items()}
    return {**environment_record, "nodes": differences} if unlike else environment_record


def open_run(
    request: Request,
    loaded: Loaded,
    name: str,
    plan: Plan,
    previous: store.Summary | None,
    environment_record: Mapping[str, Any],
) -> store.RunWriter:
    """The run's folder, opened to be written: that of `previous`, or a new one."""
    command, digests = request.commands.get(name, ""), plugin_files.digests(loaded.plugins)
    if previous is not None:
        return store.resume(
            previous.path,
            plan,
            environment_record,
            anyway=request.anyway,
            command=command,
            plugins=digests,
        )
    return store.RunWriter.create(
        request.results,
        plan,
        environment_record,
        command,
        suite_text=loaded.suites[name].text,
        options=loaded.given_options,
        plugins=digests,
    )


def measure_plan(
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
        note = (
            f"{len(writer.results)} finished cells are kept in {writer.path}; the same "
            "command with --resume goes on from there"
        )
        raise NodeLost(f"{problem}: {note}") from None


def count_or_discard(
    plan: Plan, writer: store.RunWriter, plugins: Sequence[Plugin | NamedModel]
) -> None:
    """Count; where a case cannot be built at all, discard a run that has no results."""
    try:
        count(plan, writer, plugins)
    except StoreError:
        raise
    except SwbenchError:
        if not writer.results:
            writer.discard()
        raise


def rescue(writer: store.RunWriter, notify: Notify, show: Show) -> None:
    """After a failed write, show the measured results if the run's folder cannot be read either."""
    try:
        store.load(writer.path)
    except StoreError:
        if writer.results:
            notify("the results folder is gone; this is what was measured:")
            show([writer.snapshot()])


def _require_plugins(results: str, name: str) -> None:
    """Raise ResumeRefused where the newest run of a suite is unfinished and had plugins, and none
    is given: a stored run never loads code by itself.
    """
    runs = (run for run in reversed(store.runs(results)) if run.suite == Path(name).stem)
    newest = next(runs, None)
    if newest is not None and not newest.complete and (plugins := newest.options.get("plugins")):
        flags = " ".join(
            f"--plugin {printable(plugin)}"
            for plugin in (plugins if isinstance(plugins, list) else [plugins])
        )
        raise ResumeRefused(
            f"run {newest.id} was begun with {flags}; give the flag again (with "
            "the file's path), or leave out --resume"
        )
