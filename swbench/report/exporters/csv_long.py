"""Every sample of a run as CSV, one line each, for spreadsheets and data frames."""

import csv
import io
from collections.abc import Iterable, Sequence

from swbench.report.escaping import spreadsheet
from swbench.report.exporters import Exporter, Style
from swbench.report.long_samples import (
    CASE_FIELDS,
    OUTCOME_FIELDS,
    PLACE_FIELDS,
    SAMPLE_FIELDS,
    samples,
)
from swbench.report.table import Table


class CsvLong(Exporter):
    """Samples in the order of the store: rounds first, then what was measured outside them, then
    cells without any sample.
    """

    filename = "samples.csv"

    def write(self, tables: Sequence[Table], style: Style) -> str:
        """The samples of all tables. Raises ValueError for a table without a stored run."""
        lines = [_line((*CASE_FIELDS, *PLACE_FIELDS, *SAMPLE_FIELDS, *OUTCOME_FIELDS))]
        texts: dict[int, str] = {}

        def fixed(values: tuple) -> str:
            """The text of values that thousands of lines share, computed once: `samples` yields the
            same tuple each time.
            """
            text = texts.get(id(values))
            if text is None:
                text = texts[id(values)] = _line(map(_text, values))
            return text

        for table in tables:
            if table.source is None:
                raise ValueError(
                    f"{table.title!r} holds no samples: it was not made from a stored run"
                )
            # keeps every shared tuple alive, so that its id stays its own
            all_samples = list(samples(table.source))
            for case, place, (position, metric, unit, value), outcome in all_samples:
                shown = "" if value is None else repr(value)
                number = "" if position is None else position
                lines.append(
                    f"{fixed(case)},{fixed(place)},{number},{metric},{unit},{shown},{fixed(outcome)}"
                )
            texts.clear()
        return "\n".join(lines) + "\n"


def _line(texts: Iterable[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(list(texts))
    return out.getvalue()


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float | int) else spreadsheet(value)


CSV_LONG = CsvLong()
