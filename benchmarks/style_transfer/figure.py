"""The figure: pictures side by side, and the losses of training."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

LABELS = {"bn": "BN", "in": "IN", "bw": "BW", "iw": "IW", "swa": "SW", "swb": "SW (b)", "ln": "LN"}
"""The supplement's names of the norms; SW is SW^a, {BW, IW}."""
_SIDE = 1.5
"""Inches of one picture."""
_FONT = {"font.family": "DejaVu Sans", "font.size": 9}


def label(norm: str) -> str:
    """The name of `norm` in the figure."""
    return LABELS.get(norm, norm)


def grid(
    path: Path, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[Tensor]]], caption: str
) -> None:
    """Draw pictures (3, H, W): a row a content, with its label, and a column a title; the
    caption stands below.
    """
    left, top, bottom, gap = 0.5, 0.34, 0.42, 0.05
    width = left + len(columns) * (_SIDE + gap) + 0.1
    height = top + len(rows) * (_SIDE + gap) + bottom
    with matplotlib.rc_context(_FONT):
        figure = Figure(figsize=(width, height), dpi=110)
        for row, (name, pictures) in enumerate(rows):
            for column, picture in enumerate(pictures):
                x = left + column * (_SIDE + gap)
                y = height - top - row * (_SIDE + gap) - _SIDE
                place = (x / width, y / height, _SIDE / width, _SIDE / height)
                axes = figure.add_axes(place, xticks=[], yticks=[], frame_on=False)
                axes.imshow(picture.permute(1, 2, 0).numpy(), interpolation="lanczos")
                if row == 0:
                    axes.set_title(columns[column], fontsize=11, pad=5)
                if column == 0:
                    axes.set_ylabel(name, labelpad=5, parse_math=False)
        figure.text(left / width, 0.16 / height, caption, fontsize=8, color="0.35")
        drawn = io.BytesIO()
        figure.savefig(drawn)
    # 256 colours: a third of the bytes for pictures this small
    with Image.open(drawn) as image:
        image.convert("RGB").quantize(256).save(path, optimize=True)


def curves(path: Path, losses: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """Draw content and style loss against the step, a line a norm."""
    with matplotlib.rc_context(_FONT):
        figure = Figure(figsize=(9, 3.4), dpi=110, layout="constrained")
        for index, (axes, title) in enumerate(
            zip(figure.subplots(1, 2), ("content loss", "style loss"), strict=True)
        ):
            for norm, history in losses.items():
                values = [step[index] for step in history]
                axes.plot(range(1, len(values) + 1), values, label=label(norm), linewidth=1)
            axes.set(ylim=(0, None), xlabel="step", title=title)
            axes.grid(alpha=0.3, linewidth=0.5)
            axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        figure.savefig(path)
