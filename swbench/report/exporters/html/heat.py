"""The heat maps of a run's settings as tables whose cells are coloured by the page's style,
readable without colour.
"""

import math
from collections.abc import Iterator
from html import escape

from swbench.report.escaping import plain
from swbench.report.heat_map import HeatMap, heat_maps, reach
from swbench.report.table import Table

SHADES = 4
"""Colours to each side of 1; page.css has a class for each: `h1` … `h4` slower, `l1` … faster."""


def heat_tables(table: Table) -> str:
    """A table a grid, settings down and rows across; empty where the run has one setting."""
    maps = heat_maps(table)
    span = reach(maps)
    return "".join(part for one in maps for part in _table(one, span))


def _table(one: HeatMap, span: float) -> Iterator[str]:
    yield (
        '<figure><div class="wide" tabindex="0"><table class="heat"><thead><tr>'
        f'<th scope="col" class="label">{_shown(one.title)}</th>'
    )
    yield from (f'<th scope="col">{_shown(row)}</th>' for row in one.rows)
    yield "</tr></thead><tbody>"
    for setting in one.settings:
        yield f'<tr><th scope="row">{_shown(setting)}</th>'
        yield from (_cell(one, row, setting, span) for row in one.rows)
        yield "</tr>"
    yield (
        "</tbody></table></div><figcaption>Ratio to the baseline of the same setting"
        f"{'' if one.title.endswith('memory') else ', with its interval'}.</figcaption></figure>"
    )


def _cell(one: HeatMap, row: str, setting: str, span: float) -> str:
    value, (text, *bounds) = one.cell(row, setting).value, one.texts(row, setting)
    shade = 0 if value is None else round(SHADES * math.log(value) / span)
    name = f' class="{"h" if shade > 0 else "l"}{abs(shade)}"' if shade else ""
    small = "".join(f"<br><small>{_shown(bound)}</small>" for bound in bounds)
    return f"<td{name}>{_shown(text)}{small}</td>"


def _shown(text: str) -> str:
    return escape(plain(text))
