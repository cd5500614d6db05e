"""Builds stored runs in memory: what the store would load, without a store."""

import itertools
import random
from dataclasses import dataclass

from swbench.case import BASELINE, CONTROL, Case, SolverCase
from swbench.plan import Group, Plan, Protocol
from swbench.result import Measurement, Result, Round

CALM = {"wall_s": 1.0, "own_cpu_s": 0.99, "busy_s": 1.0, "involuntary_switches": 1.0, "steal_s": 0.0}
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


@dataclass(frozen=True)
class StoredRun:
    path: object
    id: str
    plan: Plan
    environment: dict
    results: tuple
    rounds: tuple
    complete: bool = True
    command: str = "python bench.py run imagenet"
    created: float = 1_700_000_000.0
    warnings: tuple = ()


def network_group(name="cpu batch 1 224x224", rows=None, **settings):
    """Baseline, control and the given (norm, layers, solver, label) rows."""
    rows = rows or [("bw", 7, "auto", "ResNet50-BW"), ("swa", 7, "auto", "ResNet50-SW^a"), ("swb", 7, "auto", "ResNet50-SW^b")]
    settings = {"model": "resnet50", **settings}
    cases = [Case(role=BASELINE, **settings), Case(role=CONTROL, **settings)]
    labels = ["ResNet50-BN", "ResNet50-BN (control)"]
    for norm, layers, solver, label in rows:
        cases.append(Case(norm=norm, layers=layers, solver=solver, **settings))
        labels.append(label)
    return Group(name=name, cases=tuple(cases), rows=tuple(labels))


def solver_group(solvers=("eigh", "svd-loop", "polar", "newton5"), batch=72, group=16, spectrum="kappa=1e3", **settings):
    """`eigh` as baseline and control, and the other solvers."""
    base = {"batch": batch, "group": group, "spectrum": spectrum, **settings}
    cases = [SolverCase(solver="eigh", role=BASELINE, **base), SolverCase(solver="eigh", role=CONTROL, **base)]
    cases += [SolverCase(solver=name, **base) for name in solvers if name != "eigh"]
    return Group(name=f"cpu B={batch} G={group} {spectrum}", cases=tuple(cases), rows=tuple(case.solver for case in cases))


def rounds_of(group, factors, *, replicates=3, rounds=4, base_s=0.2, noise=0.01, backward=3.0, seed=0, disturbed=(), attempt="a"):
    """Rounds in which case i takes `factors[i]` times `base_s`; None leaves the case out. `disturbed` holds (replicate, index) pairs."""
    rng = random.Random(seed)
    found = []
    for replicate in range(replicates):
        bias = [1 + noise * rng.uniform(-1, 1) for _ in group.cases]
        for index in range(rounds):
            samples = {}
            for case, factor, lean in zip(group.cases, factors, bias, strict=True):
                if factor is not None:
                    seconds = base_s * factor * lean * (1 + noise * rng.uniform(-1, 1))
                    samples[case.key] = {"forward_s": seconds, "forward_backward_s": backward * seconds}
            order = list(samples)
            rng.shuffle(order)
            found.append(
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
    return found


def results_of(group, *, replicates=3, statuses=None, details=None, measurements=None, chosen=None, attempt="a"):
    """One result a case and replicate; `statuses` and `measurements` are by position in the group, or by (position, replicate)."""
    statuses, details, measurements = statuses or {}, details or {}, measurements or {}
    found = []
    for replicate, (position, case) in itertools.product(range(replicates), enumerate(group.cases)):
        status = statuses.get((position, replicate), statuses.get(position, "ok"))
        found.append(
            Result(
                case=case.key,
                group=group.name,
                replicate=replicate,
                attempt=f"{attempt}{replicate}",
                status=status,
                detail=details.get(position, "") if status != "ok" else "",
                measurements=tuple(Measurement(*one) for one in measurements.get(position, ())),
                chosen=(chosen or {}) if getattr(case, "solver", None) else {},
                started=1_700_000_000.0,
            )
        )
    return found


FLOPS = {
    "bn": (4.14311, 4.1114, 8.1784),
    "bw": (4.18541, 4.1114, 8.1784),
    "swa": (4.18541, 4.1114, 8.1784),
    "swb": (4.18812, 4.1114, 8.1784),
}


def flops(norm):
    """The FLOP measurements of a row of Table 1."""
    return [(f"flops_{rule}", "1", (1e9 * value,)) for rule, value in zip(("paper", "fvcore", "torch"), FLOPS[norm], strict=True)] + [
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
    fields = {"environment": ENVIRONMENT, **fields}
    return StoredRun(path=None, id="2026-01-02T030405_imagenet_box", plan=plan, results=tuple(results), rounds=tuple(rounds), **fields)


def table1(**fields):
    """Table 1 measured on a CPU without trouble."""
    group = network_group()
    measurements = {0: flops("bn"), 1: flops("bn"), 2: flops("bw"), 3: flops("swa"), 4: flops("swb")}
    results = results_of(group, measurements=measurements, chosen={"solver": "eigh", "kernels": "torch"})
    return stored([group], results, rounds_of(group, [1, 1, 1.2, 1.25, 1.3]), **fields)
