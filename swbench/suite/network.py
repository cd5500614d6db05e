"""Expands a network suite, under the options, to groups: every row under every setting."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from swbench import norms
from swbench.case import BASELINE, CONTROL, EVAL, FOLDED, TRAIN, AnyCase, Case
from swbench.errors import OptionError
from swbench.models import DEFAULT, check_image
from swbench.plan import Group
from swbench.suite import schema
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

SELECTING = ("phase", "mode", "dtype", "layout")
"""Keys of a suite's settings by which an option chooses among them."""


class _Row(NamedTuple):
    """A row of a suite: its label, the fields of its case, and the names that `--only` matches."""

    label: str
    fields: dict[str, Any]
    names: tuple[str, ...]


Rows = list[_Row]


def _matches(row: _Row, globs: Iterable[str]) -> bool:
    return any(fnmatchcase(name, glob) for name in row.names for glob in globs)


def groups(suite: Suite, options: Options) -> Iterator[Group]:
    """The groups of a network suite: one for every combination of the lists of `[network]`, or of
    each of `[[settings]]` where there are any, or under `--full` of `[full]`.

    A group holds batch normalisation, its control, in eval mode also its folded twin, and the rows.
    Raises OptionError for options that do not apply to networks.
    """
    refuse_option("--spectrum", options.spectra, "network")
    refuse_option("--root", options.roots, "network")
    check_dtypes(options, schema.DTYPES, "network")
    if any(batch > schema.BATCH["high"] for batch in options.batches or ()):
        raise OptionError(
            f"--batch must be at most {schema.BATCH['high']:,} for networks ({schema.BATCH['why']})"
        )
    rows = _rows(suite, options)
    if options.full and suite.full:
        yield from _grid(options.over("base", {**suite.base, **suite.full}), rows, options)
    elif not suite.settings:
        yield from _grid(options.over("base", suite.base), rows, options)
    else:
        yield from _settings(suite, options, rows)


def _settings(suite: Suite, options: Options, rows: Rows) -> Iterator[Group]:
    """The groups of the suite's settings that have any of `rows`; groups that the options make
    equal are merged.
    """
    merged: dict[str, Group] = {}
    for setting in _selected(suite, options):
        globs = setting.get("only")
        own = [row for row in rows if globs is None or _matches(row, globs)]
        for group in _grid(setting, own, options):
            if len(merged) > MOST_CASES:
                raise OptionError(too_many(suite.name))
            earlier = merged.get(group.name)
            if earlier is not None:
                row_by_case = dict(
                    zip(earlier.cases + group.cases, earlier.rows + group.rows, strict=True)
                )
                group = replace(earlier, cases=tuple(row_by_case), rows=tuple(row_by_case.values()))
            merged[group.name] = group
    yield from require_match(list(merged.values()), options, [row.names[0] for row in rows])


def _selected(suite: Suite, options: Options) -> list[dict[str, Any]]:
    """The suite's settings under the options, with the values of `[network]` that they do not
    override.

    An option for a key of `SELECTING` chooses the settings that have one of its values, and leaves
    out their other values. If no setting has one, and for any other key, all settings get the
    option's values.
    """
    chosen = [{**suite.base, **setting} for setting in suite.settings]
    for key, values in options.over("base", {}).items():
        matching = [
            {**setting, key: common}
            for setting in chosen
            if key in SELECTING and (common := [value for value in setting[key] if value in values])
        ]
        chosen = matching or [{**setting, key: values} for setting in chosen]
    return chosen


def _grid(base: dict[str, Any], rows: Rows, options: Options) -> Iterator[Group]:
    """A group for every combination of the lists in `base`."""
    until_fits = (
        options.which_batches == schema.UNTIL_FITS if options.which_batches else base["until_fits"]
    )
    for device in devices_of(base, options):
        batches, names_by_signature = options.batches or on_device(base["batch"], device), {}
        sweep = (
            base["phase"],
            base["mode"],
            base["dtype"],
            base["layout"],
            base["image"],
            sorted(batches, reverse=True) if until_fits else batches,
            _worlds(base, device),
        )
        models = tuple(dict.fromkeys(row.fields["model"] for row in rows))
        for phase, mode, dtype, layout, image, batch, (world, weak), model in itertools.product(
            *sweep, models
        ):
            if world > 1 and phase != TRAIN:
                raise OptionError(
                    f"--phase {phase} runs in one process, and --nproc {world} needs a training "
                    "step; choose --phase train or --nproc 1"
                )
            batch *= world if weak else 1
            if batch < world and not options.batches:
                # --nproc skips batches of a suite without an image for each process
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
                "threads": threads_of(device, options, world // nodes),
                "world": world,
                "nodes": nodes,
                "phase": phase,
            }
            own = [row for row in rows if row.fields["model"] == model]
            cases: list[AnyCase] = [Case(**shared, role=BASELINE), Case(**shared, role=CONTROL)]
            bn = f"{_model_label(model)}-BN"
            labels = [
                next((row.label for row in own if row.fields["norm"] == "bn"), bn),
                f"{bn} (control)",
            ]
            if phase == EVAL:
                cases.append(Case(**{**shared, "phase": FOLDED}))
                labels.append(f"{bn} (folded)")
            for row in own:
                if row.fields["norm"] != "bn":
                    cases.append(Case(**{**shared, **row.fields}))
                    labels.append(row.label)
            name = (
                f"{device} batch {batch} {image[0]}x{image[1]}"
                + unless_default(mode, "eager")
                + unless_default(dtype, "float32")
                + unless_default(layout, "contiguous")
                + unless_default(phase, TRAIN)
            )
            name += f" {world} processes" if world > 1 else ""
            name += f" on {nodes} nodes" if nodes > 1 else ""
            name += f" {model}" if len(models) > 1 else ""
            # the fields that a smaller batch must share with a larger one to be its fallback
            signature = (phase, mode, dtype, layout, image, world, weak, model)
            yield Group(
                name=name,
                cases=tuple(cases),
                rows=tuple(labels),
                fallback_of=names_by_signature.get(signature),
            )
            names_by_signature |= {signature: name} if until_fits else {}


def _rows(suite: Suite, options: Options) -> Rows:
    """Every row times its solvers and groups, filtered by `only`."""
    base, chosen, known = suite.base, [], []
    where = base.get("where")
    several_groups = len(options.groups or ()) > 1
    counts: dict[tuple[str, str], set[int]] = {}
    for row in suite.rows:
        counts.setdefault((row["model"] or base["model"], row["norm"]), set()).add(row["layers"])
    for suite_row in suite.rows:
        model = suite_row["model"] or base["model"]
        plain = suite_row["norm"] in norms.WITHOUT_SOLVER
        listed = options.solvers or (
            (suite_row["solver"],) if suite_row["solver"] else base["solver"]
        )
        specs = (None,) if plain else listed
        groups = (
            (suite_row["group"] or base["group"],)
            if plain or not options.groups
            else options.groups
        )
        for spec, group in itertools.product(specs, groups):
            problem = (
                None
                if plain or not options.groups or where is not None
                else schema.placement_problem(
                    model, suite_row["layers"], group, suite_row["placement"] or base["placement"]
                )
            )
            if problem:
                raise OptionError(f"--group {group}: {problem}")
            fields = {
                "model": model,
                "norm": suite_row["norm"],
                "layers": suite_row["layers"],
                "solver": spec,
                "group": group,
            }
            if suite_row["norm"] != "bn":
                fields |= {"placement": suite_row["placement"] or base["placement"], "where": where}
            label = (
                suite_row["label"]
                or f"{_model_label(model)}-"
                f"{schema.LABELS.get(suite_row['norm'], suite_row['norm'])}"
            )
            label += (
                f" ({suite_row['layers']} layers)"
                if len(counts[model, suite_row["norm"]]) > 1 and not suite_row["label"]
                else ""
            )
            if not suite_row["label"] and fields.get("placement", DEFAULT) != DEFAULT:
                label += f" ({fields['placement']} placement)"
            label += f" [{spec}]" if spec and len(specs) > 1 else ""
            label += f" G={group}" if several_groups and not plain else ""
            names = (
                suite_row["norm"],
                f"{suite_row['norm']}-{suite_row['layers']}",
                f"{suite_row['norm']}-{suite_row['layers']}-{spec}",
                label,
            )
            known.append(names[1] if suite_row["norm"] != "bn" else "bn")
            row = _Row(label, fields, names)
            if not options.only or _matches(row, options.only):
                chosen.append(row)
    return require_match(chosen, options, known)


def _worlds(base: dict[str, Any], device: str) -> tuple[tuple[int, bool], ...]:
    """Pairs of a number of processes and whether `batch` counts the images of each (weak scaling);
    a single process counts as strong scaling.
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


def _model_label(model: str) -> str:
    return f"ResNet{model[6:].removesuffix('-seg')}" if model.startswith("resnet") else model
