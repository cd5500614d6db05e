"""Reads a stored run: sealed cells with the samples of their rounds. Everything is checked, and
nothing is skipped silently.
"""

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from swbench import codec
from swbench.codec import Count
from swbench.errors import StoreDamaged, StoreError
from swbench.gc_control import gc_disabled
from swbench.plan import Plan
from swbench.result import COUNTED, Measurement, Result, Round
from swbench.store import folder
from swbench.store.checked_jsonl import Scan, scan
from swbench.store.files import read_json
from swbench.store.old_schemas import round_fields

_POSITION = tuple[Count, Count]
"""Position of a cell in its seal, and the number of cells in the seal."""

_MALFORMED = (ValueError, KeyError, IndexError, TypeError, AttributeError)


@dataclass(frozen=True)
class StoredRun:
    """A run as it is on disk.

    `results` are the sealed cells. The measurements of each begin with the samples of its rounds,
    in the order they were taken; those taken outside the rounds follow. `rounds` are those of
    sealed replicates. `warnings` name what was torn or left out.
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
    """The content of the two line files: sealed results and their rounds, all rounds (those of
    killed workers too), problems, and the offsets at which the intact parts end.
    """

    results: tuple[Result, ...]
    rounds: tuple[Round, ...]
    all_rounds: tuple[Round, ...]
    damaged: tuple[str, ...]
    torn: tuple[str, ...]
    rounds_bytes: int
    cells_bytes: int

    @property
    def spent_s(self) -> float:
        """Total seconds of the run's workers, resumed parts included: of each from its start to its
        last stored round or cell. A worker that was killed before its first round does not count.
        """
        spans: dict[tuple[str, int, str], tuple[float, float]] = {}
        for item in (
            *(item for item in self.results if item.replicate != COUNTED),
            *self.all_rounds,
        ):
            key = (item.group, item.replicate, item.attempt)
            start, end = spans.get(key, (item.started, item.ended))
            spans[key] = (min(start, item.started), max(end, item.ended))
        return sum(max(0.0, end - start) for start, end in spans.values())


def load(path: str | Path, *, salvage: bool = False) -> StoredRun:
    """The run in a folder. It may be unfinished, or being written.

    Raises StoreError where the folder is no run, SchemaTooNew, and StoreDamaged, which names the
    line, for a damaged one. `salvage` leaves damaged lines out and names them in `warnings`.
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
        raise StoreDamaged(f"{content.damaged[0]}{_more_lines(content.damaged)}; {remedy}")
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
    """The content of the two line files. Raises StoreError where they cannot be read at all."""
    with gc_disabled():
        return _content(path, plan)


def keys_by_group(plan: Plan) -> dict[str, dict[str, None]]:
    """The keys of the cases of each group, in their order."""
    return {group.name: {case.key: None for case in group.cases} for group in plan.groups}


def _content(path: Path, plan: Plan) -> Content:
    keys = keys_by_group(plan)
    groups = [(name, tuple(cases)) for name, cases in keys.items()]
    # cells first: a run being written adds its rounds before the cells that seal them
    cells, rounds = scan(path / folder.CELLS), scan(path / folder.ROUNDS)
    damaged = [
        f"{path / name} line {number} is damaged: {why}"
        for name, scan_result in _files(cells, rounds)
        for number, why in scan_result.damaged
    ]
    results, cells_bytes, torn = _seals(path, cells, keys, damaged)
    torn += [
        f"{path / name}: the torn last line ({scan_result.torn_bytes} bytes) was left out"
        for name, scan_result in _files(cells, rounds)
        if scan_result.torn_bytes
    ]
    all_rounds = []
    for number, record in rounds.records:
        try:
            round_ = codec.read(round_fields(record, groups), Round)
            round_.check(keys[round_.group].keys())
            all_rounds.append(round_)
        except _MALFORMED as problem:
            damaged.append(f"{path / folder.ROUNDS} line {number} is damaged: {problem}")
    sealed = sealed_rounds(results, all_rounds)
    return Content(
        results=with_samples(results, sealed),
        rounds=tuple(sealed),
        all_rounds=tuple(all_rounds),
        damaged=tuple(damaged),
        torn=tuple(torn),
        rounds_bytes=rounds.complete_bytes,
        cells_bytes=cells_bytes,
    )


def _files(cells: Scan, rounds: Scan) -> tuple[tuple[str, Scan], ...]:
    return ((folder.CELLS, cells), (folder.ROUNDS, rounds))


def _seals(
    path: Path, cells: Scan, keys: Mapping[str, Container[str]], damaged: list[str]
) -> tuple[list[Result], int, list[str]]:
    """The results of complete seals, the offset at which the last complete seal ends, and a warning
    about an incomplete one. Adds to `damaged`.
    """
    name = path / folder.CELLS
    sealed: list[tuple[int, Result]] = []
    open_seal: list[tuple[int, Result]] = []
    sealed_bytes = 0
    for number, record in cells.records:
        try:
            position, seal_size = codec.read(record.pop("seal"), _POSITION)
            result = codec.read(record, Result)
            if (
                position >= seal_size
                or result.case not in keys[result.group]
                or result.replicate < COUNTED
            ):
                raise ValueError("its place in the seal or in the plan")
        except _MALFORMED as problem:
            damaged.append(f"{name} line {number} is damaged: {problem!r}")
            continue
        # a seal without an end lost it to a damaged line, which `damaged` names
        if position == 0:
            sealed += open_seal
            open_seal = []
        open_seal.append((number, result))
        if position == seal_size - 1:
            sealed += open_seal
            open_seal, sealed_bytes = [], cells.ends[number - 1]
    results: dict[tuple[str, int], Result] = {}
    for number, result in sealed:
        if (result.case, result.replicate) in results:
            damaged.append(f"{name} line {number} is damaged: it seals a cell a second time")
        else:
            results[result.case, result.replicate] = result
    torn = (
        [f"{name}: the last replicate was not sealed; its {len(open_seal)} cells were left out"]
        if open_seal
        else []
    )
    return list(results.values()), sealed_bytes if open_seal else cells.complete_bytes, torn


def sealed_rounds(results: Sequence[Result], rounds: Iterable[Round]) -> list[Round]:
    """The rounds that belong to sealed cells, each with only the samples of those cells."""
    owners = {(result.case, result.replicate): result.attempts for result in results}
    sealed = []
    for round_ in rounds:
        samples = {
            key: value
            for key, value in round_.samples.items()
            if round_.attempt in owners.get((key, round_.replicate), ())
        }
        if samples and len(samples) == len(round_.samples):
            sealed.append(round_)
        elif samples:
            sealed.append(
                replace(
                    round_,
                    samples=samples,
                    blocks={key: value for key, value in round_.blocks.items() if key in samples},
                )
            )
    return sealed


def with_samples(results: Sequence[Result], rounds: Iterable[Round]) -> tuple[Result, ...]:
    """Sealed cells with the samples of their rounds prepended to their measurements."""
    series: dict[tuple[str, int], list[dict[str, float]]] = defaultdict(list)
    for round_ in rounds:
        for key, samples in round_.samples.items():
            series[key, round_.replicate].append(samples)
    timed = {cell: _by_metric(samples_of_rounds) for cell, samples_of_rounds in series.items()}
    return tuple(
        Result(**{**vars(result), "measurements": timed[cell] + result.measurements})
        if (cell := (result.case, result.replicate)) in timed
        else result
        for result in results
    )


def _by_metric(samples_of_rounds: Sequence[dict[str, float]]) -> tuple[Measurement, ...]:
    metrics = dict.fromkeys(metric for samples in samples_of_rounds for metric in samples)
    return tuple(
        Measurement(
            metric,
            "s",
            tuple([samples[metric] for samples in samples_of_rounds if metric in samples]),
        )
        for metric in metrics
    )


def _more_lines(problems: tuple[str, ...]) -> str:
    return f" (and {len(problems) - 1} more lines)" if len(problems) > 1 else ""
