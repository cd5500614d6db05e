"""Solver kernels in Triton, with one program for each tile of matrices. Importing this package does
not import Triton; importing its modules does.
"""

import importlib.util
import os
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

TILE_LIMIT = 64
"""The largest G: above it the tiles of one matrix no longer fit the registers of one program."""


def interpreted() -> bool:
    """True where Triton's interpreter runs the kernels on the host; it must have been set before
    Triton was imported.
    """
    return os.environ.get("TRITON_INTERPRET") == "1"


def missing(device: "str | torch.device") -> str | None:
    """The reason why Triton kernels cannot run on `device` here, with a remedy; None if
    they can.
    """
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed; it comes with the CUDA builds of torch for Linux"
    if not str(device).startswith("cuda") and not interpreted():
        return (
            "Triton kernels need a CUDA device; TRITON_INTERPRET=1 runs them on a CPU, "
            "slowly, for tests"
        )
    return None if interpreted() else _missing_launcher()


def _missing_launcher() -> str | None:
    """The reason why Triton cannot build the launcher of its kernels, which needs a C compiler and
    the headers of Python; None if it can.
    """
    if sys.platform != "linux":
        return None  # Triton for other systems brings its own compiler
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return (
            "Triton needs a C compiler to launch its kernels; install gcc or clang, or name "
            "one in CC"
        )
    if not (Path(sysconfig.get_path("include", "posix_prefix")) / "Python.h").exists():
        return (
            "Triton needs the headers of Python to launch its kernels; install them "
            "(python3-dev, python3-devel)"
        )
    return None


def tile_of(group: int) -> tuple[int, int]:
    """Width of the tile that holds matrices of `group`×`group`, and how many it holds side by side
    on its diagonal.

    Products need at least 16: four matrices of 4×4 or two of 8×8 share a tile, block-diagonally.
    Raises ValueError above `TILE_LIMIT`.
    """
    if group > TILE_LIMIT:
        raise ValueError(f"the Triton kernels take G up to {TILE_LIMIT}, not {group}")
    tile = max(16, 1 << (group - 1).bit_length())
    return tile, tile // group


def warps_of(tile: int) -> int:
    """Warps of a program: two for a tile of 16, four above. For a tile of 32 the compiler spills
    registers with two warps. For 64 it spills with any number, least with four.
    """
    return {16: 2, 32: 4, 64: 4}[tile]
