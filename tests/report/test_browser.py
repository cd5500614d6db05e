"""The page in a real browser: nothing is asked of the network, nothing is written to the console, a click sorts. Skipped without Chromium."""

import json
import os
import re
import shutil
import subprocess

import pytest
from stored_runs import every_status

from swbench.report.exporters import export
from swbench.report.table import build_table

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here")

PROBE = """
document.title = "ready";
var head = document.querySelectorAll("table")[0].tHead.rows[1].cells;
var column = Array.prototype.findIndex.call(head, function (cell) { return cell.textContent === "F, s"; });
var rows = document.querySelectorAll("table")[0].tBodies[0].rows;
var texts = function () { return Array.prototype.map.call(rows, function (row) { return row.cells[column].textContent; }); };
var found = { before: texts(), width: document.documentElement.scrollWidth, inner: window.innerWidth };
head[column].firstChild.click(); found.up = texts(); found.sort = head[column].getAttribute("aria-sort");
head[column].firstChild.click(); found.down = texts();
head[column].firstChild.click(); found.back = texts();
document.body.innerHTML = ""; document.body.textContent = JSON.stringify(found);
"""


def opened(tmp_path, width):
    """What the page says of itself after a few clicks, and the browser's log. The probe is let in by its hash, as the page's own script is."""
    import base64
    import hashlib

    page = export(build_table(every_status()), "html")
    digest = base64.b64encode(hashlib.sha256(PROBE.encode()).digest()).decode()
    page = page.replace("script-src ", f"script-src &#x27;sha256-{digest}&#x27; ").replace("</body>", f"<script>{PROBE}</script></body>")
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--window-size={width},900", f"--user-data-dir={tmp_path / 'profile'}"]
    command = [CHROMIUM, *flags, "--dump-dom", (tmp_path / "page.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, "HOME": str(tmp_path)}, check=False)
    body = re.search(r"<body>(\{.*\})\s*</body>", done.stdout, re.S)
    assert body, done.stdout[-500:] + done.stderr[-500:]
    return json.loads(body.group(1).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")), done.stderr


@pytest.mark.parametrize("width", [1280, 500])
def test_a_click_sorts_and_the_console_is_silent(tmp_path, width):
    found, log = opened(tmp_path, width)
    assert found["sort"] == "ascending"
    numbers = [float(text) for text in found["up"] if re.fullmatch(r"[\d.]+", text)]
    assert numbers == sorted(numbers)
    assert numbers == [float(text) for text in found["up"][: len(numbers)]]  # what has no value comes last
    assert found["down"][: len(numbers)] == found["up"][: len(numbers)][::-1]
    assert found["back"] == found["before"]
    assert found["width"] <= found["inner"]  # wide tables scroll inside, the page does not
    assert "CONSOLE" not in log, [line for line in log.splitlines() if "CONSOLE" in line]
