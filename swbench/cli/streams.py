"""The standard streams: messages on stderr, and streams that are closed, full, without a reader, or
whose encoding lacks characters of the tables.
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


def open_missing_streams() -> None:
    """Open missing standard streams on /dev/null. Otherwise a file of a run would get their
    descriptor, and their output.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  for as long as the process lives


_SIGNS = "≈ ± × · ⊙ √ ∂ … ≤ ≥ → ← – − ⁻ ‖ µ μ § ½ ¼ ⟨ ⟩ ─ ━ │ ├ └ █ ★ ●"
_ASCII = "~ +- x * * sqrt d ... <= >= -> <- - - - || u u section 1/2 1/4 < > - - | + + # * o"
STAND_INS = str.maketrans(dict(zip(_SIGNS.split(), _ASCII.split(), strict=True)))
"""ASCII replacements of the signs in tables, notes and the help."""


def stand_in(text: str) -> str:
    """`text` in ASCII: signs by `STAND_INS`, Greek letters by name, letters without accents, raised
    and lowered digits as plain ones; the rest as Python escapes it.
    """
    return "".join(map(_ascii, text.translate(STAND_INS)))


def _ascii(character: str) -> str:
    name = unicodedata.name(character, "")
    if name.startswith("GREEK") and " LETTER " in name:
        letter = name.partition(" LETTER ")[2].split()[0].lower().replace("lamda", "lambda")
        return letter.capitalize() if "CAPITAL" in name else letter
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return plain or ("" if unicodedata.combining(character) else ascii(character)[1:-1])


def install_stand_ins() -> None:
    """Write characters that stdout and stderr cannot encode as `stand_in` replaces them."""
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
    """A codec of ASCII under another name: click takes an ASCII stream for a misconfiguration and
    writes UTF-8.
    """
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
    """Print `lines` on stderr, with control characters escaped. An error of stderr is ignored."""
    text = "\n".join(map(printable, lines))
    with contextlib.suppress(OSError):
        print(f"{program.words()[-1]}: {text}", file=sys.stderr)


def discard(stream: TextIO) -> None:
    """Redirect `stream` to /dev/null, so that its buffered output is lost and cannot fail."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: closed, or no file at all
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def flush_stderr() -> None:
    """Flush stderr, or discard its buffer: a failure at Python's own flush would replace the exit
    code.
    """
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        discard(sys.stderr)
