"""What comes back from the machine: one archive, in few pieces, rewritten after every step."""

import os
import tarfile
from pathlib import Path

PIECE_BYTES, MOST_PIECES = 15 * 2**20, 7
"""A machine returns eight files of 16 MiB: these, and the summary beside them."""


def rewrite(results: Path, out: Path) -> list[Path]:
    """Pack `results` to `out/session.tar.xz` (`session.tar.xz.0`, `.1` … where it takes several;
    `cat` joins them) and copy the summary beside it. The old archive stays whole until the new one
    is. Where it does not fit, the largest files are left out and named in `omitted-out.txt` inside.
    """
    out.mkdir(parents=True, exist_ok=True)
    files = sorted(
        (path for path in results.rglob("*") if path.is_file() and out not in path.parents),
        key=lambda path: path.stat().st_size,
    )
    packed, omitted = out / ".session.tar.xz", []
    while True:
        _pack(packed, results, files, omitted)
        if packed.stat().st_size <= PIECE_BYTES * MOST_PIECES or not files:
            break
        omitted.append(files.pop())
    pieces = _split(packed, out)
    summary = results / "summary.txt"
    if summary.exists() and summary.parent != out:
        (out / "summary.txt").write_bytes(summary.read_bytes())
    return pieces


def _pack(packed: Path, results: Path, files: list[Path], omitted: list[Path]) -> None:
    note = results / "left-out.txt"
    if omitted:
        note.write_text("".join(f"{path.relative_to(results)}\n" for path in omitted))
    with tarfile.open(packed, "w:xz", preset=3) as archive:
        for path in [*files, note] if omitted else files:
            archive.add(path, arcname=str(path.relative_to(results)))


def _split(packed: Path, out: Path) -> list[Path]:
    old = set(out.glob("session.tar.xz*"))
    size = packed.stat().st_size
    if size <= PIECE_BYTES:
        pieces = [out / "session.tar.xz"]
        os.replace(packed, pieces[0])
    else:
        pieces = []
        with open(packed, "rb") as packed_file:
            while block := packed_file.read(PIECE_BYTES):
                pieces.append(out / f"session.tar.xz.{len(pieces)}")
                pieces[-1].write_bytes(block)
        packed.unlink()
    for path in old - set(pieces):
        path.unlink()
    return pieces
