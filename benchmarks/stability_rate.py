"""The learning rate of suite `stability`: the largest at which batch normalisation still converges,
by bisection.

    python -m benchmarks.stability_rate

Batch normalisation converges at a rate where the final loss from every seed is at most half of that
at chance, in float32. The suite has what this prints, rounded down to a half, under
`learning_rate`.
"""

import math

import click
import torch

from swbench import suite
from swbench.case import TRAINING, StabilityCase
from swbench.probes.stability import TrainingWorkload
from swbench.probes.stability_training import CHANCE

CONVERGED = 0.5
"""The share of the loss at chance that a final loss may have."""


def converges(rate: float, steps: int, seeds: int) -> bool:
    """Whether BN does at this learning rate; the losses go to stdout."""
    case = StabilityCase(norm="bn", trial=TRAINING, steps=steps, seeds=seeds, learning_rate=rate)
    by_metric = {result.metric: result.samples for result in TrainingWorkload(case).finish()}
    losses, broken = by_metric["final_loss"], sum(by_metric["broken"])
    click.echo(
        f"{rate:8.4g}: {broken:.0f} of {seeds} broken, "
        f"losses {', '.join(f'{loss:.3f}' for loss in losses)}"
    )
    return not broken and max(losses) <= CONVERGED * CHANCE


@click.command()
@click.option("--low", default=1.0, help="A rate at which BN converges.")
@click.option("--high", default=16.0, help="A rate at which it does not.")
@click.option("--within", default=1.05, help="The ratio of the two at which to stop.")
@click.option("--seeds", default=5, help="Initial networks, all of which must converge.")
def main(low: float, high: float, within: float, seeds: int) -> None:
    """Bisect the logarithm of the learning rate."""
    torch.set_num_threads(1)
    steps = suite.load("stability").base["steps"]
    if not converges(low, steps, seeds) or converges(high, steps, seeds):
        raise click.ClickException("BN must converge at --low and not at --high; choose others")
    while high / low > within:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if converges(middle, steps, seeds) else (low, middle)
    click.echo(f"BN converges at {low:.3g} and not at {high:.3g}")


if __name__ == "__main__":
    main()
