"""What the solvers are judged against: float64 eigenvectors of the very matrices they were
given.
"""

import torch

from swbench.solvers.eigen_backward import daleckii_krein

DEGENERATE = ("identity", "two-eightfold", "rank-deficient", "gap=1e-4")
REGULAR = ("kappa=1e1", "kappa=1e2", "kappa=1e3", "kappa=1e4")


def decomposition(cov):
    return torch.linalg.eigh(cov.double())


def inverse_sqrt(cov):
    lam, d = decomposition(cov)
    return (d * lam.rsqrt().unsqueeze(-2)) @ d.mT


def gradient(cov, grad_w):
    return daleckii_krein(*decomposition(cov), grad_w.double())


def worst(computed, exact):
    """The largest relative Frobenius error over a batch."""
    difference = (computed.double() - exact).flatten(1).norm(dim=1)
    return (difference / exact.flatten(1).norm(dim=1)).max().item()
