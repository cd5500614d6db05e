"""Shared settings of the tests: two threads at most, no CUDA unless a test asks for it."""

import signal
import sys

import pytest

# A shell starts what it runs in the background with Ctrl-C ignored, and nohup with the end of the
# terminal, and programs started here would inherit that: tests that send it would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


LONGEST = (
    "tests/install/test_distributions.py",
    "tests/norms/test_triton_norms.py",
    "tests/docs/test_docs.py",
    "tests/norms/test_compiled_layers.py",
    "tests/cli/test_run_model.py",
    "tests/norms/test_synchronised_layers.py",
)
"""Files that take from half a minute to two: first, so that no core waits for one of them at the
end.
"""


def pytest_collection_modifyitems(items):
    places = {file: place for place, file in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(places)))


@pytest.fixture(autouse=True)
def seeded():
    """Every test starts from the same random state; tests that load no torch stay without it."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture
def model_tables():
    """Removes after the test what it has registered with `models.add`."""
    from swbench import models
    from swbench.models import sites

    tables = [models.TABLE._table, models.TABLE._objects, models._INPUTS]
    tables += [models._STRIDES, sites.PLACEMENTS, sites.NARROWEST]
    before = [table.copy() for table in tables]
    yield
    for table, old in zip(tables, before, strict=True):
        table.clear()
        table.update(old)
