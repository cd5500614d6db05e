"""Clocks and throttle reasons around each block of GPU timing, from the card to the table: only the
block that was throttled is marked.
"""

import dataclasses
from types import SimpleNamespace

import fakes
import pytest
from fake_clock import FakeClock
from fake_executor import FakeExecutor
from fake_gpu import FakeGpu
from fake_nvml import FakeNvml

from swbench import store
from swbench.probes.nvml import NvmlDevice, device_with_uuid
from swbench.report.build import build_table
from swbench.report.long_samples import samples
from swbench.result import FORWARD_BACKWARD
from swbench.run import run
from swbench.stats.samples import disturbed

ROUNDS = 10


class Hot:
    """A card that heat holds down in the middle of one block, in which that case takes twice its
    time. `seen`: a reading at its end shows it too.
    """

    def __init__(self, seen=False):
        self.clock = FakeClock()
        self.held_ns, self.reasons, self._seen = 0, 0, seen
        self.nvml = device_with_uuid(
            FakeNvml(
                nvmlDeviceGetViolationStatus=lambda: SimpleNamespace(violationTime=self.held_ns),
                nvmlDeviceGetCurrentClocksEventReasons=lambda: self.reasons,
            ),
            FakeGpu.uuid,
        )

    def workload(self, case):
        hot = self

        class Block:
            chosen = {}  # noqa: RUF012

            def __init__(self):
                self._calls = -2  # of the warm-up

            def call(self):
                hot.reasons = 0
                throttled = case.model == "b" and self._calls == 4
                self._calls += 1
                taken_s = 0.1 * (2 if throttled else 1) * (3 if case.model == "b" else 1)
                hot.clock.advance(taken_s)
                if throttled:
                    hot.held_ns += 200_000_000
                    hot.reasons = 0x40 if hot._seen else 0
                return {"forward_s": taken_s / 3, "forward_backward_s": taken_s}

            def finish(self):
                return []

        return Block()


def plan():
    made = fakes.plan("a", "b", iterations=2 * ROUNDS, replicates=2)
    (group,) = made.groups
    cases = tuple(dataclasses.replace(case, device="cuda", threads=0) for case in group.cases)
    return dataclasses.replace(made, groups=(dataclasses.replace(group, cases=cases),))


def measured(tmp_path, hot, look=None):
    made = plan()
    writer = store.RunWriter.create(tmp_path, made, {"label": "box"}, "test")
    run(made, writer, FakeExecutor(hot.workload, hot.clock, look or hot.nvml.readings))
    return store.load(writer.path)


@pytest.fixture
def stored(tmp_path):
    return measured(tmp_path, Hot())


def test_every_block_of_a_stored_round_has_its_own_readings(stored):
    for round_ in stored.rounds:
        assert round_.blocks.keys() == round_.samples.keys()
        for key, readings in round_.blocks.items():
            assert readings["wall_s"] == pytest.approx(round_.samples[key][FORWARD_BACKWARD])
            assert readings["gpu_sm_hz_before"] == readings["gpu_sm_hz_after"] == 1.98e9
        assert not [name for name in round_.disturbance if name.startswith("gpu")], (
            "nothing is joined for the round"
        )


def test_throttling_within_a_block_marks_only_that_block(stored):
    hot = stored.plan.groups[0].cases[3].key
    for replicate in range(2):
        rounds = [round_ for round_ in stored.rounds if round_.replicate == replicate]
        assert disturbed(rounds, stored.plan.groups[0].baseline_key) == {
            round_.place: frozenset({hot} if round_.index == 4 else ()) for round_ in rounds
        }
        assert rounds[4].blocks[hot]["gpu_thermal_s"] == pytest.approx(0.2)
        assert [round_.blocks[hot]["gpu_thermal_s"] for round_ in rounds[:4]] == [0.0] * 4


def test_block_that_starts_throttled_is_marked(tmp_path):
    stored = measured(tmp_path, Hot(seen=True))
    hot, hot_round = stored.plan.groups[0].cases[3].key, stored.rounds[4]
    at = hot_round.order.index(hot)
    assert disturbed(stored.rounds[:ROUNDS], stored.plan.groups[0].baseline_key)[
        hot_round.place
    ] == set(hot_round.order[at : at + 2])


def test_ratio_without_disturbed_omits_only_the_pair_with_the_throttled_block(stored):
    table = build_table(stored)
    rows = {row.label: row for row in table.rows}
    assert [
        rows[name].cell("ratio_undisturbed_gpu_fb").value for name in ("a", "b")
    ] == pytest.approx([1.0, 3.0])
    (note,) = [note for note in table.notes if note.startswith("Disturbed rounds")]
    assert (
        "0 of 20, 0.0 %. GPU blocks throttled: 2 of 80, 2 marked (at most 20 % of the pairs "
        "of a ratio)."
    ) in note
    assert sum(sample.place[-1] is True for sample in samples(stored)) == 2 * 2, (
        "one block of two metrics in each replicate"
    )


@pytest.mark.parametrize(("seen", "blocks"), [(False, True), (True, True), (True, False)])
def test_machine_line_reports_a_throttled_gpu(tmp_path, seen, blocks):
    """By the driver's count alone, or by a reading at the end of a block; not without the readings
    around blocks.
    """
    stored = measured(tmp_path, Hot(seen))
    rounds = tuple(
        dataclasses.replace(
            round_, disturbance={"wall_s": 1.0}, blocks=round_.blocks if blocks else {}
        )
        for round_ in stored.rounds
    )
    (line,) = [
        text
        for name, text in build_table(dataclasses.replace(stored, rounds=rounds)).footer
        if name == "Machine"
    ]
    assert line.endswith(", GPU throttled") is blocks


def test_gpu_without_readings_leaves_rounds_without_blocks(tmp_path):
    stored = measured(tmp_path, Hot(), NvmlDevice(None, None, "no NVML").readings)
    assert all(round_.blocks == {} for round_ in stored.rounds)
    assert not [note for note in build_table(stored).notes if "GPU blocks" in note]
    assert all(
        b'"blocks":{},' in line for line in (stored.path / "rounds.jsonl").read_bytes().splitlines()
    )
