r"""Tables in LaTeX with booktabs: a document that compiles unchanged, and whose table environments
can be copied into a paper.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

from swbench.report.escaping import latex
from swbench.report.exporters import Exporter, Style
from swbench.report.exporters.grid import Grid, grids
from swbench.report.table import Table

PREAMBLE = (
    "% Compiles as it is with pdfLaTeX. To use a table in a paper, copy its table environment and "
    "load booktabs, graphicx, textcomp and [T1]{fontenc}."
    r"""
\documentclass[a4paper]{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{textcomp}
\usepackage[landscape,margin=15mm]{geometry}
\usepackage{booktabs}
\usepackage{graphicx}
\newcommand{\fitted}[1]{\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{#1}}
\begin{document}
"""
)


class Latex(Exporter):
    """One table environment a section and panel."""

    filename = "table.tex"

    def write(self, tables: Sequence[Table], style: Style) -> str:
        """A whole document."""
        return (
            PREAMBLE
            + "\n".join(line for table in tables for line in _lines(table))
            + "\n\\end{document}\n"
        )


def _lines(table: Table) -> Iterator[str]:
    yield rf"\section*{{{latex(table.title)}}}"
    for warning in table.warnings:
        yield rf"\noindent\textbf{{{latex(warning)}}}\par"
    for section, section_grids in grids(table, details=True):
        for grid in section_grids:
            yield from _table(grid, latex(f"{section.title}. {grid.panel.title}."))
        for note in section.notes:
            yield rf"\noindent {latex(note)}\par"
    for note in table.notes:
        yield rf"\noindent\footnotesize {latex(note)}\par"
    for name, text in table.footer:
        shown = rf"\texttt{{{latex(text)}}}" if name == "Reproduce" else latex(text)
        yield rf"\noindent\footnotesize {latex(name)}: {shown}\par"
    yield r"\normalsize"


def _table(grid: Grid, caption: str) -> Iterator[str]:
    yield r"\begin{table}[!htbp]"
    yield r"\centering"
    yield rf"\caption{{{caption}}}"
    alignment = "".join("r" if column.numeric else "l" for column in grid.columns)
    yield rf"\fitted{{\begin{{tabular}}{{{alignment}}}"
    yield r"\toprule"
    yield from _spans(grid)
    yield " & ".join(latex(_header(column)) for column in grid.columns) + r" \\"
    yield r"\midrule"
    for texts in grid.texts:
        yield " & ".join(latex(text) for text in texts) + r" \\"
    yield r"\bottomrule"
    yield r"\end{tabular}}"
    yield r"\end{table}"


def _spans(grid: Grid) -> Iterator[str]:
    """The line with CPU and GPU above their columns."""
    if not any(column.span for column in grid.columns):
        return
    cells, rules, place = [], [], 1
    for span, columns in groupby(grid.columns, key=lambda column: column.span):
        width = len(list(columns))
        cells.append(
            rf"\multicolumn{{{width}}}{{c}}{{{latex(span)}}}" if span else " & ".join([""] * width)
        )
        if span:
            rules.append(rf"\cmidrule(lr){{{place}-{place + width - 1}}}")
        place += width
    yield " & ".join(cells) + r" \\"
    yield "".join(rules)


def _header(column) -> str:
    """The header without the device, which the line above names."""
    return column.header.removeprefix(f"{column.span} ") if column.span else column.header


LATEX = Latex()
