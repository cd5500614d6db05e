"""Running under torchrun: the first of its processes measures, prints and stores; ranks of the cases are started afresh for every replicate."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from swbench.errors import OptionError


class Place(NamedTuple):
    """Where a process is among those that torchrun started: its rank, how many there are, and how many of them on this machine."""

    rank: int
    world: int
    local_world: int


def place(environ: Mapping[str, str] = os.environ) -> Place | None:
    """Where torchrun put this process; None where it was not started by torchrun."""
    if "TORCHELASTIC_RUN_ID" not in environ:
        return None
    return Place(*(int(environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")))


def leads(options: dict[str, Any], environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is the one that measures. Under torchrun its number of processes becomes that of the cases, unless options name one.

    A process is a replicate's, so torchrun's own processes cannot be the ranks: rank 0 starts fresh ones, and the others have
    nothing to do. Raises OptionError for more processes than this machine was given.
    """
    here = place(environ)
    if here is None:
        return True
    if here.world != here.local_world:
        raise OptionError(f"torchrun started {here.world} processes on several machines; measure on one: torchrun --nproc-per-node {here.local_world}")
    if here.rank > 0:
        return False
    options["worlds"] = options["worlds"] or (here.world,)
    if max(options["worlds"]) > here.world:
        raise OptionError(f"--nproc {max(options['worlds'])} is more than the {here.world} processes of torchrun; give torchrun --nproc-per-node as many")
    return True
