"""What a run's timings depend on is in its fingerprint."""

from swbench.store import fingerprint


def test_native_kernels_and_the_table_behind_auto_belong_to_the_timed_code():
    timed = fingerprint.code()
    assert {
        "native/library.py",
        "native/src/algebra.c",
        "norms/measured.csv",
        "machine/hardware.py",
        "engine/worker.py",
    } <= set(timed)
    assert not [name for name in timed if name.startswith(("report/", "cli/"))]
