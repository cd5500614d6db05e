"""Stored runs in memory, as the store would load them."""

import itertools
import random
from dataclasses import replace

from swbench.case import (
    BASELINE,
    CONTROL,
    EVAL,
    FOLDED,
    TEXTBOOK,
    TRAINING,
    Case,
    SolverCase,
    StabilityCase,
)
from swbench.plan import Group, Plan, Protocol
from swbench.result import Measurement, Result, Round
from swbench.store import StoredRun

CALM = {
    "wall_s": 1.0,
    "own_cpu_s": 0.99,
    "busy_s": 1.0,
    "involuntary_switches": 1.0,
    "steal_s": 0.0,
}
ENVIRONMENT = {
    "label": "test",
    "processor": {"model": "Test CPU"},
    "cores": {"logical": 4, "physical_allowed": 2, "quota": None},
    "memory": {"total_bytes": 8 * 2**30},
    "python": {"version": "3.11.7"},
    "packages": {"torch": "2.13.0"},
    "gpus": [],
}
STOLEN = {**CALM, "steal_s": 0.4}


COMMON_FIELDS = {
    "complete": True,
    "command": "python bench.py run imagenet",
    "created": 1_700_000_000.0,
    "warnings": (),
    "header": {},
}


def network_group(name="cpu batch 1 224x224", rows=None, **settings):
    """Baseline, control and the given (norm, layers, solver, label) rows."""
    rows = rows or [
        ("bw", 7, "auto", "ResNet50-BW"),
        ("swa", 7, "auto", "ResNet50-SW^a"),
        ("swb", 7, "auto", "ResNet50-SW^b"),
    ]
    settings = {"model": "resnet50", **settings}
    cases = [Case(role=BASELINE, **settings), Case(role=CONTROL, **settings)]
    labels = ["ResNet50-BN", "ResNet50-BN (control)"]
    for norm, layers, solver, label in rows:
        cases.append(Case(norm=norm, layers=layers, solver=solver, **settings))
        labels.append(label)
    return Group(name=name, cases=tuple(cases), rows=tuple(labels))


def solver_group(
    solvers=("eigh", "svd-loop", "polar", "newton5"),
    batch=72,
    group=16,
    spectrum="kappa=1e3",
    **settings,
):
    """`eigh` as baseline and control, and the other solvers."""
    base = {"batch": batch, "group": group, "spectrum": spectrum, **settings}
    cases = [
        SolverCase(solver="eigh", role=BASELINE, **base),
        SolverCase(solver="eigh", role=CONTROL, **base),
    ]
    cases += [SolverCase(solver=name, **base) for name in solvers if name != "eigh"]
    return Group(
        name=f"cpu B={batch} G={group} {spectrum}",
        cases=tuple(cases),
        rows=tuple(case.solver for case in cases),
    )


def rounds_of(
    group,
    factors,
    *,
    replicates=3,
    rounds=4,
    base_s=0.2,
    noise=0.01,
    backward=3.0,
    seed=0,
    disturbed=(),
    attempt="a",
):
    """Rounds in which case i takes `factors[i]` times `base_s`; None leaves the case out.
    `disturbed` holds (replicate, index) pairs.
    """
    rng = random.Random(seed)
    drawn = []
    for replicate in range(replicates):
        bias = [1 + noise * rng.uniform(-1, 1) for _ in group.cases]
        for index in range(rounds):
            samples = {}
            for case, factor, lean in zip(group.cases, factors, bias, strict=True):
                if factor is not None:
                    seconds = base_s * factor * lean * (1 + noise * rng.uniform(-1, 1))
                    samples[case.key] = {
                        "forward_s": seconds,
                        "forward_backward_s": backward * seconds,
                    }
            order = list(samples)
            rng.shuffle(order)
            drawn.append(
                Round(
                    group=group.name,
                    replicate=replicate,
                    attempt=f"{attempt}{replicate}",
                    index=index,
                    order=tuple(order),
                    samples=samples,
                    disturbance=STOLEN if (replicate, index) in disturbed else CALM,
                    started=1_700_000_000.0 + 100 * replicate + index,
                )
            )
    return drawn


def results_of(
    group, *, replicates=3, statuses=None, details=None, measurements=None, chosen=None, attempt="a"
):
    """One result a case and replicate; `statuses` and `measurements` are by position in the group,
    or by (position, replicate).
    """
    statuses, details, measurements = statuses or {}, details or {}, measurements or {}
    results = []
    for replicate, (position, case) in itertools.product(range(replicates), enumerate(group.cases)):
        status = statuses.get((position, replicate), statuses.get(position, "ok"))
        results.append(
            Result(
                case=case.key,
                group=group.name,
                replicate=replicate,
                attempt=f"{attempt}{replicate}",
                status=status,
                detail=details.get(position, "") if status != "ok" else "",
                measurements=tuple(
                    Measurement(*measurement) for measurement in measurements.get(position, ())
                ),
                chosen=dict(chosen or {}) if getattr(case, "solver", None) else {},
                started=1_700_000_000.0,
            )
        )
    return results


FLOPS = {
    "bn": (4.14311, 4.1114, 8.1784),
    "bw": (4.18541, 4.1114, 8.1784),
    "swa": (4.18541, 4.1114, 8.1784),
    "swb": (4.18812, 4.1114, 8.1784),
}


def flops(norm):
    """The FLOP measurements of a row of Table 1."""
    return [
        (f"flops_{rule}", "1", (1e9 * value,))
        for rule, value in zip(("paper", "fvcore", "torch"), FLOPS[norm], strict=True)
    ] + [
        ("parameters", "1", (25_557_032.0,)),
    ]


def stored(groups, results, rounds, *, kind="network", protocol=None, **fields):
    """A stored run of the groups."""
    plan = Plan(
        suite=fields.pop("suite", "imagenet"),
        title=fields.pop("title", "ResNet50 on ImageNet, 224×224 (Table 1)"),
        kind=kind,
        groups=tuple(groups),
        metrics=fields.pop("metrics", ("flops", "time")),
        protocol=protocol or Protocol(iterations=12, replicates=3),
        paper=fields.pop("paper", "table1" if kind == "network" else None),
    )
    fields = {"environment": ENVIRONMENT, **COMMON_FIELDS, **fields}
    return StoredRun(
        path=None,
        id="2026-01-02T030405_imagenet_box",
        plan=plan,
        results=tuple(results),
        rounds=tuple(rounds),
        **fields,
    )


def table1(**fields):
    """Table 1 measured on a CPU without trouble."""
    group = network_group()
    measurements = {
        0: flops("bn"),
        1: flops("bn"),
        2: flops("bw"),
        3: flops("swa"),
        4: flops("swb"),
    }
    results = results_of(
        group, measurements=measurements, chosen={"solver": "eigh", "kernels": "torch"}
    )
    return stored([group], results, rounds_of(group, [1, 1, 1.2, 1.25, 1.3]), **fields)


HOSTILE = "<script>alert(1)</script>"
FORMULA = "=cmd()|' /C calc'!A0"
LATEX = r"50%_of $x$ & \input{/etc/passwd} #1 ~^{}"
TERMINAL = "\x1b[2J\x1b]0;owned\x07\u202egnp.exe"
MARKDOWN = "a|b `c` **d** [e](javascript:alert(2)) 漢字"


def every_status(**fields):
    """A run with a row for each status, an unstable row, disturbed rounds, names that attack each
    format, and no GPU.
    """
    rows = [
        ("bw", 7, "auto", "ResNet50-BW"),
        ("swa", 7, "eigh", HOSTILE),
        ("swa", 7, "svd-loop", FORMULA),
        ("swb", 7, "auto", LATEX),
        ("swa", 14, "polar", TERMINAL),
        ("iw", 7, "@SUM(A1)", MARKDOWN),
    ]
    group = network_group(rows=rows)
    statuses = {
        3: "out_of_memory",
        4: "crashed",
        5: "timed_out",
        6: "unsupported",
        (7, 2): "crashed",
    }
    details = {
        3: "needed 9 GiB of 8\n<img src=x onerror=alert(3)>",
        4: "=1+1 killed by signal 11",
        5: "silent for 600 s",
        6: "no kernel",
        7: TERMINAL,
    }
    measurements = {0: flops("bn"), 2: flops("bw")}
    results = results_of(
        group,
        statuses=statuses,
        details=details,
        measurements=measurements,
        chosen={"solver": "eigh"},
    )
    rounds = rounds_of(
        group,
        [1, 1, 1.2, None, None, None, None, 1.004],
        noise=0.03,
        disturbed=((0, 1), (1, 2)),
        rounds=5,
    )
    protocol = Protocol(iterations=15, replicates=3, target_ci=0.001, quick=True)
    return stored(
        [group],
        results,
        rounds,
        protocol=protocol,
        complete=False,
        warnings=("rounds.jsonl: torn last line",),
        **fields,
    )


def stored_solvers(**fields):
    """Two sizes of solvers: one that crashed, one that is not exact and loses matrices, and one
    without accuracy.
    """
    first, second = solver_group(), solver_group(batch=1, solvers=("eigh", "cholesky", "jacobi"))

    def accuracy(error, lost=0.0):
        values = {"whitening_residual": error, "w_error": 2 * error, "gradient_error": 3 * error}
        measured = [
            (f"{name}_{which}", "1", (factor * value,))
            for name, value in values.items()
            for which, factor in (("worst", 2), ("median", 1))
        ]
        return [
            *measured,
            ("promised_error", "1", (1.2e-3,)),
            ("w_nonfinite_share", "1", (lost,)),
            ("gradient_nonfinite_share", "1", (lost,)),
        ]

    results = results_of(
        first,
        statuses={3: "crashed"},
        details={3: "killed by signal 11"},
        measurements={0: accuracy(1e-6), 2: accuracy(2e-6), 4: accuracy(0.2, 0.25)},
    )
    rounds = rounds_of(first, [1, 1, 5, None, 0.7], base_s=1e-3) + rounds_of(
        second, [1, 1, 2, 0.3], base_s=2e-5
    )
    exact = {"newton5": "no: five uncoupled Newton steps", "cholesky": "no: triangular, not ZCA"}
    solver_of = {case.key: case.solver for group in (first, second) for case in group.cases}
    results = [
        replace(result, chosen={"exact": exact.get(solver_of[result.case], "yes")})
        for result in results + results_of(second)
    ]
    fields = {
        "kind": "solvers",
        "title": "Solvers",
        "suite": "solvers",
        "metrics": ("time", "accuracy"),
        **fields,
    }
    return stored([first, second], results, rounds, **fields)


def stored_stability(**fields):
    """Two dtypes of BN, the textbook's layer and one of ours on two inputs and in training: what is
    lost, not finite, raised, or crashed.
    """
    layers = (
        ("bn", None, "BN"),
        ("swa", TEXTBOOK, "SW^a [textbook]"),
        ("swa", "eigh", "SW^a [eigh]"),
    )

    def group(name, dtypes, **more):
        cases = [
            StabilityCase(norm=norm, solver=solver, dtype=dtype, threads=1, **more)
            for dtype in dtypes
            for norm, solver, _ in layers
        ]
        rows = tuple(label for _ in dtypes for *_, label in layers)
        return Group(name=name, cases=(replace(cases[0], role=BASELINE), *cases[1:]), rows=rows)

    def errors(y, dx, lost=0.0):
        measured = [
            (f"{name}_error", "1", () if e is None else (e,)) for name, e in (("y", y), ("dx", dx))
        ]
        measured += [
            (f"{n}_nonfinite_share", "1", (float(e is None),)) for n, e in (("y", y), ("dx", dx))
        ]
        return [*measured, ("parameters_nonfinite_share", "1", (lost,))]

    dtypes = ("float32", "amp-float16")
    dead, ill_conditioned = (group(name, dtypes, trial=name) for name in ("dead", "kappa-1e8"))
    training = {"trial": TRAINING, "steps": 300, "seeds": 2, "learning_rate": 2.5}
    last = group("training float32", dtypes[:1], **training)
    results = results_of(
        dead,
        replicates=1,
        measurements={
            0: errors(4e-8, 6e-8),
            1: errors(1e-5, None),
            2: errors(2e-5, 1e-3),
            3: errors(2e-4, 2e-4),
            4: errors(None, None, 1.0),
            5: errors(2e-4, 1e-3, 0.5),
        },
    )
    results[4] = replace(results[4], chosen={"raised": "LinAlgError: linalg.eigh: not finite"})
    results += results_of(
        ill_conditioned,
        replicates=1,
        statuses={5: "crashed"},
        details={5: "killed by signal 11"},
        measurements={
            0: errors(4e-8, 6e-8),
            1: errors(None, None),
            2: errors(0.2, 0.6),
            3: errors(None, None),
            4: errors(None, None),
        },
    )
    results += results_of(
        last,
        replicates=1,
        measurements={
            0: [("final_loss", "1", (0.25, 0.5)), ("broken", "1", (0.0, 0.0))],
            1: [("final_loss", "1", (float("nan"), 2.07)), ("broken", "1", (1.0, 1.0))],
            2: [("final_loss", "1", (0.5, float("nan"))), ("broken", "1", (0.0, 1.0))],
        },
    )
    fields = {
        "kind": "stability",
        "title": "Stability",
        "suite": "stability",
        "metrics": ("stability",),
        **fields,
    }
    return stored([dead, ill_conditioned, last], results, [], **fields)


_FACTORS = (1.0, 1.0, 1.1, 1.2, 0.9)


def _without_backward(rounds):
    """The rounds of eval mode, without a backward pass."""
    forward = ("forward_s", "forward_cpu_s")
    return [
        replace(
            round_,
            samples={
                case: {name: value for name, value in sample.items() if name in forward}
                for case, sample in round_.samples.items()
            },
        )
        for round_ in rounds
    ]


def _eval_group():
    """Plain BN, its control, folded BN, and the rows, in eval mode."""
    group = network_group(name="cpu batch 1 224x224 eval", phase=EVAL)
    folded = replace(group.baseline, role="variant", phase=FOLDED)
    return Group(
        name=group.name,
        cases=(*group.cases[:2], folded, *group.cases[2:]),
        rows=(*group.rows[:2], "ResNet50-BN (folded)", *group.rows[2:]),
    )


def settings_run():
    """Three settings in training, with peak memory, and one in eval mode."""
    trained = [
        network_group(name="cpu batch 1 224x224"),
        network_group(name="cpu batch 8 224x224 channels_last", batch=8, layout="channels_last"),
        network_group(
            name="cpu batch 1 224x224 compile bfloat16", dtype="bfloat16", mode="compile"
        ),
    ]
    peaks = {
        index: (("peak_bytes", "B", (1e8 * factor,)),) for index, factor in enumerate(_FACTORS)
    }
    rounds = [
        round_
        for seed, group in enumerate(trained)
        for round_ in rounds_of(group, _FACTORS, seed=seed)
    ]
    group = _eval_group()
    rounds += _without_backward(rounds_of(group, (1.0, 1.0, 0.8, 1.1, 1.2, 0.9), seed=9))
    results = [result for group in trained for result in results_of(group, measurements=peaks)]
    return stored([*trained, group], [*results, *results_of(group)], rounds)
