"""Warm-up, messages, the shared page: the small parts of the engine."""

import os
from collections import Counter
from typing import ClassVar

import pytest

from swbench.case import BASELINE, CONTROL, VARIANT, Case
from swbench.errors import DeviceError
from swbench.plan import Protocol
from swbench.probes.workload import Unsupported
from swbench.worker.heartbeat import Page
from swbench.worker.job import Job
from swbench.worker.messages import End, Failed, Measured, RoundTaken, Warm, decode, encode
from swbench.worker.session import Session, cause
from swbench.worker.warmup import WarmUp


def calls_until_warm(warm: WarmUp, seconds) -> int:
    for sample_s in seconds:
        if warm.done:
            break
        warm.add(sample_s, sample_s)
    return warm.calls


def test_warm_up_takes_its_calls_and_seconds_first():
    assert calls_until_warm(WarmUp(3, 0.0, 0.0), [1.0] * 50) == 3
    assert calls_until_warm(WarmUp(3, 20.0, 90.0), [1.0] * 50) == 20


def test_warm_up_goes_on_until_two_windows_agree():
    falling = [2.0 - 0.02 * call for call in range(40)] + [1.2] * 30
    assert 40 < calls_until_warm(WarmUp(3, 0.0, 1000.0), falling) <= 50
    assert calls_until_warm(WarmUp(3, 0.0, 1000.0), [1.0] * 50) == 10


def test_warm_up_ends_at_its_cap():
    assert calls_until_warm(WarmUp(3, 1.0, 20.0), [1.0 + 0.5 * call for call in range(90)]) == 8
    assert calls_until_warm(WarmUp(3, 2.0, 20.0), [17.0] * 9) == 3


MESSAGES = [
    Failed(case=1, status="crashed", detail="d"),
    Warm(case=0, calls=3, seconds=0.5),
    RoundTaken(
        index=0,
        order=(1, 0),
        samples={"0": {"forward_s": 1.0}},
        disturbance={"steal_s": 0.0},
        started=3.0,
    ),
    RoundTaken(
        index=0,
        order=(1,),
        samples={"1": {"forward_s": 1.0}},
        disturbance={},
        blocks={"1": {"gpu_sm_hz_after": 1e9}},
        started=3.0,
    ),
    Measured(
        case=0, measurements=(("error", "1", (float("inf"), 2.0)),), chosen={"solver": "eigh"}
    ),
    End(),
]


@pytest.mark.parametrize("message", MESSAGES)
def test_messages_survive_the_pipe(message):
    again = decode(encode(message), 2)
    assert encode(again) == encode(message)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[1, 2]",
        b'["End", {"x": 1}]',
        b'["Failed", {"case": 2, "status": "crashed", "detail": ""}]',
        b'["Failed", {"case": 0, "status": "odd", "detail": ""}]',
        b'["Warm", {"case": 0, "calls": 1, "seconds": NaN}]',
        b'["RoundTaken", {"index": 0, "order": [7], "samples": {}, "disturbance": {}, '
        b'"started": 0}]',
        b'["RoundTaken", {"index": 0, "order": [0], "samples": {"0": {"forward_s": "x"}}, '
        b'"disturbance": {}, "started": 0}]',
        b'["RoundTaken", {"index": 0, "order": [0], "samples": {}, "disturbance": {}, '
        b'"blocks": {"0": {"x": NaN}}, "started": 0}]',
        b'["RoundTaken", {"index": 0, "order": [0], "samples": {}, "disturbance": {}, '
        b'"blocks": {"2": {}}, "started": 0}]',
        b'["Measured", {"case": 0, "measurements": [["m", 1, [1.0]]], "chosen": {}}]',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_what_is_no_message_is_refused(line):
    with pytest.raises(ValueError, match="no message"):
        decode(line, 2)


def test_both_ends_of_a_page_see_the_same():
    handle = Page.file()
    one, other = Page(handle), Page(handle)
    os.close(handle)
    assert other.read()[:2] == (None, "starting")
    one.begin(3, "timing")
    assert other.read()[:2] == (3, "timing")
    assert other.read()[2] >= 0
    one.close()
    other.close()


@pytest.mark.parametrize(
    ("problem", "status"),
    [
        (Unsupported("no"), "unsupported"),
        (DeviceError("no"), "unsupported"),
        (MemoryError(), "out_of_memory"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), "out_of_memory"),
        (
            RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
            "out_of_memory",
        ),
        (ValueError("out of memory of what I did"), "crashed"),
        (RuntimeError("shapes differ"), "crashed"),
    ],
)
def test_exceptions_become_statuses(problem, status):
    assert cause(problem)[0] == status


def prepared(replicate: int) -> tuple[list[str], list[str]]:
    """The roles in the order in which a replicate built them and warmed them up."""
    built, warmed = [], []

    class Cell:
        chosen: ClassVar = {}

        def __init__(self, case):
            built.append(case.role)
            self._role = case.role

        def call(self):
            if self._role not in warmed:
                warmed.append(self._role)
            return {"forward_s": 1.0}

        def finish(self):
            return []

    cases = tuple(Case(model="fake", role=role) for role in (BASELINE, CONTROL, VARIANT))
    protocol = Protocol(
        iterations=4, replicates=1, warmup_calls=1, warmup_s=0.0, warmup_cap_s=0.0, seed=7
    )
    job = Job(
        group="prepared",
        cases=cases,
        replicate=replicate,
        attempt="1",
        protocol=protocol,
        workloads={},
        log="",
    )
    Session(job, Cell, lambda message: None, read=dict).run()
    return built, warmed


def test_building_and_warming_up_first_falls_to_every_case_alike():
    """Otherwise what the first place costs is part of every ratio to the baseline, in all
    replicates alike.
    """
    found = [prepared(replicate) for replicate in range(60)]
    for stage in (0, 1):
        firsts = Counter(one[stage][0] for one in found)
        assert set(firsts) == {BASELINE, CONTROL, VARIANT}
        assert max(firsts.values()) < 36, "a third of 60, and four standard deviations more"
    assert any(built != warmed for built, warmed in found)
    assert prepared(3) == found[3]
