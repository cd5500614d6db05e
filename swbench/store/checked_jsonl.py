"""JSON lines that know whether they are what was written: `["crc32", {…}]`, still JSON for any
other reader.
"""

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swbench import codec
from swbench.errors import StoreError
from swbench.store.files import cannot, open_inside, read_bytes

LARGEST_FILE = 4 * 2**30
LARGEST_LINE = 16 * 2**20
_HEAD = 12  # ["1234abcd",


def encode(record: Any) -> bytes:
    """One line, newline included, of an object or a dataclass."""
    body = codec.encode(record)
    return b'["%08x",%b]\n' % (zlib.crc32(body), body)


def decode(line: bytes) -> dict[str, Any]:
    """The record in a line without its newline. Raises ValueError where it is not what `encode`
    wrote.
    """
    body = line[_HEAD:-1]
    if (
        len(line) > LARGEST_LINE
        or line[:_HEAD] != b'["%08x",' % zlib.crc32(body)
        or line[-1:] != b"]"
    ):
        raise ValueError("its checksum does not match")
    record = codec.parse(body)
    if not isinstance(record, dict):
        raise ValueError("it is no record")
    return record


@dataclass(frozen=True)
class Scan:
    """What a file holds: records with their line numbers from 1, the damaged lines, and where the
    last whole line ends.
    """

    records: tuple[tuple[int, dict[str, Any]], ...]
    damaged: tuple[tuple[int, str], ...]
    whole_bytes: int
    torn_bytes: int
    ends: tuple[int, ...]


def scan(path: Path) -> Scan:
    """Read every line. A last line without its newline was torn by a crash: it is left out and
    counted in `torn_bytes`.
    """
    data = read_bytes(path, LARGEST_FILE) if path.exists() or path.is_symlink() else b""
    whole = data.rfind(b"\n") + 1
    records, damaged, ends, end = [], [], [], 0
    for number, line in enumerate(data[:whole].split(b"\n")[:-1], start=1):
        end += len(line) + 1
        ends.append(end)
        try:
            records.append((number, decode(line)))
        except ValueError as problem:
            damaged.append((number, str(problem)))
    return Scan(tuple(records), tuple(damaged), whole, len(data) - whole, tuple(ends))


class Appender:
    """A file that only grows, by whole lines. After a failed write the part of a line that got
    through is taken back.
    """

    def __init__(self, path: Path, whole_bytes: int | None = None) -> None:
        """Open or make the file; cut it at `whole_bytes` where given. Raises StoreError."""
        self.path = path
        try:
            self._handle = open_inside(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            if whole_bytes is not None:
                os.ftruncate(self._handle, whole_bytes)
            self._size = os.fstat(self._handle).st_size
        except OSError as problem:
            raise cannot("write", path, problem) from problem

    def append(self, records: Sequence[Any], *, sync: bool = False) -> None:
        """Write lines with one call, and wait for the disk where `sync`. Raises StoreError; then
        none of the lines is there.
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
            self._take_back()
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

    def _take_back(self) -> None:
        try:
            os.ftruncate(self._handle, self._size)
        except OSError as problem:
            raise StoreError(
                f"{cannot('write', self.path, problem)} (a torn last line is left; it "
                "is recovered when the run is read)"
            ) from problem
