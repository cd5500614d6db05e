"""The pictures of the docs, drawn from a stored run: `python docs/screenshots.py [RUN] [--results
DIR] [-o docs/images]`.

The page in headless Chromium at two widths, plots, and what a terminal shows while the run goes on
(the run's own rounds, replayed) and after it.
"""

import argparse
import io
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from PIL import Image  # noqa: E402
from rich._export_format import CONSOLE_SVG_FORMAT  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.terminal_theme import DIMMED_MONOKAI  # noqa: E402
from rich.text import Text  # noqa: E402

from swbench import store  # noqa: E402
from swbench.cli.progress import Display  # noqa: E402
from swbench.report import exporters, plots  # noqa: E402
from swbench.report.build import build_table  # noqa: E402
from swbench.result import COUNTED  # noqa: E402
from swbench.run import events  # noqa: E402
from swbench.run.eta import EtaEstimator  # noqa: E402

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *(
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
    ),
    *("--disable-sync", "--hide-scrollbars", "--force-color-profile=srgb"),
)
PAGES = {
    "page-wide": ((1200, 1000), 1.0, False),
    "page-phone": ((390, 844), 2.0, False),
    "page-dark": ((1200, 1000), 1.0, True),
}
"""Name -> (window in CSS pixels, device pixels a CSS pixel, dark)."""

COLUMNS = 118
LARGEST_BYTES = 300_000


def page(browser: str, table, name: str, folder: Path) -> Path:
    """The HTML export as the browser shows it."""
    (width, height), scale, dark = PAGES[name]
    path = folder / f"{name}.png"
    with tempfile.TemporaryDirectory() as scratch:
        exporters.export_files(table, ["html"], scratch)
        flags = [
            *FLAGS,
            f"--user-data-dir={scratch}/profile",
            f"--window-size={width},{height}",
            f"--force-device-scale-factor={scale}",
        ]
        flags += ["--blink-settings=preferredColorScheme=0"] if dark else []
        address = (Path(scratch) / "table.html").as_uri()
        subprocess.run(
            [browser, *flags, f"--screenshot={path.absolute()}", address],
            check=True,
            capture_output=True,
            timeout=120,
        )
    return smaller(path)


def smaller(path: Path) -> Path:
    """A PNG with a palette: flat colours lose nothing that is seen."""
    with Image.open(path) as picture:
        made = picture.convert("RGB").quantize(
            colors=128, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        )
    made.save(path, optimize=True)
    return path


def live(run: store.StoredRun, path: Path, share: float = 0.6) -> Path:
    """The progress display after a share of the run's rounds, with the times at which they were
    taken.
    """
    console = recorder()
    display = Display(console)
    rounds = sorted(run.rounds, key=lambda round_: round_.started)
    begun = {
        (result.group, result.replicate): result.started
        for result in run.results
        if result.replicate != COUNTED
    }
    clock = [min(begun.values())]
    display._bar.get_time = lambda: clock[0]
    display._eta = EtaEstimator(lambda: clock[0])
    protocol = run.plan.protocol
    console.print(Text.assemble(("$ ", "bold green"), run.command))
    display.say(f"results: results/{run.id}")
    display(
        events.RunStarted(plan=run.plan, path=run.path, replicates=protocol.replicates, sealed={})
    )
    for round_ in rounds[: max(1, round(share * len(rounds)))]:
        if (started := begun.pop((round_.group, round_.replicate), None)) is not None:
            clock[0] = started
            display(
                events.ReplicateStarted(
                    group=round_.group,
                    replicate=round_.replicate,
                    attempt=round_.attempt,
                    cases=round_.order,
                )
            )
        clock[0] = round_.ended
        display(events.RoundDone(round=round_, rounds=protocol.rounds))
    console.print(display._bar.get_renderable())
    return svg(console, "while it runs", path)


def finished(run: store.StoredRun, path: Path) -> Path:
    """The table as a terminal shows it."""
    console = recorder()
    console.print(Text.assemble(("$ ", "bold green"), "python bench.py show latest"))
    console.print(
        Text.from_ansi(exporters.export(build_table(run), "table", width=COLUMNS, colour=True))
    )
    return svg(console, "the table", path)


def recorder() -> Console:
    """A console that keeps what it is given, in colour though it is no terminal: a terminal would
    keep every frame of the bar.
    """
    return Console(
        record=True,
        file=io.StringIO(),
        width=COLUMNS,
        force_terminal=False,
        color_system="truecolor",
        highlight=False,
    )


def svg(console: Console, title: str, path: Path) -> Path:
    """What the console recorded, with no font fetched from anywhere."""
    form = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.S).replace(
        "Fira Code", "DejaVu Sans Mono"
    )
    path.write_text(
        console.export_svg(
            title=title, theme=DIMMED_MONOKAI, code_format=form, unique_id=path.stem
        ),
        encoding="utf-8",
    )
    return path


def main() -> None:
    """Draw every picture and say its size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", default="latest", help="a path, an id, or `latest`")
    parser.add_argument("--results", default="results")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "images")
    arguments = parser.parse_args()
    run = store.load(store.find(arguments.results, arguments.run))
    table = build_table(run)
    arguments.output.mkdir(parents=True, exist_ok=True)
    drawn = [
        live(run, arguments.output / "live.svg"),
        finished(run, arguments.output / "table.svg"),
    ]
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.stderr.write(
            "no Chromium is installed here, so the pictures of the page stay as they are\n"
        )
    else:
        drawn += [page(browser, table, name, arguments.output) for name in PAGES]
    with tempfile.TemporaryDirectory() as scratch:
        for path in plots.plot_files(table, scratch, formats=["png"]):
            drawn.append(smaller(Path(shutil.move(path, arguments.output / path.name))))
    for path in drawn:
        size = path.stat().st_size
        sys.stdout.write(f"{path}: {size:,} bytes{', too large' if size > LARGEST_BYTES else ''}\n")
    sys.exit(any(path.stat().st_size > LARGEST_BYTES for path in drawn))


if __name__ == "__main__":
    main()
