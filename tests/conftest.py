"""Shared settings of the tests: two threads at most, no CUDA unless a test asks for it."""

import sys

import pytest


@pytest.fixture(autouse=True)
def seeded():
    """Every test starts from the same random state; tests that load no torch stay without it."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
