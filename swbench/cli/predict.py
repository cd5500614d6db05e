"""`predict`: the collectives of a training step, layer by layer, and the time that a latency and a
bandwidth imply for them.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from swbench.case import CONTROL, Case, device_kind
from swbench.cli import completion
from swbench.cli.options import CommaList, plugin_option, results_option
from swbench.errors import OptionError
from swbench.plan import Plan

if TYPE_CHECKING:
    from swbench.probes.step_collectives import Collective


class Quantity(click.ParamType):
    """A number with one of `units`, which map to SI units: `5us`, `25GB/s`."""

    def __init__(self, name: str, units: Mapping[str, float]) -> None:
        self.name, self._units = name, units

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(\S+)", value.strip())
        if match is None or match[2] not in self._units or not float(match[1]):
            self.fail(
                f"{value!r} must be a number above 0 and one of {', '.join(self._units)}",
                param,
                ctx,
            )
        return float(match[1]) * self._units[match[2]]


_LATENCY = Quantity("latency", {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0})
_BANDWIDTH = Quantity(
    "bandwidth", {"kB/s": 1e3, "MB/s": 1e6, "GB/s": 1e9, "Mbit/s": 1.25e5, "Gbit/s": 1.25e8}
)


@click.command("predict")
@click.argument("ref", metavar="SUITE|RUN", shell_complete=completion.suites_or_runs)
@results_option
@click.option("--device", "devices", type=CommaList(), help="Devices of a SUITE.  [default: cpu]")
@click.option(
    "--nproc",
    "worlds",
    type=CommaList(int),
    default="8,64,1024",
    show_default=True,
    help="Numbers of ranks.",
)
@click.option("--latency", "latency_s", type=_LATENCY, help="Of one message between ranks: 5us.")
@click.option("--bandwidth", "bytes_per_s", type=_BANDWIDTH, help="Of a rank's link: 25GB/s.")
@plugin_option
def predict(
    ref: str,
    results: str,
    devices: tuple[str, ...] | None,
    worlds: tuple[int, ...],
    latency_s: float | None,
    bytes_per_s: float | None,
    plugins: tuple[str, ...],
) -> int:
    """Account for what the ranks of a training step send, layer by layer, from shapes alone.

    With --latency and --bandwidth, the time that these imply. Nothing is measured or fitted.
    """
    from swbench import plugins as plugin_files

    if (latency_s is None) != (bytes_per_s is None):
        raise OptionError("--latency and --bandwidth belong together; give both or neither")
    if min(worlds) < 2:
        raise OptionError(f"--nproc {min(worlds)} sends nothing; give 2 or more")
    plugin_files.load(plugins)
    networks = _networks(_plan(ref, results, devices))
    from swbench.probes.step_collectives import step_collectives

    link = None if latency_s is None else (latency_s, bytes_per_s)
    click.echo(
        "Collectives of a training step and the bytes that each rank hands to them; then, for "
        "each number of ranks, "
        + (
            "the bytes that each sends."
            if link is None
            else "the seconds that they take one after the other, by a tree … by a ring."
        )
    )
    for heading, case in networks.items():
        _echo(heading, step_collectives(case), worlds, link)
    return 0


def _plan(ref: str, results: str, devices: tuple[str, ...] | None) -> Plan:
    from swbench import store, suite

    if ref in suite.names() or ref.endswith(".toml"):
        return suite.expand(suite.load(ref), suite.Options.of(devices=devices))
    return store.load(store.find(results, ref)).plan


def _networks(plan: Plan) -> dict[str, Case]:
    """One case of each network of `plan`, by its heading. Raises OptionError for solvers."""
    networks: dict[str, Case] = {}
    for group in plan.groups:
        for case, row in zip(group.cases, group.rows, strict=True):
            if case.kind != Case.kind:
                raise OptionError(
                    f"{plan.suite} measures solvers, which send nothing; choose a network suite"
                )
            if case.role != CONTROL:
                heading = f"{row} ({case.model}, {case.dtype}, {device_kind(case.device)})"
                networks.setdefault(heading, case)
    return networks


def _echo(
    heading: str,
    collectives: Sequence["Collective"],
    worlds: Sequence[int],
    link: tuple[float, float] | None,
) -> None:
    by_source: dict[str, list[Collective]] = {}
    for collective in collectives:
        by_source.setdefault(collective.source, []).append(collective)
    columns = "".join(f"{f'{world} ranks':>24}" for world in worlds)
    click.echo(f"\n{heading:48}{'calls':>8}{'bytes':>14}{columns}")
    for source, source_collectives in (*by_source.items(), ("all", collectives)):
        cells = "".join(f"{_cell(source_collectives, world, link):>24}" for world in worlds)
        nbytes = sum(collective.nbytes for collective in source_collectives)
        click.echo(f"  {source:46}{len(source_collectives):>8}{nbytes:>14,}{cells}")


def _cell(collectives: Sequence["Collective"], world: int, link: tuple[float, float] | None) -> str:
    if link is None:
        return f"{sum(collective.sent_bytes(world) for collective in collectives):,.0f}"
    times = [collective.seconds(world, *link) for collective in collectives]
    return f"{sum(tree for tree, _ in times):.3g} … {sum(ring for _, ring in times):.3g}"
