"""Running under torchrun: the first of its processes measures, prints and stores; one on every
other machine starts the ranks there.
"""

import os
import signal
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from swbench.cli.lazy import environment, follower, node_group, plugin_files, rendezvous, suite
from swbench.errors import NodeLost, OptionError, SwbenchError

if TYPE_CHECKING:
    from swbench.ranks.nodes import Nodes


class Place(NamedTuple):
    """Where a process is among those that torchrun started: its rank, how many there are, how many
    of them on this machine, which machine of how many.
    """

    rank: int
    world: int
    local_world: int
    local_rank: int
    node: int
    nodes: int


def place(environ: Mapping[str, str] = os.environ) -> Place | None:
    """Where torchrun put this process; None where it was not started by torchrun."""
    if "TORCHELASTIC_RUN_ID" not in environ:
        return None
    return Place(
        *(
            int(environ[name])
            for name in (
                "RANK",
                "WORLD_SIZE",
                "LOCAL_WORLD_SIZE",
                "LOCAL_RANK",
                "GROUP_RANK",
                "GROUP_WORLD_SIZE",
            )
        )
    )


def under(
    options: dict[str, Any],
    measure: Callable[["Nodes | None"], int],
    environ: Mapping[str, str] = os.environ,
) -> int:
    """The exit status of this process, by its place: one measures, with the other nodes if there
    are any; one on each of these follows it.

    The others have nothing to do: torchrun's own processes cannot be the ranks, which are started
    afresh for every replicate.
    """
    here = place(environ)
    if here is None:
        return measure(None)
    if here.local_rank > 0:
        return 0
    if here.node > 0:
        return _follow(here, options)
    if here.nodes == 1:
        spread(options, here)
        return measure(None)
    return _lead(here, options, measure)


def spread(options: dict[str, Any], here: Place) -> None:
    """Let torchrun's number of processes be that of the cases, unless `options` name one, on as few
    nodes as hold it.

    Raises OptionError for none, for more processes than torchrun was given, and for numbers that
    the nodes cannot share equally.
    """
    options["worlds"] = options["worlds"] or (here.world,)
    options["per_node"] = here.local_world if here.nodes > 1 else None
    for world in options["worlds"]:
        if world < 1:
            raise OptionError(f"--nproc must be at least 1 (processes), not {world}")
        if world > here.world:
            raise OptionError(
                f"--nproc {world} is more than the {here.world} processes of torchrun; "
                "give torchrun --nproc-per-node as many"
            )
        if world % (nodes := -(-world // here.local_world)):
            raise OptionError(
                f"--nproc {world} cannot be shared equally by {nodes} nodes of "
                f"{here.local_world} processes; choose a multiple of {nodes}"
            )


def _lead(here: Place, options: dict[str, Any], measure: Callable[["Nodes | None"], int]) -> int:
    nodes, code = node_group.Nodes.gather(here.nodes, here.local_world), 1
    try:
        spread(options, here)
        code = measure(nodes)
    except (SwbenchError, KeyboardInterrupt) as problem:
        code = getattr(problem, "exit_code", 128 + getattr(problem, "number", signal.SIGINT))
        # torchrun ends this node because another one has ended
        if code == 128 + signal.SIGTERM and (lost := nodes.lost()):
            code = NodeLost.exit_code
            raise NodeLost(f"{lost}; {problem}") from None
        raise
    finally:
        nodes.end(code)  # all nodes end alike, or torchrun would wait for some of them
    return code


def _follow(here: Place, options: Mapping[str, Any]) -> int:
    given = plugin_files.load(options["plugins"])
    if model := options.get("model"):
        given += suite.permission(model)
    loaded = plugin_files.digests(given)
    return follower.follow(
        rendezvous.Rendezvous().join(
            node=here.node,
            processes=here.local_world,
            environment=environment.record(),
            plugins=loaded,
        )
    )
