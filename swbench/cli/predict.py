"""`predict`: what communication would cost on more devices than there are, fitted to a stored run,
and called a prediction throughout.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import click

from swbench.errors import OptionError

if TYPE_CHECKING:
    from swbench.report.link import Link
    from swbench.report.scaling import Check, Prediction


@click.command("predict")
@click.argument("ref", metavar="RUN")
@click.option("--results", default="results", show_default=True, help="Folder that holds the runs.")
def predict(ref: str, results: str) -> int:
    """Predict what the normalisation layers of RUN would spend in communication on 8, 64 and 1024
    devices.
    """
    from swbench import store
    from swbench.report import scaling

    run = store.load(store.find(results, ref))
    points = scaling.measured(run)
    if not points:
        raise OptionError(
            f"{ref} measured no communication; run a suite with --nproc 2 or more, "
            "or suite scaling-devices"
        )
    try:
        links = scaling.links(points)
    except ValueError as problem:
        raise OptionError(
            f"{ref} cannot be predicted from: {problem}; run it again with --nproc 2 or more"
        ) from None
    checks = scaling.check(run, links)
    click.echo(
        "PREDICTION, not a measurement: seconds a step that normalisation layers "
        "communicate, on links like those measured, ranks never late."
    )
    for line in (*_marks(links, checks), *map(_fitted, links.values())):
        click.echo(line)
    if any(len(link.worlds) == 1 for link in links.values()):
        click.echo(
            "Among one number of processes a call cannot be told from its steps, so the "
            "ranges are wide; --nproc 2,4,8 narrows them."
        )
    _echo_checks(checks)
    _echo_predictions(scaling.predict(run, links), scaling.WORLDS)
    return 0


def _marks(links: Mapping[str, "Link"], checks: Iterable["Check"]) -> Iterable[str]:
    """What a reader must know before the first number."""
    from swbench.report.scaling import DOES_NOT_HOLD, EXPLAINED, UNRELIABLE

    if (error := max(link.error for link in links.values())) > UNRELIABLE:
        yield (
            f"! UNRELIABLE: the fit misses points that were left out by {error:.0%}; take no "
            "number below for more than its order of magnitude."
        )
    known = [one for one in checks if one.exposed_s is not None]
    if failed := [one for one in known if one.verdict == DOES_NOT_HOLD]:
        yield (
            f"! DOES NOT HOLD HERE: {len(failed)} of {len(known)} rows cost more than "
            f"{EXPLAINED:g}× or less than 1/{EXPLAINED:g} of what is predicted of them "
            "on the processes they were measured on; what a link does not explain is ranks "
            "that wait for each other or for a core."
        )


def _fitted(link: "Link") -> str:
    bandwidth = f"{1e-9 / link.byte_s:.3g} GB/s" if link.byte_s else "bandwidth too high to tell"
    step = f" and {link.step_s * 1e6:.3g} µs a step" if len(link.worlds) > 1 else ""
    return (
        f"{link.kind} among {', '.join(map(str, link.worlds))} processes: "
        f"{link.call_s * 1e6:.3g} µs a call{step}, {bandwidth}; "
        f"points left out are missed by {link.error:.0%} (root mean square), {link.worst:.0%} "
        "at most."
    )


def _echo_checks(checks: Iterable["Check"]) -> None:
    click.echo(
        f"\n{'Where it was measured':32}{'Processes':>10}{'Batch':>7}"
        f"{'predicted, s':>14}{'measured, s':>22}"
    )
    for one in checks:
        measured = "" if one.exposed_s is None else f"{one.exposed_s:.3g} ± {one.noise_s:.2g}"
        click.echo(
            f"{one.row:32}{one.world:>10}{one.batch:>7}"
            f"{f'{one.predicted_s:.3g}':>14}{measured:>22}  {one.verdict}"
        )


def _echo_predictions(predictions: Iterable["Prediction"], worlds: Iterable[int]) -> None:
    rows: dict[str, list[Prediction]] = {}
    for one in predictions:
        rows.setdefault(one.row, []).append(one)
    click.echo(
        f"\n{'Predicted':32}{'Layers':>8}"
        + "".join(f"{f'{world} devices, s':>28}" for world in worlds)
    )
    for row, found in rows.items():
        click.echo(
            f"{row:32}{found[0].layers:>8}"
            + "".join(
                f"{f'{one.low_s:.3g} … {one.high_s:.3g} ±{one.error:.0%}':>28}" for one in found
            )
        )
    for row, found in rows.items():
        each = (
            f"{one.low_s / one.layers:.3g} … {one.high_s / one.layers:.3g} ±{one.error:.0%}"
            for one in found
        )
        click.echo(f"{row}, a layer:".ljust(40) + "".join(f"{text:>28}" for text in each))
