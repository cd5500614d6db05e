"""Atomic writes, and reads of regular files, limited in size, that follow no symbolic link."""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

from swbench import codec
from swbench.errors import StoreError

LARGEST_JSON = 64 * 2**20
"""Bytes of a run.json or environment.json; a plan of 20,000 cases takes about 10 MB."""

_REMEDY = {
    errno.ENOSPC: "free some space, or choose another folder with --results",
    errno.EDQUOT: "free some of your quota, or choose another folder with --results",
    errno.EFBIG: (
        "this file system or process may not write files that large; choose another "
        "folder with --results"
    ),
    errno.EROFS: "it is mounted read-only; choose another folder with --results",
    errno.EACCES: "it may not be written by this user; choose another folder with --results",
    errno.EPERM: "it may not be written by this user; choose another folder with --results",
    errno.ENOENT: (
        "it is not there (was it moved or removed?); choose another folder with --results"
    ),
    errno.EEXIST: "a file is there, not a folder; choose another folder with --results",
    errno.ENOTDIR: (
        "a part of the path is a file, not a folder; choose another folder with --results"
    ),
}


def cannot(verb: str, path: Path, problem: OSError) -> StoreError:
    """The one-line StoreError for an operating-system error: what failed, where, and the remedy."""
    remedy = _REMEDY.get(
        problem.errno or 0, "check the disk, or choose another folder with --results"
    )
    return StoreError(f"cannot {verb} {path}: {problem.strerror or problem}; {remedy}")


def write_atomic(path: Path, text: str) -> None:
    """Write `text` atomically: `path` holds either its old content or all of the new one. Raises
    StoreError.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as problem:
        temporary.unlink(missing_ok=True)
        raise cannot("write", path, problem) from problem


def sync_folder(path: Path) -> None:
    """Make renames and new files in a folder survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_regular(path: Path, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a regular file, never of a symbolic link's target. Raises OSError."""
    handle = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a plain file")
    return handle


def read_bytes(path: Path, limit_bytes: int) -> bytes:
    """The content of a regular file. Raises StoreError where it cannot be read or is larger than
    `limit_bytes` bytes.
    """
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            data = file.read(limit_bytes + 1)
    except OSError as problem:
        if problem.errno == errno.ELOOP:
            raise StoreError(f"{path} is a link; a run folder holds its own files") from None
        raise StoreError(f"cannot read {path}: {problem.strerror or problem}") from None
    if len(data) > limit_bytes:
        raise StoreError(f"{path} is larger than {limit_bytes:,} bytes, which no run writes")
    return data


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises StoreError for anything else."""
    try:
        data = codec.parse(read_bytes(path, LARGEST_JSON))
    except ValueError as problem:
        raise StoreError(
            f"{path} is not JSON ({type(problem).__name__}); it was changed since it was written"
        ) from None
    if not isinstance(data, dict):
        raise StoreError(f"{path} holds no JSON object; it was changed since it was written")
    return data


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write an object as readable JSON, atomically. Raises StoreError."""
    write_atomic(path, json.dumps(data, indent=1, ensure_ascii=False, default=str) + "\n")
