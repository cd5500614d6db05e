"""Shared settings of the tests: two threads at most, no CUDA unless a test asks for it."""

import pytest


@pytest.fixture(autouse=True)
def seeded():
    """Every test starts from the same random state."""
    import torch

    torch.manual_seed(0)
