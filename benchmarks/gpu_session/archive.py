"""What comes back from the machine: one archive, in few pieces, rewritten after every step."""

import os
import tarfile
from pathlib import Path

PIECE_BYTES, MOST_PIECES = 15 * 2**20, 7
"""A machine returns eight files of 16 MiB: these, and the summary beside them."""


def rewrite(results: Path, out: Path) -> list[Path]:
    """Pack `results` to `out/session.tar.xz` (`session.tar.xz.0`, `.1` … where it takes several;
    `cat` joins them) and copy the summary beside it. The old archive stays whole until the new one
    is. Where it does not fit, the largest files are left out and named in `left-out.txt` inside.
    """
    out.mkdir(parents=True, exist_ok=True)
    files = sorted(
        (one for one in results.rglob("*") if one.is_file() and out not in one.parents),
        key=lambda one: one.stat().st_size,
    )
    packed, left = out / ".session.tar.xz", []
    while True:
        _pack(packed, results, files, left)
        if packed.stat().st_size <= PIECE_BYTES * MOST_PIECES or not files:
            break
        left.append(files.pop())
    pieces = _split(packed, out)
    summary = results / "summary.txt"
    if summary.exists() and summary.parent != out:
        (out / "summary.txt").write_bytes(summary.read_bytes())
    return pieces


def _pack(packed: Path, results: Path, files: list[Path], left: list[Path]) -> None:
    note = results / "left-out.txt"
    if left:
        note.write_text("".join(f"{one.relative_to(results)}\n" for one in left))
    with tarfile.open(packed, "w:xz", preset=3) as archive:
        for one in [*files, note] if left else files:
            archive.add(one, arcname=str(one.relative_to(results)))


def _split(packed: Path, out: Path) -> list[Path]:
    old = set(out.glob("session.tar.xz*"))
    size = packed.stat().st_size
    if size <= PIECE_BYTES:
        pieces = [out / "session.tar.xz"]
        os.replace(packed, pieces[0])
    else:
        pieces = []
        with open(packed, "rb") as whole:
            while block := whole.read(PIECE_BYTES):
                pieces.append(out / f"session.tar.xz.{len(pieces)}")
                pieces[-1].write_bytes(block)
        packed.unlink()
    for one in old - set(pieces):
        one.unlink()
    return pieces
