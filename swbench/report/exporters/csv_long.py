"""Every raw sample of a run as CSV, one line a sample: what spreadsheets and data frames start from."""

import csv
import io
from collections.abc import Iterator, Sequence

from swbench.case import Case
from swbench.probes.disturbance import marks
from swbench.report.exporters import Exporter, Style
from swbench.report.measured import TIMES
from swbench.report.safe import spreadsheet
from swbench.report.table import Table

COLUMNS = (
    "run", "suite", "group", "label", "role", "case", "kind",
    "model", "norm", "layers", "solver", "group_size", "classes", "image_height", "image_width", "batch",
    "device", "dtype", "mode", "layout", "threads", "world", "spectrum", "cache",
    "replicate", "attempt", "round", "position", "metric", "unit", "value",
    "status", "detail", "solver_chosen", "kernels_chosen", "sealed", "disturbed", "started_unix_s",
)  # fmt: skip
"""One name a field; `value` is in SI units as `unit` says; `round` is empty for what is measured once a replicate; `disturbed` is the fixed rule's mark."""


class CsvLong(Exporter):
    """Samples in the order of the store: rounds first, then what was measured outside them, then cells without any sample."""

    filename = "samples.csv"

    def write(self, tables: Sequence[Table], style: Style) -> str:
        """The samples of all tables. Raises ValueError for a table that was not made from a stored run."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        for table in tables:
            if table.source is None:
                raise ValueError(f"{table.title!r} holds no samples: it was not made from a stored run")
            for sample in samples(table.source):
                writer.writerow([_text(sample.get(name)) for name in COLUMNS])
        return out.getvalue()


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float | int) else spreadsheet(value)


def samples(run) -> Iterator[dict[str, object]]:
    """Every sample of a stored run as a mapping from `COLUMNS` to values; what a cell lacks is left out or None."""
    fixed = {
        (group.name, case.key): _case_fields(run, group.name, case, label)
        for group in run.plan.groups
        for case, label in zip(group.cases, group.rows, strict=True)
    }
    sealed = {(one.group, one.replicate, one.attempt, one.case): one for one in run.results}
    seen = set()
    by_attempt: dict[tuple[str, int, str], list] = {}
    for one in run.rounds:
        by_attempt.setdefault((one.group, one.replicate, one.attempt), []).append(one)
    for (group, replicate, attempt), rounds in by_attempt.items():
        disturbed = marks([one.disturbance for one in rounds])
        for index, one in enumerate(rounds):
            for position, key in enumerate(one.order):
                result = sealed.get((group, replicate, attempt, key))
                for metric, value in one.samples.get(key, {}).items():
                    seen.add((group, replicate, attempt, key))
                    yield {
                        **fixed.get((group, key), {}),
                        "replicate": replicate, "attempt": attempt, "round": one.index, "position": position,
                        "metric": metric, "unit": "s", "value": value, "disturbed": index in disturbed, "started_unix_s": one.started,
                        **_outcome(result),
                    }  # fmt: skip
    for place, result in sealed.items():
        base = {**fixed.get((result.group, result.case), {}), "replicate": result.replicate, "attempt": result.attempt}
        taken = [m for m in result.measurements if not (m.metric in TIMES and place in seen)]
        for measurement in taken:
            for value in measurement.samples:
                yield {**base, "metric": measurement.metric, "unit": measurement.unit, "value": value, "started_unix_s": result.started, **_outcome(result)}
        if not taken and place not in seen:
            yield {**base, "started_unix_s": result.started, **_outcome(result)}


def _case_fields(run, group: str, case, label: str) -> dict[str, object]:
    fields = {"run": run.id, "suite": run.plan.suite, "group": group, "label": label, "role": case.role, "case": case.key, "kind": case.kind}
    names = ("model", "norm", "layers", "solver", "classes", "batch", "device", "dtype", "mode", "layout", "threads", "world", "spectrum", "cache")
    fields |= {name: getattr(case, name, None) for name in names}
    fields["group_size"] = case.group
    if isinstance(case, Case):
        fields["image_height"], fields["image_width"] = case.image
    return fields


def _outcome(result) -> dict[str, object]:
    if result is None:
        return {"sealed": False}
    return {
        "sealed": True,
        "status": result.status,
        "detail": result.detail or None,
        "solver_chosen": result.chosen.get("solver"),
        "kernels_chosen": result.chosen.get("kernels"),
    }


CSV_LONG = CsvLong()
