"""The self-test on a fake GPU: a correct clock passes, a wrong one does not, and one that cannot be
judged names a remedy.
"""

import functools
import itertools
import math
import random

import pytest
from fake_executor import FakeExecutor
from fake_gpu import FakeGpu
from fake_nvml import FakeNvml

from swbench.case import BASELINE, Case
from swbench.probes.nvml import device_with_uuid
from swbench.run import run
from swbench.selftest import FAILED, INCONCLUSIVE, PASSED, SKIPPED, gpu, selftest
from swbench.selftest import gpu_workloads as selftest_gpu
from swbench.selftest.measuring import RunIncomplete
from swbench.stats.intervals import Interval
from swbench.store import RunWriter, load

NVML_HZ = 1.98e9


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Networks and products that a CPU computes at once; times come from the fake device."""
    monkeypatch.setattr(
        gpu, "delays", functools.partial(gpu.delays, model="resnet20", image=8, batch=2, classes=10)
    )
    monkeypatch.setattr(gpu, "SIDE", 8)
    monkeypatch.setattr(gpu, "REPLICATES", 3)
    monkeypatch.setattr(gpu, "ROUNDS", 4)


@pytest.fixture
def measuring(tmp_path):
    """`measure` on a fake device of `hz`, with a do_bench that reads `theirs` times as long as a
    tick.
    """

    def measuring(hz=NVML_HZ, theirs=1.0, has_clock=True, only=""):
        def measure(plan, target):
            if only not in target:
                raise RunIncomplete("not part of this test")
            rng, tick_s = random.Random(0), 1e-6 if target.endswith("CycleWorkload") else 0.02
            device = FakeGpu(
                script=(tick_s * math.exp(rng.gauss(0, 1e-4)) for _ in itertools.count()), hz=hz
            )
            nvml = device_with_uuid(
                FakeNvml(fail={} if has_clock else {"nvmlDeviceGetClockInfo": 0}), device.uuid
            )
            make = {
                "CycleWorkload": lambda case: selftest_gpu.CycleWorkload(case, device, nvml),
                "ProductWorkload": lambda case: selftest_gpu.ProductWorkload(
                    case, device, lambda call: None if theirs is None else theirs * tick_s
                ),
                "DelayedGpuWorkload": lambda case: selftest_gpu.DelayedGpuWorkload(
                    case, device, nvml
                ),
            }[target.removeprefix(gpu.WORKLOADS_MODULE)]
            writer = RunWriter.create(tmp_path, plan, {}, "selftest")
            run(plan, writer, FakeExecutor(make, device.clock), now=lambda: 0.0)
            return load(writer.path).rounds

        return measure

    return measuring


def outcomes(measure):
    return {outcome.name: outcome for outcome in gpu.checks(measure)}


def test_a_sound_clock_passes_everything(measuring):
    outcomes_by_name = outcomes(measuring())
    assert {outcome.verdict for outcome in outcomes_by_name.values()} == {PASSED}, outcomes_by_name
    assert {
        "GPU: a known cycle count",
        "GPU: events against the wall",
        "GPU: agreement with do_bench",
    } <= set(outcomes_by_name)
    assert {
        f"GPU: {short}"
        for short in ("A/A F", "A/A F+B", "F + 2 %", "F + 5 %", "F+B + 2 %", "F+B + 5 %")
    } <= set(outcomes_by_name)
    assert "1.05" in outcomes_by_name["GPU: F+B + 5 %"].result


def test_slow_events_fail_by_the_number_of_cycles(measuring):
    outcomes_by_name = outcomes(measuring(hz=NVML_HZ / 1.03))
    assert outcomes_by_name["GPU: a known cycle count"].verdict == FAILED
    assert (
        outcomes_by_name["GPU: F + 5 %"].verdict == PASSED
    )  # the delay is calibrated by the same clock


def test_a_disagreement_with_do_bench_fails_and_no_triton_is_skipped(measuring):
    assert (
        outcomes(measuring(theirs=0.97, only="Product"))["GPU: agreement with do_bench"].verdict
        == FAILED
    )
    assert (
        outcomes(measuring(theirs=None, only="Product"))["GPU: agreement with do_bench"].verdict
        == SKIPPED
    )


def test_windows_and_do_bench_take_turns_after_one_warm_up(monkeypatch):
    """A device is cold at first and slower once warm: both must time it warm."""
    order, device = [], FakeGpu(tick_s=0.02)
    case = Case(model="known", device="cuda", threads=0, solver="side=8", role=BASELINE)

    def reference(call):
        order.append("theirs")
        return 0.02

    work = selftest_gpu.ProductWorkload(case, device, reference)
    sample, heat = work._windows.sample, work._warm_clock
    monkeypatch.setattr(work._windows, "sample", lambda: order.append("ours") or sample())
    monkeypatch.setattr(work, "_warm_clock", lambda: order.append("heat") or heat())
    before_s = device.clock.now()
    read = work.call()
    assert order[0] == "heat"
    assert order.count("heat") == 1
    turns = [frozenset(order[at : at + 2]) for at in range(1, len(order), 2)]
    assert turns == [frozenset(("ours", "theirs"))] * selftest_gpu.READINGS
    assert read == pytest.approx({"forward_s": 0.02, selftest_gpu.TRUTH: 0.02})
    assert device.clock.now() - before_s >= selftest_gpu.CLOCK_WARM_UP_S


def test_without_nvmls_clock_the_count_is_inconclusive_with_a_remedy(measuring):
    outcome = outcomes(measuring(has_clock=False, only="Cycle"))["GPU: a known cycle count"]
    assert outcome.verdict == INCONCLUSIVE
    assert "nvidia-ml-py" in outcome.remedy


def test_an_engine_that_does_not_finish_is_a_failed_outcome():
    def measure(plan, target):
        raise RunIncomplete("out_of_memory: 80 GiB")

    assert {outcome.verdict for outcome in gpu.checks(measure)} == {FAILED}


def around(ratio, half, confidence=0.95):
    return Interval(ratio, ratio * math.exp(-half), ratio * math.exp(half), confidence, 5)


@pytest.mark.parametrize(
    ("ratio", "half", "verdict"),
    [
        (1.002, 0.005, PASSED),
        (1.002, 0.02, INCONCLUSIVE),
        (1.012, 0.001, INCONCLUSIVE),
        (1.03, 0.002, FAILED),
        (0.97, 0.002, FAILED),
    ],
)
def test_a_a_is_within_a_per_cent_or_too_noisy_or_wrong(ratio, half, verdict):
    outcome = gpu.same("A/A", around(ratio, half), around(ratio, 3 * half, 0.999))
    assert outcome.verdict == verdict
    assert bool(outcome.remedy) == (verdict == INCONCLUSIVE)


def test_scattered_readings_are_inconclusive():
    assert gpu._near_one("x", [1.03] * 8, "wait").verdict == FAILED
    assert gpu._near_one("x", [0.9, 0.95, 1.02, 1.03, 1.05, 1.2], "wait").verdict == INCONCLUSIVE
    assert gpu._near_one("x", [], "wait").remedy == "wait"


def test_the_checks_on_a_gpu_can_run_alone(monkeypatch):
    from swbench import selftest as selftests

    monkeypatch.setattr(selftests, "replays", lambda runs, long: iter(()))
    measured_devices = []

    def measure(plan, target):
        measured_devices.append({case.device for group in plan.groups for case in group.cases})
        raise RunIncomplete("nothing is measured here")

    def never():
        raise AssertionError

    assert (
        len(list(selftest(measure=measure, no_gpu=never, devices=("cuda:1",))))
        == len(measured_devices)
        == 3
    )
    assert measured_devices == [{"cuda:1"}] * 3
    del measured_devices[:]
    list(selftest(measure=measure, no_gpu=never, devices=("cpu",)))
    assert measured_devices == [{"cpu"}] * 2


def test_without_a_gpu_the_self_test_gives_the_reason_once(monkeypatch):
    from swbench import selftest as selftests

    monkeypatch.setattr(selftests, "replays", lambda runs, long: iter(()))

    def measure(plan, target):
        raise RunIncomplete("nothing is measured here")

    outcomes_ = list(selftest(measure=measure, no_gpu=lambda: "NVML sees no GPU"))
    assert [
        (outcome.verdict, outcome.result) for outcome in outcomes_ if outcome.name == "GPU"
    ] == [(SKIPPED, "NVML sees no GPU")]
    assert not [outcome for outcome in outcomes_ if outcome.name.startswith("GPU:")]
