"""A digest of the C sources: a library built from other sources would be called with the wrong
arguments.
"""

import hashlib
from pathlib import Path

SOURCES = Path(__file__).parent / "src"


def digest(folder: Path = SOURCES) -> str | None:
    """A digest that changes with the name or content of any source in `folder`; None where the
    sources are not installed.
    """
    files = sorted(folder.glob("*.[ch]"))
    content = b"\0".join(file.name.encode() + b"\0" + file.read_bytes() for file in files)
    return "h" + hashlib.sha256(content).hexdigest()[:16] if files else None
