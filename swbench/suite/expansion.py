"""From a suite and the options to a plan: every combination of the lists, grouped so that a group's
cases share their rounds.
"""

import itertools
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from swbench import norms, solvers
from swbench.case import BASELINE, CONTROL, AnyCase, Case, SolverCase, device_kind
from swbench.errors import OptionError
from swbench.machine.hardware import usable_cores
from swbench.models import DEFAULT, check_image
from swbench.plan import QUICK, Group, Plan, Protocol
from swbench.suite import schema, stability
from swbench.suite.options import Options
from swbench.suite.selection import check_dtypes, refuse, some
from swbench.suite.source import Suite

MOST_CASES = 20_000
"""Cases in one plan; a heuristic: at one second each that is a working day."""

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
    build = {"network": _network, "solvers": _solvers, "stability": stability.groups}[suite.kind]
    count = 0
    groups = []
    for group in build(suite, options):
        count += len(group.cases)
        if count > MOST_CASES:
            raise OptionError(
                f"suite {suite.name!r} comes to more than {MOST_CASES:,} cases; narrow "
                "it with --only, --batch, --solver or --dtype"
            )
        groups.append(group)
    if not groups:
        raise OptionError(_nothing(suite, options))
    return Plan(
        suite=suite.name,
        title=suite.title,
        kind=suite.kind,
        groups=tuple(groups),
        metrics=options.metrics or suite.metrics or METRICS[suite.kind],
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
    if not _devices(base, options):
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


def _protocol(suite: Suite, options: Options) -> Protocol:
    quick = QUICK if suite.kind != "stability" else {"quick": True}
    values = options.over("protocol", {**suite.protocol, **(quick if options.quick else {})})
    asked = Protocol(**values)
    # only one of the two was given: every replicate has at least one round
    if asked.iterations < asked.replicates:
        values["replicates" if options.iterations else "iterations"] = (
            min(asked.iterations, asked.replicates) if options.iterations else asked.replicates
        )
    return Protocol(**values)


def _network(suite: Suite, options: Options) -> Iterator[Group]:
    base = options.over("base", suite.base)
    rows = _rows(suite, options)
    until_fits = (
        options.which_batches == schema.UNTIL_FITS if options.which_batches else base["until_fits"]
    )
    refuse("--spectrum", options.spectra, "network")
    refuse("--root", options.roots, "network")
    check_dtypes(options, schema.DTYPES, "network")
    if any(batch > schema.BATCH["high"] for batch in options.batches or ()):
        raise OptionError(
            f"--batch must be at most {schema.BATCH['high']:,} for networks ({schema.BATCH['why']})"
        )
    for device in _devices(base, options):
        batches, before = options.batches or _on(base["batch"], device), {}
        sweep = (
            base["mode"],
            base["dtype"],
            base["layout"],
            base["image"],
            sorted(batches, reverse=True) if until_fits else batches,
            _worlds(base, device),
        )
        models = tuple(dict.fromkeys(fields["model"] for _, fields in rows))
        for mode, dtype, layout, image, batch, (world, weak), model in itertools.product(
            *sweep, models
        ):
            batch *= world if weak else 1
            if batch < world and not options.batches:
                # --nproc leaves of a suite's batches those that have an image for each process
                continue
            if batch < world:
                raise OptionError(
                    f"--batch {batch} has no image for each of {world} processes; choose "
                    f"--batch {world} or more"
                )
            check_image(model, image, batch)
            shared = {
                "model": model,
                "classes": base["classes"],
                "image": image,
                "batch": batch,
                "device": device,
            }
            nodes = -(-world // (options.per_node or world))
            shared |= {
                "dtype": dtype,
                "mode": mode,
                "layout": layout,
                "threads": _threads(device, options, world // nodes),
                "world": world,
                "nodes": nodes,
            }
            own = [(label, fields) for label, fields in rows if fields["model"] == model]
            cases: list[AnyCase] = [Case(**shared, role=BASELINE), Case(**shared, role=CONTROL)]
            bn = f"{_model_label(model)}-BN"
            labels = [
                next((label for label, fields in own if fields["norm"] == "bn"), bn),
                f"{bn} (control)",
            ]
            for label, fields in own:
                if fields["norm"] != "bn":
                    cases.append(Case(**{**shared, **fields}))
                    labels.append(label)
            name = (
                f"{device} batch {batch} {image[0]}x{image[1]}"
                + _extras(mode, "eager")
                + _extras(dtype, "float32")
                + _extras(layout, "contiguous")
            )
            name += f" {world} processes" if world > 1 else ""
            name += f" on {nodes} nodes" if nodes > 1 else ""
            name += f" {model}" if len(models) > 1 else ""
            # what a smaller batch must share with a larger one to stand in for it
            alike = (mode, dtype, layout, image, world, weak, model)
            yield Group(
                name=name, cases=tuple(cases), rows=tuple(labels), fallback_of=before.get(alike)
            )
            before |= {alike: name} if until_fits else {}


def _rows(suite: Suite, options: Options) -> list[tuple[str, dict[str, Any]]]:
    """Label and case fields of every row times its solvers and groups, filtered by `only`."""
    base, found, known = suite.base, [], []
    where = base.get("where")
    several_groups = len(options.groups or ()) > 1
    counts: dict[tuple[str, str], set[int]] = {}
    for row in suite.rows:
        counts.setdefault((row["model"] or base["model"], row["norm"]), set()).add(row["layers"])
    for row in suite.rows:
        model = row["model"] or base["model"]
        plain = row["norm"] in norms.WITHOUT_SOLVER
        listed = options.solvers or ((row["solver"],) if row["solver"] else base["solver"])
        specs = (None,) if plain else listed
        groups = (row["group"] or base["group"],) if plain or not options.groups else options.groups
        for spec, group in itertools.product(specs, groups):
            problem = (
                None
                if plain or not options.groups or where is not None
                else schema.placement_problem(
                    model, row["layers"], group, row["placement"] or base["placement"]
                )
            )
            if problem:
                raise OptionError(f"--group {group}: {problem}")
            fields = {
                "model": model,
                "norm": row["norm"],
                "layers": row["layers"],
                "solver": spec,
                "group": group,
            }
            if row["norm"] != "bn":
                fields |= {"placement": row["placement"] or base["placement"], "where": where}
            label = (
                row["label"]
                or f"{_model_label(model)}-{schema.LABELS.get(row['norm'], row['norm'])}"
            )
            label += (
                f" ({row['layers']} layers)"
                if len(counts[model, row["norm"]]) > 1 and not row["label"]
                else ""
            )
            if not row["label"] and fields.get("placement", DEFAULT) != DEFAULT:
                label += f" ({fields['placement']} placement)"
            label += f" [{spec}]" if spec and len(specs) > 1 else ""
            label += f" G={group}" if several_groups and not plain else ""
            names = (
                row["norm"],
                f"{row['norm']}-{row['layers']}",
                f"{row['norm']}-{row['layers']}-{spec}",
                label,
            )
            known.append(names[1] if row["norm"] != "bn" else "bn")
            if not options.only or any(
                fnmatchcase(name, glob) for name in names for glob in options.only
            ):
                found.append((label, fields))
    return some(found, options, known)


def _solvers(suite: Suite, options: Options) -> Iterator[Group]:
    base = options.over("base", {**suite.base, **(suite.full if options.full else {})})
    check_dtypes(options, schema.DTYPES, "solvers")
    refuse("--layout", options.layouts, "solvers")
    refuse("--image", options.images, "solvers")
    refuse(f"--{options.which_batches}", options.which_batches, "solvers")
    refuse("--nproc", options.worlds, "solvers")
    for device in _devices(base, options):
        listed = options.solvers or _on(base["solver"], device) or solvers.names()
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
            options.batches or _on(base["batch"], device),
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
            shared["threads"] = _threads(device, options)
            if mode == "graph" and not on_gpu:
                continue
            first = SOLVER_BASELINES.get(mode, "eigh")
            cases: list[AnyCase] = [
                SolverCase(solver=first, role=role, **shared) for role in (BASELINE, CONTROL)
            ]
            cases += [SolverCase(solver=spec, **shared) for spec in chosen if spec != first]
            name = (
                f"{device} {'+'.join(f'{batch}x{size}x{size}' for size in sizes)} {spectrum}"
                + _extras(f"p={root}", "p=2")
                + _extras(dtype, "float32")
                + _extras(mode, "eager")
                + _extras(cache, "hot")
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


def _devices(base: dict[str, Any], options: Options) -> list[str]:
    asked = options.devices or ("cpu",)
    return [
        device
        for device in asked
        if device_kind(device) in base["device"] and (options.batches or _on(base["batch"], device))
    ]


def _on(value: Any, device: str) -> tuple[int, ...]:
    return value.get(device_kind(device), ()) if isinstance(value, dict) else value


def _worlds(base: dict[str, Any], device: str) -> tuple[tuple[int, bool], ...]:
    """Numbers of processes, each with whether `batch` counts the images of one of them (weak
    scaling); a process alone is either.
    """
    worlds = base["world"]
    if ":" in device and max(worlds) > 1:
        raise OptionError(
            f"--device {device} is one GPU, and each of {max(worlds)} processes "
            "takes its own; use --device cuda, or --nproc 1"
        )
    several = itertools.product(worlds, base["scaling"])
    return tuple(
        dict.fromkeys((world, world > 1 and scaling == "weak") for world, scaling in several)
    )


def _threads(device: str, options: Options, world: int = 1) -> int:
    return (
        0 if device_kind(device) == "cuda" else options.threads or max(1, usable_cores() // world)
    )


def _extras(value: str, usual: str) -> str:
    return "" if value == usual else f" {value}"


def _model_label(model: str) -> str:
    return f"ResNet{model[6:].removesuffix('-seg')}" if model.startswith("resnet") else model
