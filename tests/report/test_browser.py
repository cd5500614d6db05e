"""The page in a real browser: no network requests, no console messages, and sorting by a click.
Skipped without Chromium.
"""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess

import pytest
from stored_runs import every_status

from swbench.report.build import build_table
from swbench.report.exporters import export

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here")

BROWSERS_OWN = re.compile(r"^https?://[a-z0-9.-]+\.(google|googleapis|gvt1)\.com/")
"""What the browser asks for by itself, whatever the page; it is let reach nothing."""

PROBE = """
document.title = "ready";
var head = document.querySelectorAll("table")[0].tHead.rows[1].cells;
var column = Array.prototype.findIndex.call(head, function (cell) {
  return cell.textContent === "F, s";
});
var rows = document.querySelectorAll("table")[0].tBodies[0].rows;
var texts = function () {
  return Array.prototype.map.call(rows, function (row) { return row.cells[column].textContent; });
};
var width = document.documentElement.scrollWidth;
var found = { before: texts(), width: width, inner: window.innerWidth };
head[column].firstChild.click(); found.up = texts();
found.sort = head[column].getAttribute("aria-sort");
head[column].firstChild.click(); found.down = texts();
head[column].firstChild.click(); found.back = texts();
var wide = document.querySelector(".wide"), all = wide.querySelectorAll("tr > :first-child");
var lefts = function () {
  return Array.prototype.map.call(
    all, function (cell) { return cell.getBoundingClientRect().left; });
};
wide.scrollLeft = 0; found.still = lefts(); wide.scrollLeft = 120;
found.scrolled = wide.scrollLeft; found.moved = lefts();
document.body.innerHTML = ""; document.body.textContent = JSON.stringify(found);
"""


def browse(tmp_path, page, width):
    """(the page's document after its scripts have run, the browser's log, the addresses that it
    requested).
    """
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    own = [
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--disable-quic",
    ]
    own += [
        "--disable-features=NetworkTimeServiceQuerying,OptimizationHints",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ]
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        f"--window-size={width},900",
        *own,
    ]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={tmp_path / 'net.json'}"]
    command = [CHROMIUM, *flags, "--dump-dom", (tmp_path / "page.html").as_uri()]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "HOME": str(tmp_path)},
        check=False,
    )
    log = (tmp_path / "net.json").read_text(encoding="utf-8", errors="replace")
    return done.stdout, done.stderr, set(re.findall(r'"url":"(https?:[^"]+|wss?:[^"]+)"', log))


def opened(tmp_path, width):
    """The page's report on itself after a few clicks, and the browser's log. The policy allows the
    probe by its hash, like the page's own script.
    """
    page = export(build_table(every_status()), "html")
    digest = base64.b64encode(hashlib.sha256(PROBE.encode()).digest()).decode()
    page = page.replace("script-src ", f"script-src &#x27;sha256-{digest}&#x27; ").replace(
        "</body>", f"<script>{PROBE}</script></body>"
    )
    document, log, requests = browse(tmp_path, page, width)
    body = re.search(r"<body>(\{.*\})\s*</body>", document, re.S)
    assert body, document[-500:] + log[-500:]
    assert not [url for url in requests if not BROWSERS_OWN.search(url)], (
        "the page asked for something"
    )
    return json.loads(
        body.group(1).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    ), log


@pytest.mark.parametrize("width", [1280, 390])
def test_a_click_sorts_and_the_console_is_silent(tmp_path, width):
    results, log = opened(tmp_path, width)
    assert results["sort"] == "ascending"
    numbers = [float(text) for text in results["up"] if re.fullmatch(r"[\d.]+", text)]
    assert numbers == sorted(numbers)
    # what has no value comes last
    assert numbers == [float(text) for text in results["up"][: len(numbers)]]
    assert results["down"][: len(numbers)] == results["up"][: len(numbers)][::-1]
    assert results["back"] == results["before"]
    assert results["width"] <= results["inner"]  # wide tables scroll inside, the page does not
    assert "CONSOLE" not in log, [line for line in log.splitlines() if "CONSOLE" in line]


def test_on_a_phone_the_names_of_the_rows_stay_with_their_header(tmp_path):
    results, _ = opened(tmp_path, 390)
    assert results["scrolled"] == 120
    assert len(results["still"]) > 2
    assert results["moved"] == results["still"]


PIXEL = '<img src="http://pixel.invalid/seen.png">'


def test_a_request_would_be_seen(tmp_path):
    _, _, requests = browse(tmp_path, f"<!doctype html><body>{PIXEL}</body>", 1280)
    assert any("pixel.invalid" in url for url in requests)


def test_an_injected_image_is_not_requested(tmp_path):
    page = export(build_table(every_status()), "html").replace("</body>", f"{PIXEL}</body>")
    _, log, requests = browse(tmp_path, page, 1280)
    assert not any("pixel.invalid" in url for url in requests)
    assert "Content Security Policy" in log
