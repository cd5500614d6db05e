"""JSON lines with a checksum, `["crc32", {…}]`, which any JSON reader can read."""

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swbench import codec
from swbench.errors import StoreError
from swbench.store.files import cannot, open_regular, read_bytes

LARGEST_FILE = 4 * 2**30
LARGEST_LINE = 16 * 2**20
_PREFIX_BYTES = 12  # ["1234abcd",


def encode(record: Any) -> bytes:
    """One line, newline included, of an object or a dataclass."""
    body = codec.encode(record)
    return b'["%08x",%b]\n' % (zlib.crc32(body), body)


def decode(line: bytes) -> dict[str, Any]:
    """The record in a line without its newline. Raises ValueError where it is not what `encode`
    wrote.
    """
    body = line[_PREFIX_BYTES:-1]
    if (
        len(line) > LARGEST_LINE
        or line[:_PREFIX_BYTES] != b'["%08x",' % zlib.crc32(body)
        or line[-1:] != b"]"
    ):
        raise ValueError("its checksum does not match")
    record = codec.parse(body)
    if not isinstance(record, dict):
        raise ValueError("it is no record")
    return record


@dataclass(frozen=True)
class Scan:
    """The content of a file: records and damaged lines with their line numbers from 1, and the
    offsets at which lines end. `complete_bytes` is the end of the last complete line.
    """

    records: tuple[tuple[int, dict[str, Any]], ...]
    damaged: tuple[tuple[int, str], ...]
    complete_bytes: int
    torn_bytes: int
    ends: tuple[int, ...]


def scan(path: Path) -> Scan:
    """Read every line. A last line without its newline was torn by a crash: it is left out and
    counted in `torn_bytes`.
    """
    data = read_bytes(path, LARGEST_FILE) if path.exists() or path.is_symlink() else b""
    complete_bytes = data.rfind(b"\n") + 1
    records, damaged, ends, end = [], [], [], 0
    for number, line in enumerate(data[:complete_bytes].split(b"\n")[:-1], start=1):
        end += len(line) + 1
        ends.append(end)
        try:
            records.append((number, decode(line)))
        except ValueError as problem:
            damaged.append((number, str(problem)))
    return Scan(
        tuple(records), tuple(damaged), complete_bytes, len(data) - complete_bytes, tuple(ends)
    )


class Appender:
    """A file that grows by complete lines. A failed write is undone by truncating the file."""

    def __init__(self, path: Path, complete_bytes: int | None = None) -> None:
        """Open or create the file; truncate it to `complete_bytes` if given. Raises StoreError."""
        self.path = path
        try:
            self._handle = open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            if complete_bytes is not None:
                os.ftruncate(self._handle, complete_bytes)
            self._size = os.fstat(self._handle).st_size
        except OSError as problem:
            raise cannot("write", path, problem) from problem

    def append(self, records: Sequence[Any], *, sync: bool = False) -> None:
        """Write lines with one call; with `sync` wait for the disk. Raises StoreError, and then
        leaves none of the lines.
        """
        data = b"".join(encode(record) for record in records)
        try:
            if os.fstat(self._handle).st_nlink == 0:
                raise FileNotFoundError(2, "it was removed while the run was writing to it")
            view = memoryview(data)
            while view:
                view = view[os.write(self._handle, view) :]
            if sync:
                os.fsync(self._handle)
        except OSError as problem:
            self._truncate()
            raise cannot("write", self.path, problem) from problem
        self._size += len(data)

    def sync(self) -> None:
        """Wait until every line is on the disk. Raises StoreError."""
        try:
            os.fsync(self._handle)
        except OSError as problem:
            raise cannot("write", self.path, problem) from problem

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _truncate(self) -> None:
        try:
            os.ftruncate(self._handle, self._size)
        except OSError as problem:
            raise StoreError(
                f"{cannot('write', self.path, problem)} (a torn last line is left; it "
                "is recovered when the run is read)"
            ) from problem
