"""Runs under torchrun: the first of its processes measures, prints and stores; one on every other
machine starts the ranks there.
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
    """The position of a process under torchrun: its rank, the numbers of processes in all and on
    this machine, its rank on this machine, and the number of this machine and of all.
    """

    rank: int
    world: int
    local_world: int
    local_rank: int
    node: int
    nodes: int


def place(environ: Mapping[str, str] = os.environ) -> Place | None:
    """The position of this process under torchrun; None where torchrun did not start it."""
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


def run_under_torchrun(
    options: dict[str, Any],
    measure: Callable[["Nodes | None"], int],
    environ: Mapping[str, str] = os.environ,
) -> int:
    """Run this process by its position and return its exit status: one process measures, with the
    other nodes if there are any, and one on each of these follows it.

    The others exit at once: torchrun's own processes cannot be the ranks, which are started afresh
    for every replicate.
    """
    torchrun_place = place(environ)
    if torchrun_place is None:
        return measure(None)
    if torchrun_place.local_rank > 0:
        return 0
    if torchrun_place.node > 0:
        return _follow(torchrun_place, options)
    if torchrun_place.nodes == 1:
        set_world_sizes(options, torchrun_place)
        return measure(None)
    return _lead(torchrun_place, options, measure)


def set_world_sizes(options: dict[str, Any], torchrun_place: Place) -> None:
    """Set the number of processes of the cases to torchrun's, unless `options` name one, on as few
    nodes as hold it.

    Raises OptionError for numbers below 1, above torchrun's, and for those that the nodes cannot
    share equally.
    """
    options["worlds"] = options["worlds"] or (torchrun_place.world,)
    options["per_node"] = torchrun_place.local_world if torchrun_place.nodes > 1 else None
    for world in options["worlds"]:
        if world < 1:
            raise OptionError(f"--nproc must be at least 1 (processes), not {world}")
        if world > torchrun_place.world:
            raise OptionError(
                f"--nproc {world} is more than the {torchrun_place.world} processes of torchrun; "
                "give torchrun --nproc-per-node as many"
            )
        if world % (nodes := -(-world // torchrun_place.local_world)):
            raise OptionError(
                f"--nproc {world} cannot be shared equally by {nodes} nodes of "
                f"{torchrun_place.local_world} processes; choose a multiple of {nodes}"
            )


def _lead(
    torchrun_place: Place, options: dict[str, Any], measure: Callable[["Nodes | None"], int]
) -> int:
    nodes, code = node_group.Nodes.gather(torchrun_place.nodes, torchrun_place.local_world), 1
    try:
        set_world_sizes(options, torchrun_place)
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


def _follow(torchrun_place: Place, options: Mapping[str, Any]) -> int:
    plugins = plugin_files.load(options["plugins"])
    if model := options.get("model"):
        plugins += suite.permission(model)
    digests = plugin_files.digests(plugins)
    return follower.follow(
        rendezvous.Rendezvous().join(
            node=torchrun_place.node,
            processes=torchrun_place.local_world,
            environment=environment.record(),
            plugins=digests,
        )
    )
