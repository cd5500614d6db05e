"""Records the spectra behind `--spectrum gradients`: what Shampoo would precondition with, from the
training of a small network on scikit-learn's digits.

    python -m benchmarks.gradient_spectra      # rewrites swbench/solvers/gradient_spectra.csv

A perceptron 64-256-256-10 with ReLU is trained by Adam in float64 on 8×8 images of digits. After
10 and 300 steps the Gram matrices L = Σ G Gᵀ and R = Σ Gᵀ G of the gradients G so far (Gupta, Koren
and Singer 2018, algorithm 1, without ε) of the two layers into the hidden units are decomposed. A
column of the file is one spectrum, largest first, divided by its largest, and at least `SMALLEST`:
a Gram matrix of fewer gradients than rows has no rank there, and ε of 1e-6 covers it.
"""

import csv
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

FILE = Path(__file__).parents[1] / "swbench" / "solvers" / "gradient_spectra.csv"
STEPS, BATCH, WIDTH, RATE, SEED = (10, 300), 64, 256, 1e-3, 0
SMALLEST = 1e-12


def spectra() -> dict[str, list[float]]:
    """Name -> `WIDTH` eigenvalues."""
    torch.manual_seed(SEED)
    torch.set_default_dtype(torch.float64)
    digits = load_digits()
    images = torch.from_numpy(digits.data) / 16
    labels = torch.from_numpy(digits.target)
    net = nn.Sequential(
        nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10)
    )
    adam = torch.optim.Adam(net.parameters(), lr=RATE)
    grams = {
        "first-left": (net[0], lambda g: g @ g.T),
        "hidden-left": (net[2], lambda g: g @ g.T),
        "hidden-right": (net[2], lambda g: g.T @ g),
    }
    sums = dict.fromkeys(grams, 0.0)
    columns = {}
    for step in range(1, max(STEPS) + 1):
        chosen = torch.randint(len(images), (BATCH,))
        loss = nn.functional.cross_entropy(net(images[chosen]), labels[chosen])
        adam.zero_grad()
        loss.backward()
        for name, (layer, gram) in grams.items():
            sums[name] = sums[name] + gram(layer.weight.grad)
        adam.step()
        if step in STEPS:
            for name, total in sums.items():
                lam = torch.linalg.eigvalsh(total).flip(0)
                columns[f"{name}-{step}"] = (lam / lam[0]).clamp_min(SMALLEST).tolist()
    return columns


def main() -> None:
    """Train and write the file."""
    columns = spectra()
    with FILE.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(
            [f"{value:.4g}" for value in row] for row in zip(*columns.values(), strict=True)
        )


if __name__ == "__main__":
    main()
