"""The heat maps of a run's settings as tables whose cells are coloured by the page's style,
readable without colour.
"""

import math
from collections.abc import Iterator
from html import escape

from swbench.report.escaping import plain
from swbench.report.heat_map import HeatMap, heat_maps, largest_distance
from swbench.report.table import Table

SHADES = 4
"""Number of colours to each side of 1; page.css has a class for each: `h1` … `h4` slower, `l1` …
faster.
"""


def heat_tables(table: Table) -> str:
    """A table for each heat map, with settings as rows; empty where the run has one setting."""
    maps = heat_maps(table)
    span = largest_distance(maps)
    return "".join(part for heat_map in maps for part in _table(heat_map, span))


def _table(heat_map: HeatMap, span: float) -> Iterator[str]:
    yield (
        '<figure><div class="wide" tabindex="0"><table class="heat"><thead><tr>'
        f'<th scope="col" class="label">{_shown(heat_map.title)}</th>'
    )
    yield from (f'<th scope="col">{_shown(row)}</th>' for row in heat_map.rows)
    yield "</tr></thead><tbody>"
    for setting in heat_map.settings:
        yield f'<tr><th scope="row">{_shown(setting)}</th>'
        yield from (_cell(heat_map, row, setting, span) for row in heat_map.rows)
        yield "</tr>"
    yield (
        "</tbody></table></div><figcaption>Ratio to the baseline of the same setting"
        f"{'' if heat_map.title.endswith('memory') else ', with its interval'}.</figcaption>"
        "</figure>"
    )


def _cell(heat_map: HeatMap, row: str, setting: str, span: float) -> str:
    value, (text, *bounds) = heat_map.cell(row, setting).value, heat_map.texts(row, setting)
    shade = 0 if value is None else round(SHADES * math.log(value) / span)
    name = f' class="{"h" if shade > 0 else "l"}{abs(shade)}"' if shade else ""
    small = "".join(f"<br><small>{_shown(bound)}</small>" for bound in bounds)
    return f"<td{name}>{_shown(text)}{small}</td>"


def _shown(text: str) -> str:
    return escape(plain(text))
