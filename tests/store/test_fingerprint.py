"""The fingerprint of a run covers the code that its timings depend on."""

from swbench.store import fingerprint


def test_native_kernels_and_the_table_behind_auto_belong_to_the_timed_code():
    timed = fingerprint.code()
    assert {
        "native/library.py",
        "native/src/algebra.c",
        "solvers/measured.csv",
        "machine/hardware.py",
        "worker/main.py",
    } <= set(timed)
    assert not [name for name in timed if name.startswith(("report/", "cli/"))]


def test_every_part_of_the_timed_code_exists():
    """A folder that was renamed would leave the fingerprint without a word."""
    timed = fingerprint.code()
    for part in fingerprint.TIMED:
        assert any(name == part or name.startswith(f"{part}/") for name in timed), part
