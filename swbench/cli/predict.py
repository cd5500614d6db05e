"""`predict`: what communication would cost on more devices than there are, fitted to a stored run, and called a prediction throughout."""

import click

from swbench.errors import OptionError


@click.command("predict")
@click.argument("ref", metavar="RUN")
@click.option("--results", default="results", show_default=True, help="Folder that holds the runs.")
def predict(ref: str, results: str) -> int:
    """Predict what the normalisation layers of RUN would spend in communication on 8, 64 and 1024 devices."""
    from swbench import store
    from swbench.report import scaling

    run = store.load(store.find(results, ref))
    points = scaling.measured(run)
    if not points:
        raise OptionError(f"{ref} measured no communication; run a suite with --nproc 2 or more, or suite scaling-devices")
    link = scaling.fit(points)
    worlds = sorted({point.world for point in points})
    click.echo("PREDICTION, not a measurement: seconds a step that normalisation layers communicate, from a tree to a ring, on links like those measured.")
    bandwidth = f"{1e-9 / link.byte_s:.3g} GB/s" if link.byte_s else "unlimited (too fast to tell)"
    click.echo(
        f"Fitted to {len(points)} sizes and kinds among {', '.join(map(str, worlds))} processes of this run: "
        f"{link.latency_s * 1e6:.3g} µs a step, {bandwidth}; the fit is off by {link.worst:.0%} at most."
    )
    rows: dict[str, list[scaling.Prediction]] = {}
    for one in scaling.predict(run, link):
        rows.setdefault(one.row, []).append(one)
    click.echo(f"{'Row':32}{'Layers':>8}" + "".join(f"{f'{world} devices':>24}" for world in scaling.WORLDS))
    for row, found in rows.items():
        click.echo(f"{row:32}{found[0].layers:>8}" + "".join(f"{f'{one.low_s:.3g} … {one.high_s:.3g}':>24}" for one in found))
    for row, found in rows.items():
        click.echo(f"{row}, a layer:".ljust(40) + "".join(f"{f'{one.low_s / one.layers:.3g} … {one.high_s / one.layers:.3g}':>24}" for one in found))
    return 0
