"""Expands a stability suite, under the options, to groups: every layer and solver on every hostile
input, and in training.
"""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import product
from typing import Any

from swbench import norms, solvers
from swbench.case import BASELINE, TEXTBOOK, TRAINING, VARIANT, StabilityCase, device_kind
from swbench.plan import Group
from swbench.suite import schema
from swbench.suite.options import Options
from swbench.suite.selection import check_dtypes, refuse_option, require_match
from swbench.suite.source import Suite

QUICK_STEPS, QUICK_SEEDS = 30, 1
"""Training steps and seeds under `--quick`."""

KIND = "stability"
BN: tuple[str, str | None] = ("bn", None)


def groups(suite: Suite, options: Options) -> Iterator[Group]:
    """The groups of a stability suite: one for each input, with all dtypes, for a worker takes
    longer to start than to call many layers; and one for each dtype and norm of the training, which
    takes minutes.

    Each whitening layer occurs with every solver and as `TEXTBOOK`. Batch normalisation is the
    baseline of its groups, but no times are divided by it. Raises OptionError for options that do
    not apply to stability suites.
    """
    base = options.over("base", {**suite.base, **(suite.full if options.full else {})})
    for name, value in (
        ("--spectrum", options.spectra),
        ("--root", options.roots),
        ("--layout", options.layouts),
        ("--image", options.images),
        (f"--{options.which_batches}", options.which_batches),
        ("--nproc", options.worlds),
        ("--mode", options.modes),
        ("--phase", options.phases),
        ("--batch", options.batches),
        ("--iterations", options.iterations),
        ("--replicates", options.replicates),
        ("--target-ci", options.target_ci),
        ("--metrics", options.metrics),
    ):
        refuse_option(name, value, KIND)
    check_dtypes(options, schema.STABILITY_DTYPES, KIND)
    listed = options.solvers or base["solver"] or solvers.names()
    on_inputs = [BN, *_layers(base["norm"], listed, options)]
    specs = options.solvers or base["training_solver"] or listed
    trained = [BN, *_layers(base["norm"], specs, options)]
    devices = [
        device for device in options.devices or ("cpu",) if device_kind(device) in base["device"]
    ]
    sizes = options.groups or (base["group"],)
    training = {
        "steps": min(base["steps"], QUICK_STEPS) if options.quick else base["steps"],
        "seeds": min(base["seeds"], QUICK_SEEDS) if options.quick else base["seeds"],
        "learning_rate": base["learning_rate"],
    }
    for device in devices:
        for size in sizes:
            shared = {
                "group": size,
                "batch": base["batch"],
                "device": device,
                # the matrices are small: a second thread would only wait
                "threads": 0 if device_kind(device) == "cuda" else options.threads or 1,
            }
            at = f"{device} G={size}"
            for name in base["input"]:
                yield _group(f"{at} {name}", on_inputs, base["dtype"], {"trial": name, **shared})
            if training["steps"] and training["seeds"]:
                fields = {"trial": TRAINING, **training, **shared}
                for dtype, norm in product(base["dtype"], dict.fromkeys(n for n, _ in trained)):
                    own = [(other, solver) for other, solver in trained if other == norm]
                    yield _group(f"{at} {TRAINING} {dtype} {norm}", own, (dtype,), fields)


def _group(
    name: str,
    layers: list[tuple[str, str | None]],
    dtypes: tuple[str, ...],
    fields: dict[str, Any],
) -> Group:
    cases, rows = [], []
    for dtype in dtypes:
        for norm, solver in layers:
            role = BASELINE if not cases and (norm, solver) == BN else VARIANT
            cases.append(StabilityCase(norm=norm, solver=solver, dtype=dtype, role=role, **fields))
            rows.append(label(norm, solver))
    return Group(name=name, cases=tuple(cases), rows=tuple(rows))


def _layers(
    listed: tuple[str, ...], specs: tuple[str, ...], options: Options
) -> list[tuple[str, str | None]]:
    """Norm and solver of every layer that `--only` matches, without BN."""
    all_layers = [
        (norm, solver)
        for norm in listed
        for solver in ((None,) if norm in norms.WITHOUT_SOLVER else (TEXTBOOK, *specs))
        if norm != "bn"
    ]
    chosen = [
        (norm, solver)
        for norm, solver in all_layers
        if not options.only
        or any(
            fnmatchcase(name, glob)
            for name in (norm, f"{norm}-{solver}", str(solver), label(norm, solver))
            for glob in options.only
        )
    ]
    return require_match(chosen, options, [norm for norm, _ in all_layers])


def label(norm: str, solver: str | None) -> str:
    """`SW^a [eigh]`."""
    name = schema.LABELS.get(norm, norm)
    return f"{name} [{solver}]" if solver else name
