"""The supplement's tables as data, to the printed digit."""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources.abc import Traversable

from swbench import shipped

TIMES = ("cpu_f_s", "cpu_fb_s", "gpu_f_s", "gpu_fb_s")

SETTINGS = {
    "table1": {"title": "Table 1", "image": (224, 224), "cpu": 1, "cuda": 1},
    "table2": {"title": "Table 2", "image": (713, 713), "cpu": 1, "cuda": 16},
}
"""Settings of the supplement's measurements. GPU batch 1 in Table 1 is inferred: 0.353 s over 72
matrices is the time of a GPU SVD of 2019 for each.
"""

HARDWARE = "Xeon E5-2682 v4 and Tesla V100, PyTorch of 2019"


@dataclass(frozen=True)
class PaperRow:
    """One printed row: figures in seconds and 10⁹ operations, as printed text."""

    model: str
    norm: str
    layers: int
    printed: dict[str, str]

    def value(self, name: str) -> float:
        """The figure called `name` (`gflops`, `cpu_f_s` …) as a number."""
        return float(self.printed[name])


@dataclass(frozen=True)
class PaperTable:
    """One table of the supplement. Empty `rows` stand for a table without the paper's figures."""

    name: str
    rows: tuple[PaperRow, ...] = ()

    @property
    def title(self) -> str:
        """`Table 1`, or the file's name."""
        return str(SETTINGS.get(self.name, {}).get("title", self.name))

    def row(self, norm: str, layers: int) -> PaperRow | None:
        """The row of this normalisation and number of whitened layers; None if the paper has
        none.
        """
        return next((row for row in self.rows if (row.norm, row.layers) == (norm, layers)), None)

    def ratio(self, norm: str, layers: int, name: str) -> float | None:
        """The paper's own ratio to its BN row; None if it has no such row."""
        row, base = self.row(norm, layers), self.row("bn", 0)
        return row.value(name) / base.value(name) if row and base else None

    def applies(self, image: tuple[int, int], device: str, batch: int | None) -> bool:
        """Whether the paper timed this image size and batch on this kind of device."""
        setting = SETTINGS.get(self.name)
        return setting is not None and tuple(image) == setting["image"] and batch == setting[device]

    def same_image(self, image: tuple[int, int]) -> bool:
        """Whether the paper's FLOPs are for this image size."""
        setting = SETTINGS.get(self.name)
        return setting is not None and tuple(image) == setting["image"]


def _read(name: str, path: Traversable) -> PaperTable:
    with path.open("r", encoding="utf-8", newline="") as lines:
        rows = tuple(
            PaperRow(
                line["model"],
                line["norm"],
                int(line["layers"]),
                {name: line[name] for name in ("gflops", *TIMES)},
            )
            for line in csv.DictReader(lines)
        )
    return PaperTable(name, rows)


@cache
def paper_table(name: str) -> PaperTable | None:
    """The supplement's table called `name` (`table1`, `table2`); None where there is no such
    table.
    """
    if name not in SETTINGS:  # a suite names its table; the name must not reach other files
        return None
    return _read(name, shipped.folder("paper").joinpath(f"{name}.csv"))
