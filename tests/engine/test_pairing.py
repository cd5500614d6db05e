"""Where a group does not fit the memory together, what does not is paired with the baseline, one case at a time."""

import dataclasses
from collections import Counter

import fakes
import pytest

from swbench import store
from swbench.case import BASELINE, CONTROL
from swbench.clock.fake_gpu import FakeGpu
from swbench.engine import Interrupted, events, run
from swbench.engine.fake import Dies, FakeExecutor
from swbench.engine.outlook import Outlook
from swbench.report.measured import MeasuredRun
from swbench.report.raw import samples
from swbench.report.table import build_table
from swbench.result import CRASHED, OK, OUT_OF_MEMORY, Measurement

MODELS = ("a", "b", "c")
SECONDS = {"good": 1.0, "a": 1.1, "b": 1.2, "c": 1.3}


def plan(device="cuda", models=MODELS, seed=0, iterations=6, **protocol):
    made = fakes.plan(*models, iterations=iterations, seed=seed, **protocol)
    (group,) = made.groups
    cases = tuple(dataclasses.replace(case, device=device, threads=0 if device == "cuda" else 1) for case in group.cases)
    return dataclasses.replace(made, groups=(dataclasses.replace(group, cases=cases),))


class Bench:
    """Runs plans on a fake card of `room` bytes, of which a network needs one, or what `needs` says for its model; a worker that ends gives all back."""

    def __init__(self, folder):
        self._folder, self._runs, self.gpu = folder, 0, FakeGpu()
        self.heard, self.observed = [], []

    def __call__(self, made, room, needs=None, writer=None, on_event=lambda event: None, crashes=lambda case: False, raises=lambda case, calls: False):
        gpu, bench, self.heard, needs = self.gpu, self, [], needs or {}
        self.observed = []

        class Network:
            chosen = {"solver": "fake"}  # noqa: RUF012

            def __init__(self, case):
                self._case, self._calls = case, -2  # of the warm-up
                self._take(needs.get(case.model, needs.get(case.role, 1)))

            def call(self):
                if crashes(self._case) and len(bench.jobs[-1].cases) == 3:
                    raise Dies
                self._calls += 1
                if len(bench.jobs[-1].cases) == 3 and raises(self._case, self._calls):
                    raise ZeroDivisionError("on purpose")
                gpu.clock.advance(SECONDS[self._case.model])
                return {"forward_s": SECONDS[self._case.model] / 3, "forward_backward_s": SECONDS[self._case.model]}

            def observe(self, metrics):
                bench.observed.append(self._case.model if self._case.role not in (BASELINE, CONTROL) else self._case.role)
                return [Measurement("gpu_utilisation", "1", (0.5,))]

            def timings(self):
                return [Measurement("block_iterations", "1", (float(len(bench.jobs)),))]

            def finish(self):
                return [Measurement("peak_bytes", "B", (float(len(bench.jobs)),)), *self.timings()]

            def _take(self, bytes_):
                if bench.held + bytes_ > room:
                    raise MemoryError(f"CUDA out of memory. Tried to allocate {bytes_} B")
                bench.held += bytes_

        class Fresh(FakeExecutor):
            def run(self, job, on_message):
                bench.held = 0
                return super().run(job, on_message)

        def hear(event):
            self.heard.append(event)
            on_event(event)

        self._runs += 1
        executor = Fresh(Network, gpu.clock)
        self.jobs = executor.jobs
        self.writer = writer or store.RunWriter.create(self._folder / str(self._runs), made, {"label": "box"}, "")
        run(made, self.writer, executor, hear, now=gpu.clock.now)
        return store.load(self.writer.path)

    def models(self):
        return [tuple(case.model if case.role not in (BASELINE, CONTROL) else case.role for case in job.cases) for job in self.jobs]


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def by_row(found, replicate=0):
    (group,) = found.plan.groups
    rows = dict(zip((case.key for case in group.cases), group.rows, strict=True))
    return {rows[one.case]: one for one in found.results if one.replicate == replicate}


def statuses(found, replicate=0):
    return {row: one.status for row, one in by_row(found, replicate).items()}


ALL_FINE = dict.fromkeys(("BN", "BN (control)", *MODELS), OK)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("room", [2, 3, 4, 5])
def test_every_row_is_measured_where_it_fits_beside_the_baseline(bench, device, room, seed):
    """Whatever is built last is what runs out; `seed` draws that order."""
    found = bench(plan(device, seed=seed), room)
    for replicate in range(2):
        assert statuses(found, replicate) == ALL_FINE
    assert not [event for event in bench.heard if isinstance(event, events.CellFailed)]
    cells = {cell.label: cell for cell in MeasuredRun(found).cells}
    for model in MODELS:
        timing = cells[model].times["forward_backward_s"]
        assert timing.ratio.estimate == pytest.approx(SECONDS[model])
        assert timing.absolute.iterations == 6
        assert timing.verdict == "slower"
    assert (len(bench.jobs) == 2) == (room == 5), "one worker a replicate where all fit"
    assert any("paired" in one.chosen for one in found.results) == (room < 5)


def test_only_the_case_that_ran_out_is_set_apart_and_from_the_start_the_next_time(bench):
    found = bench(plan(replicates=3), 4)
    first = bench.models()[:3]
    (apart,) = {row for row, one in by_row(found).items() if one.chosen.get("paired") == "one by one"}
    assert apart in MODELS, "the seed is chosen so"
    others = tuple(model for model in MODELS if model != apart)
    assert first == [(BASELINE, CONTROL, *MODELS), (BASELINE, CONTROL, *others), (BASELINE, CONTROL, apart)]
    assert bench.models()[3:] == [(BASELINE, CONTROL, *others), (BASELINE, CONTROL, apart)] * 2
    assert [(event.row, event.replicate) for event in bench.heard if isinstance(event, events.SetApart)] == [(apart, 0)]


def test_the_baseline_has_its_samples_of_every_worker_and_each_pair_is_of_one_round(bench):
    found = bench(plan(), 3)
    cells = by_row(found)
    workers = {one.attempt for one in found.rounds if one.replicate == 0}
    assert set(cells["BN"].attempts) == set(cells["BN (control)"].attempts) == workers
    for one in found.rounds:
        models = [case.model for case in found.plan.groups[0].cases if case.key in one.samples]
        assert models[:2] == ["good", "good"]
        assert len(models) == 3
    assert len(cells["BN"].samples("forward_s")) == 3 * len(workers)
    assert len(cells["BN"].samples("block_iterations")) == len(workers), "nothing that was timed is dropped"
    assert Counter(sample.case[3] for sample in samples(found) if sample.sample[1] == "forward_s") == {
        **dict.fromkeys(("BN", "BN (control)"), 2 * 9),
        **dict.fromkeys(MODELS, 2 * 3),
    }


def test_what_is_not_timed_is_read_out_of_a_baseline_once_a_replicate(bench):
    made = dataclasses.replace(plan(), metrics=("time", "utilisation"))
    found = bench(made, 3)
    assert Counter(bench.observed) == {BASELINE: 1, CONTROL: 1, **dict.fromkeys(MODELS, 1)}, "in the first replicate alone"
    for one in found.results:
        assert len(one.samples("peak_bytes")) == 1
    found = bench(made, 3, crashes=lambda case: case.role == BASELINE and len(bench.jobs) == 4)
    assert by_row(found)["BN"].status == CRASHED
    assert {row: len(one.samples("gpu_utilisation")) for row, one in by_row(found).items()} == dict.fromkeys(ALL_FINE, 1), "of one that died as well"
    assert by_row(found)["BN"].chosen["solver"] == "fake"


def test_the_control_gives_way_where_only_two_fit(bench):
    found = bench(plan(), 2)
    assert statuses(found) == ALL_FINE
    assert (BASELINE, CONTROL) in bench.models(), "which shows the noise floor"
    assert MeasuredRun(found).noise
    pairs = [models for models in bench.models() if len(models) == 2]
    assert {(BASELINE, model) for model in MODELS} < set(pairs)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_a_control_that_gave_way_is_told_stored_and_not_tried_beside_that_row_again(bench, device, seed):
    """Of one row, which is a pair from the start, as of several."""
    for models in (("a",), MODELS) if device == "cuda" else (("a",),):  # on a CPU some may be left with the baseline alone as it is
        found = bench(plan(device, models=models, seed=seed), 2)
        for replicate in range(2):
            assert {by_row(found, replicate)[model].chosen["paired"] for model in models} == {"one by one, without the control"}
        assert [tried for job, tried in zip(bench.jobs, bench.models(), strict=True) if job.replicate == 1] == [
            *((BASELINE, model) for model in models),
            (BASELINE, CONTROL),
        ]
        assert by_row(found, 1)["BN (control)"].chosen["paired"] == "one by one"
        assert {event.replicate for event in bench.heard if isinstance(event, events.SetApart)} == {0}
        assert any(note.startswith("Paired one by one") for note in build_table(found).notes)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_a_row_that_does_not_fit_beside_the_baseline_is_out_of_memory_and_no_other(bench, device, seed):
    found = bench(plan(device, seed=seed), 7, needs={"b": 7})
    assert statuses(found) == {**ALL_FINE, "b": OUT_OF_MEMORY}
    (told,) = {event.row for event in bench.heard if isinstance(event, events.CellFailed)}
    assert told == "b"
    assert "out of memory. Tried to allocate" in by_row(found)["b"].detail


def test_on_a_cpu_the_others_go_on_and_no_round_of_a_failed_pair_counts_twice(bench):
    found = bench(plan("cpu", replicates=1, seed=1), 7, needs={"b": 7})
    assert {row: len(one.samples("forward_s")) for row, one in by_row(found).items() if one.status == OK} == dict.fromkeys(ALL_FINE.keys() - {"b"}, 6)


@pytest.mark.parametrize("seed", range(4))
def test_a_baseline_that_fits_nowhere_is_out_of_memory_itself(bench, seed):
    found = bench(plan(seed=seed), 4, needs={"good": 9})
    assert statuses(found)["BN"] == OUT_OF_MEMORY


def test_nothing_fits(bench):
    found = bench(plan(), 0)
    assert set(statuses(found).values()) == {OUT_OF_MEMORY}
    assert len(bench.jobs) == 2 * 5, "what fails with the device to itself is not tried again"


def test_a_baseline_that_dies_in_a_pair_is_told_and_keeps_what_it_had(bench):
    died = []

    def crashes(case):
        fatal = case.role == BASELINE and len(bench.jobs) == 4
        died.append(fatal)
        return fatal

    found = bench(plan(replicates=1), 3, crashes=crashes)
    assert any(died)
    cells = by_row(found)
    assert cells["BN"].status == CRASHED
    assert cells["BN"].also
    assert [cells[model].status for model in MODELS] == [OK] * 3, "its own death is nobody else's"


def test_a_baseline_that_died_in_one_pair_is_measured_anew_for_every_row(bench):
    found = bench(plan(replicates=1), 3, crashes=lambda case: case.role == BASELINE and len(bench.jobs) == 4)
    assert by_row(found)["BN"].status == CRASHED
    cells = {cell.label: cell for cell in MeasuredRun(found).cells}
    for model in MODELS:
        assert cells[model].times["forward_backward_s"].ratio.estimate == pytest.approx(SECONDS[model])
        assert cells[model].times["forward_backward_s"].absolute.iterations == 6
    assert [event.row for event in bench.heard if isinstance(event, events.CellFailed)] == ["BN"]


def test_a_baseline_that_dies_in_every_pair_costs_two_workers_a_replicate(bench):
    found = bench(plan(), 3, crashes=lambda case: case.role == BASELINE)
    for replicate in range(2):
        assert statuses(found, replicate) == {**ALL_FINE, "BN": CRASHED}
        pairs = [models for job, models in zip(bench.jobs, bench.models(), strict=True) if job.replicate == replicate and len(models) == 3]
        assert sum(BASELINE in models for models in pairs) == 2
    assert (MODELS[-1],) in bench.models(), "it has no ratio, and its worker to itself"


def rounds_by_worker(bench):
    """The rounds that each worker was heard to take, with those of no use."""
    taken = Counter(event.round.attempt for event in bench.heard if isinstance(event, events.RoundDone))
    return [taken[event.attempt] for event in bench.heard if isinstance(event, events.ReplicateStarted)]


def test_on_a_cpu_nothing_is_timed_of_a_pair_in_which_one_half_has_no_memory(bench):
    """Whichever is built last has none; beside a control that had none the others go on."""
    taken = []
    for seed in range(6):
        found = bench(plan("cpu", replicates=1, seed=seed), 2)
        assert statuses(found) == ALL_FINE
        pairs = rounds_by_worker(bench)[1:]
        taken += pairs
        assert len({one.attempt for one in found.rounds} - {bench.jobs[0].attempt}) == sum(map(bool, pairs)), "all that was timed belongs to a result"
    assert set(taken) == {0, 6}


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_where_the_case_of_a_pair_fails_its_rounds_end_and_its_record_stays(bench, device):
    found = bench(plan(device, replicates=1), 3, raises=lambda case, calls: case.model == "a" and calls == 3)
    cells = by_row(found)
    assert {row: one.status for row, one in cells.items()} == {**ALL_FINE, "a": CRASHED}
    assert len(cells["a"].samples("forward_s")) == 2
    assert dict(zip(bench.models(), rounds_by_worker(bench), strict=True))[BASELINE, CONTROL, "a"] == 3
    assert {len(cells[row].samples("forward_s")) for row in ("b", "c")} == {6}
    assert {len(cells[row].samples("forward_s")) for row in ("BN", "BN (control)")} == {12}, "those of b and c"


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_where_the_baseline_of_a_pair_fails_what_was_measured_is_kept_with_its_ratio(bench, device):
    found = bench(plan(device, replicates=1), 3, raises=lambda case, calls: case.role == BASELINE and calls == 3 and len(bench.jobs) == 4)
    cells = {cell.label: cell for cell in MeasuredRun(found).cells}
    assert cells["BN"].status == CRASHED
    cut, *others = sorted(MODELS, key=lambda model: cells[model].times["forward_backward_s"].absolute.iterations)
    for model, rounds in ((cut, {2, 3}), *((other, {6}) for other in others)):
        timing = cells[model].times["forward_backward_s"]
        assert cells[model].status == OK
        assert timing.absolute.iterations in rounds
        assert timing.ratio.estimate == pytest.approx(SECONDS[model])


def test_a_baseline_that_fails_before_a_whole_round_leaves_its_pair_to_a_fresh_one(bench):
    found = bench(plan(replicates=1), 3, raises=lambda case, calls: case.role == BASELINE and len(bench.jobs) == 4)
    cells = {cell.label: cell for cell in MeasuredRun(found).cells}
    assert {cells[model].times["forward_backward_s"].absolute.iterations for model in MODELS} == {6}
    assert all(cells[model].times["forward_backward_s"].ratio for model in MODELS)


def test_a_smaller_batch_is_not_tried_where_every_row_fits_in_pairs(bench):
    made = plan()
    (group,) = made.groups
    smaller = tuple(dataclasses.replace(case, batch=case.batch + 1) for case in group.cases)
    made = dataclasses.replace(made, groups=(group, dataclasses.replace(group, name="smaller", cases=smaller, fallback_of=group.name)))
    found = bench(made, 3)
    assert {one.group for one in found.results} == {group.name}
    assert not [event for event in bench.heard if isinstance(event, events.FallingBack)]


@pytest.mark.parametrize("stop_at", [3, 14, 24, 31, 33, 40, 46])
def test_a_run_that_was_stopped_goes_on_with_the_same_pairs(bench, stop_at):
    def stop(event):
        if len(bench.heard) == stop_at:
            raise KeyboardInterrupt

    whole = bench(plan(), 3)
    with pytest.raises(Interrupted):
        bench(plan(), 3, on_event=stop)
    found = bench(plan(), 3, writer=store.resume(bench.writer.path, plan(), {}))
    assert [(one.case, one.replicate, one.status, one.chosen) for one in found.results] == [
        (one.case, one.replicate, one.status, one.chosen) for one in whole.results
    ]
    assert [len(one.samples("forward_s")) for one in found.results] == [len(one.samples("forward_s")) for one in whole.results]


def test_the_table_names_the_rows_that_were_paired(bench):
    notes = [note for note in build_table(bench(plan(), 3)).notes if note.startswith("Paired one by one")]
    assert len(notes) == 1
    assert all(f"{model} (cpu batch 1)" in notes[0] for model in MODELS)
    assert not [note for note in build_table(bench(plan(), 5)).notes if note.startswith("Paired")]


def test_a_row_that_did_not_fit_in_its_pair_either_is_not_called_paired(bench):
    (note,) = [note for note in build_table(bench(plan(), 3, needs={"b": 3})).notes if note.startswith("Paired one by one")]
    assert "b (cpu batch 1)" not in note
    assert all(f"{model} (cpu batch 1)" in note for model in "ac")
    assert not [note for note in build_table(bench(plan(), 9, needs={"b": 9})).notes if note.startswith("Paired")]


class Told:
    """The estimates that a run's events give, with the replicate in which each came."""

    def __init__(self, bench):
        self._bench, self._outlook, self.estimates = bench, Outlook(bench.gpu.clock.now), []

    def __call__(self, event):
        if (found := self._outlook.hear(event)) is not None:
            self.estimates.append((getattr(event, "replicate", None), found))


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("room", [2, 3, 4])
def test_the_estimate_of_a_run_counts_every_pair(bench, device, room):
    told, began = Told(bench), bench.gpu.clock.now()
    bench(plan(device, replicates=4, iterations=80), room, on_event=told)
    ((replicate, found),) = told.estimates
    assert replicate == 0
    assert found.seconds == pytest.approx(bench.gpu.clock.now() - began, rel=0.1)


def test_the_estimate_of_a_run_that_goes_on_counts_every_pair(bench):
    made = plan(replicates=4, iterations=80)

    def stop(event):
        if isinstance(event, events.ReplicateDone):
            raise KeyboardInterrupt

    began = bench.gpu.clock.now()
    with pytest.raises(Interrupted):
        bench(made, 3, on_event=stop)
    told = Told(bench)
    bench(made, 3, writer=store.resume(bench.writer.path, made, {}), on_event=told)
    ((replicate, found),) = told.estimates
    assert replicate == 1
    assert found.seconds == pytest.approx(bench.gpu.clock.now() - began, rel=0.1)
