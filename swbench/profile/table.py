"""Tables of a profile as text: by operator, and by layer with FLOPs, traffic and share of the
roofline.
"""

import io

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from swbench.errors import printable
from swbench.profile.icicle import icicle
from swbench.profile.operators import OPERATORS
from swbench.profile.types import BACKWARD, FORWARD, PHASES, REMAINDER, Layer, Profile

TOP = 20
"""Default number of layers: those that take longest."""
WIDE = 116
"""Width in characters from which a layer's FLOPs and bytes are shown beside its intensity."""
MIN_LABEL = 22
"""Least width in characters of a label: `layer3.0.downsample.0` and `(uneven between calls)`
fit.
"""
NO_VALUE = "–"


def render(profile: Profile, width: int = 100, top: int | None = TOP, colour: bool = False) -> str:
    """The whole profile as text of at most `width` columns; `top` layers, None for all; `colour`
    adds terminal escapes.
    """
    parts: list[RenderableType] = [
        Text(heading(profile)),
        icicle(profile, width),
        operator_table(profile),
        layer_table(profile, width, top),
    ]
    return "\n".join(as_text(part, width, colour) for part in parts)


def as_text(part: RenderableType, width: int = 100, colour: bool = False) -> str:
    """A table or drawing as a string."""
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=colour,
        color_system="256" if colour else None,
        no_color=not colour,
        highlight=False,
        legacy_windows=False,
    )
    console.print(part)
    return (
        "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()).strip("\n") + "\n"
    )


def heading(profile: Profile) -> str:
    """The case, the slowdown by profiling, the roof, and the remarks."""
    case, roof = profile.case, profile.roof
    norm = f"{case.norm}-{case.layers}" if case.layers else case.norm
    chosen = "".join(f", {key} {value}" for key, value in profile.chosen.items())
    lines = [
        (
            f"{case.model} {norm}{chosen}: batch {case.batch}, {case.image[0]}x{case.image[1]}, "
            f"{case.dtype}, {case.device}"
        )
        + (
            f", {case.threads} threads"
            if case.threads > 1
            else ", 1 thread"
            if case.threads
            else ""
        ),
        f"medians over the quicker half of {len(profile.iterations)} profiled calls; profiling "
        f"made calls {profile.overhead:+.1%} longer than the "
        "unprofiled ones between them. "
        "Shares are what a profile is for: for times, use `run`.",
        (
            f"roof {roof.flops_per_s * 1e-9:.3g} GFLOP/s, {roof.bytes_per_s * 1e-9:.3g} GB/s, "
            "measured before and after"
        ),
    ]
    return printable_lines([*lines, *profile.remarks])


def printable_lines(lines: list[str]) -> str:
    """The lines with control characters escaped."""
    return "\n".join(printable(line) for line in lines)


def operator_table(profile: Profile) -> Table:
    """Time by operator: forward, backward, and the share of both."""
    table = _table("operator", "F\nms", "F\n%", "B\nms", "B\n%", "F+B\n%", left=1)
    table.add_column("")
    by_phase = {phase: profile.by_operator(phase) for phase in PHASES}
    total_s = profile.total_s()
    for operator in (
        *OPERATORS,
        *sorted(
            {key for operators_of_phase in by_phase.values() for key in operators_of_phase}
            - set(OPERATORS)
        ),
    ):
        seconds = [by_phase[phase].get(operator, 0.0) for phase in PHASES]
        if any(seconds):
            table.add_row(
                Text(printable(operator)),
                *_times(profile, seconds),
                "█" * round(20 * max(0.0, sum(seconds)) / total_s),
            )
    table.add_section()
    table.add_row("total", *_times(profile, [profile.total_s(phase) for phase in PHASES]), "")
    return table


def layer_table(profile: Profile, width: int = 100, top: int | None = TOP) -> Table:
    """The layers that take longest, then the time that belongs to no layer, then the total."""
    wide = width >= WIDE
    columns = [
        f"{phase}\n{name}"
        for phase in "FB"
        for name in ((("GFLOP", "MB") if wide else ()) + ("FLOP/B", "roof%"))
    ]
    times = ("F\nms", "F\n%", "B\nms", "B\n%", "F+B\n%") if wide else ("F\nms", "B\nms", "F+B\n%")
    table = _table("layer", "kind", *times, *columns, left=2)

    def cells(seconds: list[float]) -> list[str]:
        texts = _times(profile, seconds)
        return texts if wide else [texts[0], texts[2], texts[4]]

    ranked = sorted(
        (layer for layer in profile.layers if layer.kind != REMAINDER),
        key=lambda layer: -layer.seconds(),
    )
    shown, hidden = ranked[:top], ranked[len(ranked) if top is None else top :]
    for layer in shown:
        work = [cell for phase in PHASES for cell in _work(profile, layer, phase, wide)]
        table.add_row(
            Text(printable(layer.path or "(model)")),
            layer.kind,
            *cells([layer.seconds(phase) for phase in PHASES]),
            *work,
        )
    if hidden:
        hidden_s = [sum(layer.seconds(phase) for layer in hidden) for phase in PHASES]
        table.add_row(f"({len(hidden)} more)", "", *cells(hidden_s))
    table.add_section()
    for layer in profile.layers:
        if layer.kind == REMAINDER:
            table.add_row(
                Text(printable(layer.path)), "", *cells([layer.seconds(phase) for phase in PHASES])
            )
    table.add_row("total", "", *cells([profile.total_s(phase) for phase in PHASES]))
    return table


def number(value: float) -> str:
    """Four digits or so, never an exponent, never more than 6 characters below a million."""
    decimals = next((d for d, limit in ((3, 10), (2, 100), (1, 1000)) if abs(value) < limit), 0)
    return f"{value:.{decimals}f}"


def _table(*columns: str, left: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    for i, name in enumerate(columns):
        min_width = MIN_LABEL if i == 0 else 4 if i < left else 5 if name.endswith("%") else 6
        table.add_column(
            name,
            justify="left" if i < left else "right",
            no_wrap=True,
            min_width=min_width,
            overflow="ellipsis" if i < left else "fold",
        )
    return table


def _times(profile: Profile, seconds: list[float]) -> list[str]:
    cells = []
    for phase, value_s in zip(PHASES, seconds, strict=True):
        total_s = profile.total_s(phase)
        cells += [number(value_s * 1e3), f"{100 * value_s / total_s:.1f}" if total_s else NO_VALUE]
    return [*cells, f"{100 * sum(seconds) / profile.total_s():.1f}"]


def _work(profile: Profile, layer: Layer, phase: str, wide: bool) -> list[str]:
    work, share = layer.work_in(phase), layer.share_of_roof(phase, profile.roof)
    if work is None:
        return [NO_VALUE] * (4 if wide else 2)
    amounts = [number(work.flops * 1e-9), number(work.traffic_bytes * 1e-6)] if wide else []
    return [
        *amounts,
        NO_VALUE if work.intensity is None else number(work.intensity),
        NO_VALUE if share is None else f"{100 * share:.0f}",
    ]


def roofline_rows(profile: Profile) -> list[dict[str, str | float]]:
    """The points of a roofline plot under `profile.roof`: a dictionary for each layer and phase
    with work and time.
    """
    rows = []
    for layer in profile.layers:
        for phase in (FORWARD, BACKWARD):
            work, seconds = layer.work_in(phase), layer.seconds(phase)
            if work and work.traffic_bytes and seconds > 0:
                rows.append(
                    {
                        "layer": layer.path,
                        "kind": layer.kind,
                        "phase": phase,
                        "seconds": seconds,
                        "flops": work.flops,
                        "bytes": work.traffic_bytes,
                        "intensity_flops_per_byte": work.intensity,
                        "flops_per_s": work.flops / seconds,
                        "share_of_roof": layer.share_of_roof(phase, profile.roof),
                    }
                )
    return rows
