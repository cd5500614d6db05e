"""An icicle of a profile for the terminal: the network from left to right, its modules from top to
bottom, lengths in proportion to time.
"""

from dataclasses import dataclass, field

from rich.style import Style
from rich.text import Text

from swbench.errors import printable
from swbench.profile.types import CONV, NORM, OTHER, PHASES, REMAINDER, Profile

DEPTH = 3
"""Levels of modules: stage, block, layer."""

LEGIBLE = 5
"""Least width in characters of a cell with a label."""

FILLS = {CONV: "-", NORM: "#", OTHER: " ", REMAINDER: "."}
"""Fill characters of the cells, so that kinds differ without colour."""
STYLES = {
    CONV: Style(bgcolor="#0072b2", color="white"),
    NORM: Style(bgcolor="#e69f00", color="black"),
    OTHER: Style(bgcolor="#b0b0b0", color="black"),
    REMAINDER: Style(bgcolor="#606060", color="white"),
}
"""Colours that colour-blind readers can distinguish (Okabe and Ito 2008)."""
LEGEND = "- conv   # norm   blank other   . no layer"


@dataclass
class _Node:
    label: str
    kind: str = OTHER
    own_s: float = 0.0
    children: dict[str, "_Node"] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return self.own_s + sum(child.seconds for child in self.children.values())


def icicle(profile: Profile, width: int = 100) -> Text:
    """Both phases at one scale, each with `DEPTH` rows. A module too short for a character is left
    out of the picture, but not of the times.
    """
    longest = max(profile.total_s(phase) for phase in PHASES)
    drawing = Text(no_wrap=True)
    for phase in PHASES:
        total_s = profile.total_s(phase)
        root = _tree(profile, phase)
        scale = width / longest if longest > 0 else 0.0
        drawing.append(f"{phase} {total_s * 1e3:.4g} ms\n")
        for depth in range(1, DEPTH + 1):
            drawing.append_text(_row(root, depth, scale)).append("\n")
    return drawing.append(LEGEND)


def _tree(profile: Profile, phase: str) -> _Node:
    root = _Node("")
    for layer in profile.layers:
        node = root
        steps = (
            [layer.path]
            if layer.kind == REMAINDER
            else [step for step in layer.path.split(".") if step]
        )
        for step in steps:
            node = node.children.setdefault(step, _Node(step))
        node.kind, node.own_s = layer.kind, max(0.0, layer.seconds(phase))
    return root


def _row(root: _Node, depth: int, scale: float) -> Text:
    row = Text(no_wrap=True)
    end_s = 0.0
    for node, level in _cut(root, depth):
        end_s += node.own_s if level < depth and node.children else node.seconds
        cells = round(end_s * scale) - len(row)
        if cells > 0:
            named = level == depth
            row.append_text(
                _cell(
                    printable(node.label) if named else "",
                    node.kind,
                    cells,
                    bool(node.children) and named,
                )
            )
    return row


def _cut(node: _Node, depth: int, level: int = 0):
    """The nodes at `depth`, the leaves above it, and nodes above for their own time, in forward
    order.
    """
    if level == depth or not node.children:
        yield node, level
        return
    for child in node.children.values():
        yield from _cut(child, depth, level + 1)
    yield node, level


def _cell(label: str, kind: str, cells: int, container: bool) -> Text:
    fill = " " if container else FILLS[kind]
    inside = f"|{label}"[:cells] if label and cells >= LEGIBLE else "|" if cells > 1 else ""
    style = Style(underline=True) if container else STYLES[kind]
    return Text(inside.ljust(cells, fill), style=style)
