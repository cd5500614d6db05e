"""A stored run as a pandas data frame: the only place that imports pandas."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas


def load_run(path: str | os.PathLike[str]) -> pandas.DataFrame:
    """Every sample of a stored run, a row for each; `path` is the run's folder.

    The columns are those of the long CSV: fields of the case, replicate, attempt and round,
    `metric`, `unit` and `value` (SI), status, and whether the round is marked as disturbed. A cell
    that failed before its first sample has one row without a metric. Raises StoreError if the run
    cannot be read.
    """
    import pandas

    from swbench.report.long_samples import COLUMNS, samples
    from swbench.store import load

    rows = [
        (*case, *place, *sample, *outcome)
        for case, place, sample, outcome in samples(load(os.fspath(path)))
    ]
    frame = pandas.DataFrame.from_records(rows, columns=list(COLUMNS))
    integer_columns = [
        "layers",
        "group_size",
        "classes",
        "image_height",
        "image_width",
        "batch",
        "threads",
        "world",
        "nodes",
    ]
    integer_columns += ["replicate", "round", "position"]
    frame[integer_columns] = frame[integer_columns].astype("Int64")
    frame["value"] = frame["value"].astype(float)
    frame["disturbed"] = frame["disturbed"].astype("boolean")
    return frame
