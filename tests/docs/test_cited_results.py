"""README and docs cite every committed result, cite none that is missing, and print the ratios that
the cited runs hold.
"""

import fnmatch
import functools
import re

import pytest
from fenced_blocks import ROOT, TEXTS

from swbench import store
from swbench.formatting import ratio
from swbench.report.build import build_table

REFERENCE = ROOT / "results" / "reference"
COMMITTED = sorted(path.name for path in REFERENCE.iterdir())
PATH = re.compile(r"results/reference/([\w.*?\[\]-]+)")
RUN_ID = re.compile(r"\b\d{8}T\d{6}Z\w*(?:-\w+)*")
RUN_LINK = re.compile(r"results/reference/(\d{8}T\d{6}Z_[\w-]+)")
RATIO = re.compile(r"\d+\.\d{3} \[\d+\.\d{3}, \d+\.\d{3}\]")


def cited(text: str) -> tuple[set[str], set[str]]:
    """The results that a text names by path or by the beginning of a run's id, and its patterns for
    several (`results/reference/2026*_imagenet_*`).
    """
    paths = set(PATH.findall(text))
    patterns = {path for path in paths if "*" in path}
    return (paths - patterns) | set(RUN_ID.findall(text)), patterns


def unknown(text: str) -> set[str]:
    """What a text cites that is not in the repository."""
    names, patterns = cited(text)
    return {name for name in names if not any(folder.startswith(name) for folder in COMMITTED)} | {
        pattern for pattern in patterns if not fnmatch.filter(COMMITTED, pattern)
    }


def uncited(committed: list[str], texts: list[str]) -> list[str]:
    """The results that no text names. A pattern for several is not enough: new runs would match."""
    names = set().union(*(cited(text)[0] for text in texts))
    return [folder for folder in committed if not any(folder.startswith(name) for name in names)]


def test_citations_are_read():
    text = "`20261123T010854Z`, results/reference/aa.json and results/reference/2026*_imagenet_*"
    assert cited(text) == (
        {"20261123T010854Z", "aa.json"},
        {"2026*_imagenet_*"},
    )
    assert unknown("results/reference/20990101T000000Z_imagenet_x") == {
        "20990101T000000Z_imagenet_x"
    }
    assert unknown("results/reference/2099*_imagenet_*") == {"2099*_imagenet_*"}
    assert uncited(["20261123T010854Z_imagenet_x", "bb.json"], [text]) == ["bb.json"]


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_every_cited_result_is_in_the_repository(page):
    assert not unknown(page.read_text("utf-8"))


def test_every_committed_result_is_cited():
    assert not uncited(COMMITTED, [page.read_text("utf-8") for page in TEXTS])


@functools.cache
def ratios_of(run: str) -> frozenset[str]:
    """All ratios with intervals that the tables of a run print, its control's among them."""
    table = build_table(store.load(REFERENCE / run))
    cells = [row.cell(f"ratio_cpu_{of}") for row in table.rows for of in ("f", "fb")]
    cells += [cell for section in table.sections for cell in section.control.values()]
    printed = {
        f"{ratio(cell.value)} [{ratio(cell.low)}, {ratio(cell.high)}]"
        for cell in cells
        if cell.low is not None and cell.high is not None
    }
    return frozenset(printed.union(*(RATIO.findall(note) for note in table.notes)))


def quoted(text: str) -> list[tuple[str, str]]:
    """(run, ratio) of every table row, where the run is the last one linked before the ratio."""
    run, cited = "", []
    for line in text.splitlines():
        if linked := RUN_LINK.findall(line):
            run = linked[-1]
        if line.startswith("#"):
            run = ""
        if run and line.startswith("|"):
            cited += [(run, figure) for figure in RATIO.findall(line)]
    return cited


@pytest.mark.parametrize("name", ["README.md", "docs/results.md"])
def test_ratios_of_whole_networks_are_those_of_the_runs(name):
    figures = quoted((ROOT / name).read_text("utf-8"))
    assert len(figures) >= 6
    wrong = [(run, figure) for run, figure in figures if figure not in ratios_of(run)]
    assert not wrong
