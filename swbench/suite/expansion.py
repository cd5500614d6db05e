"""Expands a suite and the options to a plan: every combination of the lists, in groups whose cases
share their rounds.
"""

import itertools
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any

from swbench import solvers
from swbench.case import (
    BASELINE,
    CONTROL,
    TRAIN,
    AnyCase,
    Case,
    SolverCase,
    device_kind,
)
from swbench.errors import OptionError
from swbench.plan import FASTER_HALF, QUICK, Group, Plan, Protocol
from swbench.suite import network, schema, stability
from swbench.suite.options import Options
from swbench.suite.selection import (
    MOST_CASES,
    check_dtypes,
    devices_of,
    on_device,
    refuse_option,
    require_match,
    threads_of,
    too_many,
    unless_default,
)
from swbench.suite.source import Suite

METRICS = {
    "network": ("flops", "time", "memory"),
    "solvers": ("time", "accuracy"),
    "stability": ("stability",),
}
"""Default metrics by kind of suite."""

SOLVER_BASELINES = {"graph": "newton5"}
"""Baseline by mode where it is not `eigh`, which waits for the host and cannot be captured in a
CUDA graph.
"""


def expand(suite: Suite, options: Options | None = None, **given: Any) -> Plan:
    """The plan of `suite` under `options`, which may also be given as keywords (`devices=["cpu"]`,
    `only=["swa*"]` …).

    Without `devices` all cases are on the CPU. Raises OptionError where the options leave no case
    or more than `MOST_CASES`.
    """
    options = options or Options.of(**given)
    build = {"network": network.groups, "solvers": _solvers, "stability": stability.groups}[
        suite.kind
    ]
    count = 0
    groups = []
    for group in build(suite, options):
        count += len(group.cases)
        if count > MOST_CASES:
            raise OptionError(too_many(suite.name))
        groups.append(group)
    if not groups:
        raise OptionError(_nothing(suite, options))
    metrics = options.metrics or suite.metrics or METRICS[suite.kind]
    _check_backward(metrics, groups)
    return Plan(
        suite=suite.name,
        title=suite.title,
        kind=suite.kind,
        groups=tuple(groups),
        metrics=metrics,
        protocol=_protocol(suite, options),
        paper=suite.paper,
    )


def _nothing(suite: Suite, options: Options) -> str:
    """The message for options that leave nothing of the suite, with a remedy."""
    devices, base = ", ".join(options.devices or ("cpu",)), options.over("base", suite.base)
    if not any(device_kind(device) in base["device"] for device in options.devices or ("cpu",)):
        return (
            f"suite {suite.name!r} is not for {devices}; choose --device "
            f"{' or '.join(base['device'])}"
        )
    if not devices_of(base, options):
        return f"suite {suite.name!r} has no batch for {devices}; give one with --batch"
    if suite.kind == "network" and options.worlds:
        fewest = min(options.worlds)
        return (
            f"no batch of suite {suite.name!r} on {devices} has an image for each of {fewest} "
            f"processes; give one with --batch {fewest} or more"
        )
    return (
        f"suite {suite.name!r} has nothing for {devices} in mode "
        f"{', '.join(base['mode'])}; choose another --mode or --device"
    )


def _check_backward(metrics: Iterable[str], groups: Iterable[Group]) -> None:
    """Raises OptionError where a metric needs a backward pass and a phase has none."""
    needs = [name for name in metrics if name in schema.NEEDS_BACKWARD]
    without = next(
        (
            case.phase
            for group in groups
            for case in group.cases
            if isinstance(case, Case) and case.phase != TRAIN
        ),
        None,
    )
    if needs and without:
        raise OptionError(
            f"--metrics {','.join(needs)} needs a backward pass, and phase {without} has none; "
            f"leave {'it' if len(needs) == 1 else 'them'} out, or choose --phase train"
        )


def _protocol(suite: Suite, options: Options) -> Protocol:
    quick = QUICK if suite.kind != "stability" else {"quick": True}
    values = options.over("protocol", {**suite.protocol, **(quick if options.quick else {})})
    values["estimator"] = FASTER_HALF
    protocol = Protocol(**values)
    # where only one of the two was given, adapt the other: a replicate has at least one round
    if protocol.iterations < protocol.replicates:
        values["replicates" if options.iterations else "iterations"] = (
            min(protocol.iterations, protocol.replicates)
            if options.iterations
            else protocol.replicates
        )
    return Protocol(**values)


def _solvers(suite: Suite, options: Options) -> Iterator[Group]:
    base = options.over("base", {**suite.base, **(suite.full if options.full else {})})
    check_dtypes(options, schema.SOLVER_DTYPES, "solvers")
    refuse_option("--phase", options.phases, "solvers")
    refuse_option("--layout", options.layouts, "solvers")
    refuse_option("--image", options.images, "solvers")
    refuse_option(f"--{options.which_batches}", options.which_batches, "solvers")
    refuse_option("--nproc", options.worlds, "solvers")
    for device in devices_of(base, options):
        listed = options.solvers or on_device(base["solver"], device) or solvers.names()
        chosen = [
            spec
            for spec in listed
            if not options.only or any(fnmatchcase(spec, glob) for glob in options.only)
        ]
        chosen = require_match(chosen, options, list(listed))
        on_gpu = device_kind(device) == "cuda"
        caches = base["cache"] if on_gpu else ("hot",)
        sweep = (
            base["mode"],
            caches,
            base["dtype"],
            base["root"],
            base["spectrum"],
            _sizes(base, options),
            options.batches or on_device(base["batch"], device),
        )
        for mode, cache, dtype, root, spectrum, sizes, batch in itertools.product(*sweep):
            shared = {
                "batch": batch,
                "group": max(sizes),
                "sizes": sizes if len(sizes) > 1 else (),
                "root": root,
                "gradient": base["gradient"] and root == 2,
                "spectrum": spectrum,
                "dtype": dtype,
                "device": device,
                "mode": mode,
                "cache": cache,
            }
            shared["threads"] = threads_of(device, options)
            if mode == "graph" and not on_gpu:
                continue
            first = SOLVER_BASELINES.get(mode, "eigh")
            cases: list[AnyCase] = [
                SolverCase(solver=first, role=role, **shared) for role in (BASELINE, CONTROL)
            ]
            cases += [SolverCase(solver=spec, **shared) for spec in chosen if spec != first]
            name = (
                f"{device} {'+'.join(f'{batch}x{size}x{size}' for size in sizes)} {spectrum}"
                + unless_default(f"p={root}", "p=2")
                + unless_default(dtype, "float32")
                + unless_default(mode, "eager")
                + unless_default(cache, "hot")
            )
            yield Group(
                name=name,
                cases=tuple(cases),
                rows=(first, f"{first} (control)", *(spec for spec in chosen if spec != first)),
            )


def _sizes(base: dict[str, Any], options: Options) -> list[tuple[int, ...]]:
    """The tuples of sizes in one case: each size alone, and unless `--group` was given those of the
    mixed batch together.
    """
    alone = [(size,) for size in options.groups or base["group"]]
    return alone if options.groups or not base["mixed"] else [*alone, tuple(base["mixed"])]
