"""The standard streams: remarks on stderr, and streams that are closed, full, left by their reader
or of an encoding that holds less than the tables say.
"""

import codecs
import contextlib
import io
import os
import sys
import unicodedata
from typing import TextIO

from swbench import program
from swbench.errors import printable


def open_closed() -> None:
    """Open the standard streams that the process was started without, on nothing: a file of a run
    would take their place, and get what is meant for them.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  for as long as the process lives


_SIGNS = "≈ ± × · ⊙ √ ∂ … ≤ ≥ → ← – − ⁻ ‖ µ μ § ½ ¼ ⟨ ⟩ ─ ━ │ ├ └ █ ★ ●"
_ASCII = "~ +- x * * sqrt d ... <= >= -> <- - - - || u u section 1/2 1/4 < > - - | + + # * o"
STAND_INS = str.maketrans(dict(zip(_SIGNS.split(), _ASCII.split(), strict=True)))
"""ASCII for the signs that tables, notes and the help use."""


def stand_in(text: str) -> str:
    """`text` in ASCII: signs by `STAND_INS`, Greek letters by name, letters without their accents
    and figures without their height; the rest as Python writes it.
    """
    return "".join(map(_ascii, text.translate(STAND_INS)))


def _ascii(character: str) -> str:
    name = unicodedata.name(character, "")
    if name.startswith("GREEK") and " LETTER " in name:
        letter = name.partition(" LETTER ")[2].split()[0].lower().replace("lamda", "lambda")
        return letter.capitalize() if "CAPITAL" in name else letter
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return plain or ("" if unicodedata.combining(character) else ascii(character)[1:-1])


def hold_everything() -> None:
    """From here on what stdout and stderr cannot encode is written as `stand_in` says."""
    codecs.register_error("stand-in", _replaced)
    codecs.register(_plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a notebook's or a test's need not be
            only_ascii = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding="plain" if only_ascii else None, errors="stand-in")


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return stand_in(error.object[error.start : error.end]), error.end


def _plain(name: str) -> codecs.CodecInfo | None:
    """ASCII by another name: click takes a stream of that name for a mistake and writes UTF-8."""
    if name != "plain":
        return None
    same = codecs.lookup("ascii")
    return codecs.CodecInfo(
        name=name,
        encode=same.encode,
        decode=same.decode,
        incrementalencoder=same.incrementalencoder,
        incrementaldecoder=same.incrementaldecoder,
    )


def notify(*lines: object) -> None:
    """`lines` on stderr, whatever is in the names they mention. A stderr that takes nothing any
    more stops nothing.
    """
    said = "\n".join(map(printable, lines))
    with contextlib.suppress(OSError):
        print(f"{program.words()[-1]}: {said}", file=sys.stderr)


def drop(stream: TextIO) -> None:
    """Nothing that `stream` has still to write goes anywhere, nor can fail."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: closed, or no file at all
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def settle() -> None:
    """Write what stderr still holds, or drop it: Python tries again at the very end, and a failure
    there would take the place of the exit code.
    """
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        drop(sys.stderr)
