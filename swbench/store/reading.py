"""Reading a run back: sealed cells with the samples of their rounds, everything checked, nothing
skipped in silence.
"""

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from swbench import codec
from swbench.codec import Count
from swbench.errors import StoreDamaged, StoreError
from swbench.garbage import uncollected
from swbench.plan import Plan
from swbench.result import COUNTED, Measurement, Result, Round
from swbench.store import folder
from swbench.store.checked_jsonl import Scan, scan
from swbench.store.files import read_json
from swbench.store.old_schemas import round_fields

_PLACE = tuple[Count, Count]
"""Where a cell is in its seal: its place, and how many there are."""

_WRONG = (ValueError, KeyError, IndexError, TypeError, AttributeError)


@dataclass(frozen=True)
class StoredRun:
    """A run as it is on disk.

    `results` are the sealed cells; each carries the samples of its rounds as measurements, in the
    order they were taken, before what was measured outside the rounds. `rounds` are those of sealed
    replicates. `warnings` say what was torn or left out.
    """

    path: Path
    id: str
    plan: Plan
    environment: dict[str, Any]
    results: tuple[Result, ...]
    rounds: tuple[Round, ...]
    complete: bool
    command: str
    created: float
    warnings: tuple[str, ...]
    header: dict[str, Any]


@dataclass(frozen=True)
class Content:
    """The two line files as read: what they hold, what is wrong with them and where their good part
    ends. `taken` are all rounds, of killed workers too.
    """

    results: tuple[Result, ...]
    rounds: tuple[Round, ...]
    taken: tuple[Round, ...]
    damaged: tuple[str, ...]
    torn: tuple[str, ...]
    rounds_bytes: int
    cells_bytes: int

    @property
    def spent_s(self) -> float:
        """Seconds that workers have been at work over all lives of the run, from the start of each
        to the last that is stored of it; what a worker did that was killed before its first round
        is not known, and does not count.
        """
        seen: dict[tuple[str, int, str], tuple[float, float]] = {}
        for one in (*(one for one in self.results if one.replicate != COUNTED), *self.taken):
            key = (one.group, one.replicate, one.attempt)
            start, end = seen.get(key, (one.started, one.ended))
            seen[key] = (min(start, one.started), max(end, one.ended))
        return sum(max(0.0, end - start) for start, end in seen.values())


def load(path: str | Path, *, salvage: bool = False) -> StoredRun:
    """The run in a folder. It may be unfinished, or being written.

    Raises StoreError where it is no run, SchemaTooNew, and StoreDamaged for a damaged line, which
    it names; `salvage` leaves such lines out and says so in `warnings`.
    """
    path = Path(path)
    header = folder.header(path)
    plan = plan_of(path, header)
    content = read_content(path, plan)
    if content.damaged and not salvage:
        remedy = (
            "take the file from a copy, or read the other lines in Python with "
            "swbench.store.load(folder, salvage=True)"
        )
        raise StoreDamaged(f"{content.damaged[0]}{_more(content.damaged)}; {remedy}")
    warnings = [*(f"left out: {problem}" for problem in content.damaged), *content.torn]
    for resumed in header["resumed"]:
        if resumed.get("changes"):
            warnings.append(f"resumed although this had changed: {str(resumed['changes'])[:300]}")
    return StoredRun(
        path=path,
        id=path.resolve().name,
        plan=plan,
        environment=read_json(path / folder.ENVIRONMENT),
        results=content.results,
        rounds=content.rounds,
        complete=header["complete"],
        command=header["command"],
        created=float(header["created"]),
        warnings=tuple(warnings),
        header=header,
    )


def plan_of(path: Path, header: dict[str, Any]) -> Plan:
    """The plan in run.json. Raises StoreError where there is none."""
    try:
        plan = Plan.from_json(header["plan"])
        if any(len(group.cases) != len(group.rows) for group in plan.groups):
            raise ValueError("cases without rows")
        if min(plan.protocol.iterations, plan.protocol.replicates) < 1 or (
            plan.protocol.target_ci is not None and plan.protocol.target_ci <= 0
        ):
            raise ValueError("a protocol that measures nothing")
        return plan
    except ValueError as problem:
        raise StoreError(
            f"the plan in {path / folder.RUN} is not what was written ({problem!r})"
        ) from None


def read_content(path: Path, plan: Plan) -> Content:
    """Everything in the two line files that belongs to a sealed cell. Raises StoreError where they
    cannot be read at all.
    """
    with uncollected():
        return _content(path, plan)


def keys_by_group(plan: Plan) -> dict[str, dict[str, None]]:
    """The keys of the cases of each group, in their order."""
    return {group.name: {case.key: None for case in group.cases} for group in plan.groups}


def _content(path: Path, plan: Plan) -> Content:
    keys = keys_by_group(plan)
    groups = [(name, tuple(of)) for name, of in keys.items()]
    # cells first: a run being written adds its rounds before the cells that seal them
    cells, rounds = scan(path / folder.CELLS), scan(path / folder.ROUNDS)
    damaged = [
        f"{path / name} line {number} is damaged: {why}"
        for name, found in _both(cells, rounds)
        for number, why in found.damaged
    ]
    results, cells_bytes, torn = _seals(path, cells, keys, damaged)
    torn += [
        f"{path / name}: the torn last line ({found.torn_bytes} bytes) was left out"
        for name, found in _both(cells, rounds)
        if found.torn_bytes
    ]
    taken = []
    for number, record in rounds.records:
        try:
            one = codec.read(round_fields(record, groups), Round)
            one.check(keys[one.group].keys())
            taken.append(one)
        except _WRONG as problem:
            damaged.append(f"{path / folder.ROUNDS} line {number} is damaged: {problem}")
    kept = owned(results, taken)
    return Content(
        results=with_samples(results, kept),
        rounds=tuple(kept),
        taken=tuple(taken),
        damaged=tuple(damaged),
        torn=tuple(torn),
        rounds_bytes=rounds.whole_bytes,
        cells_bytes=cells_bytes,
    )


def _both(cells: Scan, rounds: Scan) -> tuple[tuple[str, Scan], ...]:
    return ((folder.CELLS, cells), (folder.ROUNDS, rounds))


def _seals(
    path: Path, cells: Scan, keys: Mapping[str, Container[str]], damaged: list[str]
) -> tuple[list[Result], int, list[str]]:
    """The results whose whole seal is there, where the last whole seal ends, and what is said of an
    unfinished one.
    """
    name = path / folder.CELLS
    sealed: list[tuple[int, Result]] = []
    part: list[tuple[int, Result]] = []
    good = 0
    for number, record in cells.records:
        try:
            position, of = codec.read(record.pop("seal"), _PLACE)
            one = codec.read(record, Result)
            if position >= of or one.case not in keys[one.group] or one.replicate < COUNTED:
                raise ValueError("its place in the seal or in the plan")
        except _WRONG as problem:
            damaged.append(f"{name} line {number} is damaged: {problem!r}")
            continue
        # a seal before it that has no end lost it to a damaged line, which is named
        if position == 0:
            sealed += part
            part = []
        part.append((number, one))
        if position == of - 1:
            sealed += part
            part, good = [], cells.ends[number - 1]
    results: dict[tuple[str, int], Result] = {}
    for number, one in sealed:
        if (one.case, one.replicate) in results:
            damaged.append(f"{name} line {number} is damaged: it seals a cell a second time")
        else:
            results[one.case, one.replicate] = one
    torn = (
        [f"{name}: the last replicate was not sealed; its {len(part)} cells were left out"]
        if part
        else []
    )
    return list(results.values()), good if part else cells.whole_bytes, torn


def owned(results: Sequence[Result], rounds: Iterable[Round]) -> list[Round]:
    """The rounds that belong to sealed cells, each with the samples of those cells alone."""
    owners = {(one.case, one.replicate): one.attempts for one in results}
    kept = []
    for one in rounds:
        samples = {
            key: value
            for key, value in one.samples.items()
            if one.attempt in owners.get((key, one.replicate), ())
        }
        if samples and len(samples) == len(one.samples):
            kept.append(one)
        elif samples:
            kept.append(
                replace(
                    one,
                    samples=samples,
                    blocks={key: value for key, value in one.blocks.items() if key in samples},
                )
            )
    return kept


def with_samples(results: Sequence[Result], rounds: Iterable[Round]) -> tuple[Result, ...]:
    """Cells as they were sealed, now with the samples of their rounds in front of what was measured
    outside them.
    """
    series: dict[tuple[str, int], list[dict[str, float]]] = defaultdict(list)
    for one in rounds:
        for key, samples in one.samples.items():
            series[key, one.replicate].append(samples)
    timed = {cell: _by_metric(taken) for cell, taken in series.items()}
    return tuple(
        Result(**{**vars(one), "measurements": timed[cell] + one.measurements})
        if (cell := (one.case, one.replicate)) in timed
        else one
        for one in results
    )


def _by_metric(taken: Sequence[dict[str, float]]) -> tuple[Measurement, ...]:
    metrics = dict.fromkeys(metric for samples in taken for metric in samples)
    return tuple(
        Measurement(metric, "s", tuple([samples[metric] for samples in taken if metric in samples]))
        for metric in metrics
    )


def _more(problems: tuple[str, ...]) -> str:
    return f" (and {len(problems) - 1} more lines)" if len(problems) > 1 else ""
