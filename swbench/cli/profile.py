"""`profile`: where the time of one row of a suite goes. A profile is never a timing result, and is
stored separately from the runs.
"""

import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swbench.cli import completion
from swbench.cli.lazy import (
    case_kinds,
    launch,
    plot_style,
    plugin_files,
    profile_table,
    roofline,
    suite,
)
from swbench.cli.options import plugin_option, suite_options
from swbench.errors import OptionError
from swbench.suite.options import Selection

if TYPE_CHECKING:
    from swbench.profile.types import Profile


@click.command("profile")
@click.argument("name", metavar="SUITE", shell_complete=completion.suites)
@suite_options(Selection)
@click.option(
    "--iterations",
    type=click.IntRange(1, 1000),
    default=10,
    show_default=True,
    help="Profiled calls.",
)
@click.option("--top", type=click.IntRange(1), default=20, show_default=True, help="Layers shown.")
@click.option(
    "-o",
    "--output",
    "folder",
    help=("Folder for profile.json and trace.json.  [default: profiles/<utc>_<suite>_<row>]"),
)
@plugin_option
def profile(
    name: str, iterations: int, top: int, folder: str | None, plugins: tuple[str, ...], **given: Any
) -> int:
    """Show where the time of one row of SUITE goes: `profile imagenet --only swa-7`."""
    loaded = plugin_files.load(plugins)
    plan = suite.expand(suite.load(name), suite.Options.of(**given))
    rows = [
        (case, row)
        for group in plan.due(())
        for case, row in zip(group.cases, group.rows, strict=True)
    ]
    if given.get("phases") and set(given["phases"]) != {case_kinds.TRAIN}:
        raise OptionError(
            "a profile covers a training step, forward and backward; leave --phase out, or choose "
            "--phase train"
        )
    chosen = [(case, row) for case, row in rows if case.role == case_kinds.VARIANT] or rows[:1]
    if len(chosen) != 1:
        raise OptionError(
            f"a profile covers one row, and these options select {len(chosen)}: "
            f"{', '.join(row for _, row in chosen[:8])}; narrow it with --only or "
            "--batch"
        )
    case, row = chosen[0]
    if case.kind != case_kinds.Case.kind:
        raise OptionError(
            f"a profile needs a network, and {plan.suite} measures solvers; choose "
            "a row of a network suite"
        )
    if case.dtype.startswith("amp-"):
        raise OptionError(
            "under autocast a profile would count low-precision tensors as float32; profile with "
            f"--dtype {case.dtype.removeprefix('amp-')}"
        )
    target = (
        Path(folder)
        if folder
        else Path("profiles")
        / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}_{plan.suite}_{case.norm}-{case.layers}"
    )
    target.mkdir(parents=True, exist_ok=True)
    result = launch.profile_case(case, iterations, target / launch.TRACE_FILE, plugins=loaded)
    width = shutil.get_terminal_size((140, 24)).columns
    sys.stdout.write(f"{row}\n" + profile_table.render(result, width, top, sys.stdout.isatty()))
    roofline_note = _roofline(result, row, target)
    print(
        (
            f"profile: {launch.save(result, target)}; timeline: {target / launch.TRACE_FILE} "
            f"(open it in ui.perfetto.dev){roofline_note}"
        ),
        file=sys.stderr,
    )
    return 0


def _roofline(profile: "Profile", row: str, target: Path) -> str:
    """Draw the roofline plot of every layer and pass; returns a note with its path."""
    points = [
        roofline.Point(
            f"{row_['layer']} {row_['phase']}",
            row_["kind"],
            row_["flops"],
            row_["bytes"],
            row_["seconds"],
        )
        for row_ in profile_table.roofline_rows(profile)
    ]
    if not any(point.flops > 0 for point in points):
        return ""
    figure = roofline.roofline(
        points,
        peak_flops_s=profile.roof.flops_per_s,
        peak_bytes_s=profile.roof.bytes_per_s,
        title=row,
    )
    for ending in ("png", "svg"):
        plot_style.write(figure, target / f"roofline.{ending}")
    return f"; roofline: {target / 'roofline.png'}"
