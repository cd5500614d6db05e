"""From a suite and the options to a plan: every combination of the lists, grouped so that a group's
cases share their rounds.
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
    refuse,
    some,
    threads_of,
    too_many,
    unusual,
)
from swbench.suite.source import Suite

METRICS = {
    "network": ("flops", "time", "memory"),
    "solvers": ("time", "accuracy"),
    "stability": ("stability",),
}
"""What a suite measures that does not say."""

SOLVER_BASELINES = {"graph": "newton5"}
"""What other solvers are divided by, where it is not `eigh`: that waits for the host, so no CUDA
graph can hold it.
"""


def expand(suite: Suite, options: Options | None = None, **given: Any) -> Plan:
    """The plan of `suite` under `options`, which may also be given one by one (`devices=["cpu"]`,
    `only=["swa*"]` …).

    Without `devices`, everything on the CPU. Raises OptionError where the options leave nothing to
    run or more than can be meant.
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
    """Why the options leave nothing of the suite, and what would."""
    asked, base = ", ".join(options.devices or ("cpu",)), options.over("base", suite.base)
    if not any(device_kind(device) in base["device"] for device in options.devices or ("cpu",)):
        return (
            f"suite {suite.name!r} is not for {asked}; choose --device "
            f"{' or '.join(base['device'])}"
        )
    if not devices_of(base, options):
        return f"suite {suite.name!r} has no batch for {asked}; give one with --batch"
    if suite.kind == "network" and options.worlds:
        fewest = min(options.worlds)
        return (
            f"no batch of suite {suite.name!r} on {asked} has an image for each of {fewest} "
            f"processes; give one with --batch {fewest} or more"
        )
    return (
        f"suite {suite.name!r} has nothing for {asked} in mode "
        f"{', '.join(base['mode'])}; choose another --mode or --device"
    )


def _check_backward(metrics: Iterable[str], groups: Iterable[Group]) -> None:
    """Raises OptionError where a metric needs a backward pass that a phase does not take."""
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
    asked = Protocol(**values)
    # only one of the two was given: every replicate has at least one round
    if asked.iterations < asked.replicates:
        values["replicates" if options.iterations else "iterations"] = (
            min(asked.iterations, asked.replicates) if options.iterations else asked.replicates
        )
    return Protocol(**values)


def _solvers(suite: Suite, options: Options) -> Iterator[Group]:
    base = options.over("base", {**suite.base, **(suite.full if options.full else {})})
    check_dtypes(options, schema.SOLVER_DTYPES, "solvers")
    refuse("--phase", options.phases, "solvers")
    refuse("--layout", options.layouts, "solvers")
    refuse("--image", options.images, "solvers")
    refuse(f"--{options.which_batches}", options.which_batches, "solvers")
    refuse("--nproc", options.worlds, "solvers")
    for device in devices_of(base, options):
        listed = options.solvers or on_device(base["solver"], device) or solvers.names()
        chosen = [
            spec
            for spec in listed
            if not options.only or any(fnmatchcase(spec, glob) for glob in options.only)
        ]
        chosen = some(chosen, options, list(listed))
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
                + unusual(f"p={root}", "p=2")
                + unusual(dtype, "float32")
                + unusual(mode, "eager")
                + unusual(cache, "hot")
            )
            yield Group(
                name=name,
                cases=tuple(cases),
                rows=(first, f"{first} (control)", *(spec for spec in chosen if spec != first)),
            )


def _sizes(base: dict[str, Any], options: Options) -> list[tuple[int, ...]]:
    """Each size by itself, and those of the mixed batch together unless `--group` was given."""
    alone = [(size,) for size in options.groups or base["group"]]
    return alone if options.groups or not base["mixed"] else [*alone, tuple(base["mixed"])]
