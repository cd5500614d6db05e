"""Every format against a stored snapshot, against hostile names, and against the others' numbers.
`UPDATE_SNAPSHOTS=1 pytest` rewrites the snapshots.
"""

import csv
import html.parser
import io
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from stored_runs import (
    FORMULA,
    HOSTILE,
    every_status,
    stored_solvers,
    stored_stability,
    table1,
)

from swbench.errors import StoreError, UnknownName
from swbench.report.build import build_table
from swbench.report.exporters import TABLE, export, export_files

SNAPSHOTS = Path(__file__).parent / "snapshots"
RUNS = {
    "table1": table1,
    "every-status": every_status,
    "solvers": stored_solvers,
    "stability": stored_stability,
}
ENDINGS = {
    "table": "txt",
    "markdown": "md",
    "csv": "csv",
    "csv-long": "long.csv",
    "latex": "tex",
    "json": "json",
    "html": "html",
}


@pytest.fixture(scope="module")
def tables():
    return {name: build_table(make()) for name, make in RUNS.items()}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("format_", TABLE.names())
def test_snapshot(tables, name, format_):
    text = export(tables[name], format_, width=100)
    # the samples themselves are the generator's; their first lines show the layout
    if format_ == "csv-long":
        text = "".join(text.splitlines(keepends=True)[:12])
    path = SNAPSHOTS / f"{name}.{ENDINGS[format_]}"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.write_text(text, encoding="utf-8", newline="")
    assert text == path.read_text(encoding="utf-8")


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_the_columns_of_the_csv_are_fixed(tables):
    header = export(tables["table1"], "csv").splitlines()[0]
    assert header.startswith(
        "model,norm,layers,solver,cpu_batch,gpu_batch,gflops_paper,gflops_fvcore,gflops_torch,cpu_f_s,cpu_fb_s,gpu_f_s,gpu_fb_s,"
        "gpu_utilisation_percent,gpu_utilisation_samples,gpu_busy_share,ratio_cpu_f,"
    )
    assert export(tables["every-status"], "csv").splitlines()[0] == header
    names = header.split(",")
    assert len(set(names)) == len(names)
    assert names.index("status") > max(
        index
        for index, name in enumerate(names)
        if re.fullmatch(r"ratio_[cg]pu_fb?(_low|_high)?", name)
    )


def test_numbers_are_the_same_in_all_formats(tables):
    table = tables["table1"]
    document = json.loads(export(table, "json"))["tables"][0]
    texts = {
        name: export(table, name, width=400) for name in ("table", "markdown", "latex", "html")
    }
    for line, row in zip(
        rows_of(export(table, "csv")), document["sections"][0]["rows"], strict=True
    ):
        for name in ("gflops_paper", "cpu_f_s", "cpu_fb_s", "ratio_cpu_f", "ratio_cpu_fb"):
            cell = row["cells"][name]
            assert float(line[name]) == cell["value"]
            for format_, text in texts.items():
                assert cell["text"].replace("[", "{[}" if format_ == "latex" else "[") in text
        assert float(line["ratio_cpu_f_low"] or 0) == row["cells"]["ratio_cpu_f"].get("low", 0)
        printed = row["cells"]["ratio_cpu_f"]["text"]
        assert row["label"] == "ResNet50-BN" or re.fullmatch(
            r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]( ≈)?", printed
        )


def test_json_keeps_to_its_schema(tables):
    import jsonschema

    from swbench.report.exporters.json_document import schema

    jsonschema.Draft202012Validator.check_schema(schema())
    validator = jsonschema.Draft202012Validator(schema())
    validator.validate(json.loads(export(list(tables.values()), "json")))
    spoilt = json.loads(export(tables["table1"], "json"))
    del spoilt["tables"][0]["sections"][0]["rows"][0]["cells"]["cpu_f_s"]["text"]
    assert not validator.is_valid(spoilt)


def test_json_is_strict_where_a_number_is_not_finite():
    from swbench.report.exporters.json_document import _cell
    from swbench.report.table import Cell, Column

    json_cell = _cell(Cell(float("nan")), Column("w_error_worst", "W", "error"))
    assert json_cell == {"value": None, "text": "nan"}


class Page(html.parser.HTMLParser):
    """Collects tags, attributes and the text outside script and style."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.text, self._inside = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        self._inside = [*self._inside, tag] if tag in ("script", "style") else self._inside

    def handle_endtag(self, tag):
        if self._inside and self._inside[-1] == tag:
            self._inside = self._inside[:-1]

    def handle_data(self, data):
        if not self._inside:
            self.text.append(data)


def parsed(text):
    page = Page()
    page.feed(text)
    return page


def test_html_takes_names_as_text_and_asks_for_nothing(tables):
    text = export(list(tables.values()), "html")
    page = parsed(text)
    assert page.tags.count("script") == 1
    assert not {
        "img",
        "link",
        "iframe",
        "object",
        "embed",
        "base",
        "form",
        "audio",
        "video",
        "a",
    } & set(page.tags)
    assert not [
        attributes
        for attributes in page.attributes
        if attributes[1].startswith("on")
        or attributes[1] in ("src", "href", "srcset", "style", "xlink:href")
    ]
    assert HOSTILE in page.text
    assert "http://" not in text
    assert "https://" not in text
    assert "url(" not in text
    assert "@import" not in text


def test_html_policy_names_the_script_and_style_that_are_in_it(tables):
    import base64
    import hashlib

    text = export(tables["table1"], "html")
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text).group(1))
    assert policy.startswith("default-src 'none'")
    for tag in ("script", "style"):
        inside = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.S).group(1)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_html_has_its_warnings_before_any_figure(tables):
    text = export(tables["every-status"], "html")
    assert text.index("QUICK") < text.index("<table")
    assert text.index("UNSTABLE") < text.index("<table")


@pytest.mark.parametrize("format_", ["csv", "csv-long"])
def test_no_cell_of_a_csv_is_a_formula(tables, format_):
    text = export(tables["every-status"], format_)
    cells = [cell for line in csv.reader(io.StringIO(text)) for cell in line]
    dangerous = [cell for cell in cells if cell.lstrip().startswith(("=", "@", "+", "-"))]
    assert all(re.fullmatch(r"[+-]?[\d.e+-]+", cell) for cell in dangerous)
    assert f"'{FORMULA}" in cells


@pytest.mark.parametrize("format_", TABLE.names())
def test_no_control_character_gets_out(tables, format_):
    text = export(tables["every-status"], format_)
    assert [c for c in text if not c.isprintable() and c != "\n"] == []


def test_colour_is_the_terminals_alone_and_only_on_request(tables):
    plain, coloured = (
        export(tables["every-status"], "table", colour=colour) for colour in (False, True)
    )
    assert "\x1b[" not in plain
    assert re.sub(r"\x1b\[\d*m", "", coloured) == plain
    assert set(re.findall(r"\x1b\[(\d+)m", coloured)) <= {"0", "1", "2", "3", "4", "31", "32", "33"}


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_a_terminal_table_keeps_to_its_width(tables, width):
    for name in ("table1", "solvers"):
        lines = export(tables[name], "table", width=width).splitlines()
        assert max(len(line) for line in lines if not line.startswith("Reproduce")) <= width


def test_several_tables_share_one_csv_header_but_not_of_two_kinds(tables):
    from swbench.errors import OptionError

    twice = rows_of(export([tables["table1"], tables["every-status"]], "csv"))
    assert len(twice) == 4 + 7
    with pytest.raises(OptionError, match="separately"):
        export([tables["table1"], tables["solvers"]], "csv")


def test_files_are_written_completely_into_a_new_folder(tables, tmp_path):
    paths = export_files(tables["table1"], ["markdown", "csv", "html"], tmp_path / "a" / "b")
    assert [path.name for path in paths] == ["table.md", "table.csv", "table.html", "samples.csv"]
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == sorted(
        path.name for path in paths
    )
    assert (tmp_path / "a" / "b" / "table.csv").read_text() == export(tables["table1"], "csv")


def test_an_unknown_format_writes_nothing(tables, tmp_path):
    with pytest.raises(UnknownName, match="Did you mean 'markdown'"):
        export_files(tables["table1"], ["csv", "markdwon"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_the_users_mistake(tables, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="give another folder with -o"):
        export_files(tables["table1"], ["csv"], tmp_path / "file" / "out")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX is installed here")
@pytest.mark.parametrize("name", RUNS)
def test_latex_compiles_as_it_is(tables, name, tmp_path):
    (tmp_path / "table.tex").write_text(export(tables[name], "latex"), encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "table.pdf").stat().st_size > 10_000
