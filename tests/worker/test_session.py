"""Warm-up, messages, heartbeat and session of a worker."""

import json
import math
import os
import random
import statistics
from collections import Counter
from dataclasses import replace
from typing import ClassVar

import pytest

from swbench.case import BASELINE, CONTROL, VARIANT, Case
from swbench.errors import DeviceError
from swbench.plan import Protocol
from swbench.probes.workload import Unsupported
from swbench.result import Measurement, Round
from swbench.worker.heartbeat import Heartbeat
from swbench.worker.job import Job
from swbench.worker.messages import End, Failed, Measured, RestartNeeded, Warm, decode, encode
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
    assert calls_until_warm(WarmUp(3, 0.0, 1000.0), [1.0] * 50) == 6


def test_noisy_calls_are_warm_when_they_no_longer_fall():
    """Windows of such calls never agree within 1 %, and each case was warmed up until the cap."""

    def calls(seed, warming):
        rng = random.Random(seed)
        return calls_until_warm(
            WarmUp(3, 0.0, 1000.0),
            [math.exp(rng.gauss(0, 0.1)) * (1 + warming * math.exp(-k / 4)) for k in range(500)],
        )

    assert statistics.median(calls(seed, 0.0) for seed in range(200)) <= 8
    assert statistics.median(calls(seed, 2.0) for seed in range(200)) >= 12


def test_warm_up_ends_at_its_cap():
    assert calls_until_warm(WarmUp(3, 1.0, 20.0), [1.0 + 0.5 * call for call in range(90)]) == 8
    assert calls_until_warm(WarmUp(3, 2.0, 20.0), [17.0] * 9) == 3


CASES = tuple(Case(model="fake", role=role) for role in (BASELINE, CONTROL))
FIRST, SECOND = (case.key for case in CASES)
JOB = Job(
    group="g",
    cases=CASES,
    replicate=1,
    attempt="a",
    protocol=Protocol(),
    workloads={"network": "module:Class"},
    log="a.log",
    pair=(FIRST,),
    read_out=(SECOND,),
)
ROUND = Round(
    group="g",
    replicate=1,
    attempt="a",
    index=0,
    order=(SECOND, FIRST),
    samples={FIRST: {"forward_s": 1.0}},
    disturbance={"steal_s": 0.0},
    started=3.0,
)
MEASURED = Measured(
    case=FIRST,
    measurements=(Measurement("error", "1", (float("inf"), 2.0)),),
    chosen={"solver": "eigh"},
)
MESSAGES = [
    Failed(case=SECOND, status="crashed", detail="d"),
    Warm(case=FIRST, calls=3, seconds=0.5),
    ROUND,
    replace(ROUND, blocks={SECOND: {"gpu_sm_hz_after": 1e9}}),
    MEASURED,
    End(),
    RestartNeeded(),
]


@pytest.mark.parametrize("message", MESSAGES)
def test_messages_round_trip(message):
    assert decode(encode(message), JOB) == message


def test_measurement_may_be_nan_and_a_time_may_not():
    nan = replace(MEASURED, measurements=(Measurement("error", "1", (float("nan"),)),))
    assert math.isnan(decode(encode(nan), JOB).measurements[0].samples[0])
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode(replace(ROUND, samples={FIRST: {"forward_s": float("nan")}}))


def test_job_round_trip():
    assert Job.from_json(json.loads(json.dumps(JOB.to_json()))) == JOB


def changed(message, **fields):
    """A message with other fields than its type allows."""
    kind, fields_sent = json.loads(encode(message))
    return json.dumps([kind, {**fields_sent, **fields}]).encode()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[1, 2]",
        b'["End", {"x": 1}]',
        changed(MESSAGES[0], case="0123456789abcdef"),
        changed(MESSAGES[0], status="odd"),
        changed(MESSAGES[0], detail=None),
        changed(MESSAGES[0], beside=-1),
        changed(MESSAGES[1], seconds=float("nan")),
        changed(MESSAGES[1], calls=1.5),
        changed(MESSAGES[1], colour="red"),
        changed(ROUND, order=["0123456789abcdef"]),
        changed(ROUND, order=[0]),
        changed(ROUND, order=[SECOND]),
        changed(ROUND, samples={FIRST: {"forward_s": "x"}}),
        changed(ROUND, samples={"2": {}}),
        changed(ROUND, blocks={FIRST: {"x": float("nan")}}),
        changed(ROUND, blocks={"2": {}}),
        changed(ROUND, disturbance={"steal_s": float("inf")}),
        changed(ROUND, index=-1),
        changed(ROUND, attempt="another"),
        changed(ROUND, replicate=0),
        changed(ROUND, group="another"),
        changed(MEASURED, case=0),
        changed(MEASURED, measurements=[["m", 1, [1.0]]]),
        changed(MEASURED, measurements=[["m", "1", ["odd"]]]),
        changed(MEASURED, chosen={"solver": 1}),
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_invalid_message_is_refused(line):
    with pytest.raises(ValueError, match="no message"):
        decode(line, JOB)


def test_heartbeat_is_shared_between_two_mappings():
    handle = Heartbeat.file()
    writer, reader = Heartbeat(handle), Heartbeat(handle)
    os.close(handle)
    assert reader.read()[:2] == (None, "starting")
    writer.begin(FIRST, "timing")
    assert reader.read()[:2] == (FIRST, "timing")
    assert reader.read()[2] >= 0
    writer.begin(None, "finishing")
    assert reader.read()[:2] == (None, "finishing")
    writer.close()
    reader.close()


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
    Session(job, Cell, lambda message: None, read=dict, manage_gc=False).run()
    return built, warmed


def test_every_case_is_built_and_warmed_up_first_equally_often():
    """Otherwise what the first place costs is part of every ratio to the baseline, in all
    replicates alike.
    """
    orders = [prepared(replicate) for replicate in range(60)]
    for stage in (0, 1):
        firsts = Counter(order[stage][0] for order in orders)
        assert set(firsts) == {BASELINE, CONTROL, VARIANT}
        assert max(firsts.values()) < 36, "a third of 60, and four standard deviations more"
    assert any(built != warmed for built, warmed in orders)
    assert prepared(3) == orders[3]
