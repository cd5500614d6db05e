"""The folder of one run: a norm's pictures and losses are written as soon as they exist, and the
same command takes them up again.
"""

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor, from_numpy

from swbench.errors import OptionError, printable

LOSSES = ("content_loss", "style_loss", "total_variation")


class Folder:
    """Where a run is kept. Raises OptionError where `path` cannot be written, or holds a run that
    `settings` differ from.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        shown = printable(path)
        record = path / "run.json"
        text = json.dumps(settings, indent=1, sort_keys=True) + "\n"
        try:
            path.mkdir(parents=True, exist_ok=True)
            if not record.exists():
                record.write_text(text)
            before = dict(json.loads(record.read_text()))
        except OSError as error:
            raise OptionError(
                f"{shown} cannot be written ({error.strerror}); name another folder with -o"
            ) from None
        except (TypeError, ValueError):
            raise OptionError(
                f"{printable(record)} is damaged; name another folder with -o"
            ) from None
        if before != json.loads(text):
            what = sorted(key for key in settings if before.get(key) != settings[key])
            raise OptionError(
                f"{shown} holds a run with other settings ({', '.join(what) or 'fewer'}); "
                "name another folder with -o"
            )

    def stored(self, norm: str, contents: Iterable[str]) -> dict[str, Any] | None:
        """The record that `keep` wrote of `norm`, or None where it or a picture is not there."""
        if not all((self.path / f"{content}-{norm}.png").exists() for content in contents):
            return None
        try:
            return json.loads((self.path / f"{norm}.json").read_text())
        except (FileNotFoundError, ValueError):
            return None

    def keep(self, norm: str, record: dict[str, Any], pictures: dict[str, Tensor]) -> None:
        """Write the pictures of `norm`, by the names of their contents, and then its `record`: row
        of the table and losses.
        """
        for content, picture in pictures.items():
            self.write_picture(f"{content}-{norm}", picture)
        unfinished = self.path / f"{norm}.json.part"
        unfinished.write_text(json.dumps(record) + "\n")
        unfinished.replace(self.path / f"{norm}.json")

    def write_picture(self, name: str, picture: Tensor) -> None:
        """Write (3, H, W) in [0, 1] as `name`.png."""
        pixels = (picture * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(self.path / f"{name}.png")

    def read_picture(self, name: str) -> Tensor:
        """The picture written as `name`.png."""
        with Image.open(self.path / f"{name}.png") as image:
            return from_numpy(np.asarray(image, np.float32) / 255).permute(2, 0, 1)

    def write_tables(self, records: dict[str, dict[str, Any]]) -> None:
        """Write results.csv, a row a norm, and losses.csv, a row a norm and step."""
        rows = [{"norm": norm, **record["row"]} for norm, record in records.items()]
        self._write_csv("results.csv", list(rows[0]), [list(row.values()) for row in rows])
        self._write_csv(
            "losses.csv",
            ["norm", "step", *LOSSES],
            [
                [norm, step, *losses]
                for norm, record in records.items()
                for step, losses in enumerate(record["losses"], 1)
            ],
        )

    def _write_csv(self, name: str, columns: list[str], rows: list[list[Any]]) -> None:
        with (self.path / name).open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([columns, *rows])
