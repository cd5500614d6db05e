import os
import subprocess
import sys
import textwrap
import time

import pytest

from swbench.probes.disturbance import (
    Reader,
    difference,
    exceeds_rule,
    marked_rounds,
    quietness,
    read,
    severity,
)
from swbench.stats.disturbance_rule import absences, block_marks, usual_idle


def write(root, steal=10, wait=5_000_000, pressure=1_000_000, khz=2_000_000, threads=()):
    files = {
        **{
            f"proc/self/task/{number}/schedstat": f"{ran} {queued} 3\n"
            for number, (ran, queued) in enumerate(threads, start=1)
        },
        "proc/stat": f"cpu  100 0 50 1000 7 1 2 {steal} 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n",
        "proc/thread-self/schedstat": f"123456 {wait} 7\n",
        **{
            f"proc/pressure/{kind}": (
                f"some avg10=0.00 avg60=0.00 avg300=0.00 total={pressure}\nfull avg10=0 total=5\n"
            )
            for kind in ("cpu", "memory", "io")
        },
        **{
            f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq": f"{khz}\n"
            for core in range(os.cpu_count() + 1)
        },
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_every_counter_is_read_in_seconds_and_hertz(tmp_path):
    write(tmp_path)
    reader = Reader(root=tmp_path)
    before = reader.read()
    write(tmp_path, steal=110, wait=8_000_000, pressure=1_500_000, khz=1_500_000)
    change = difference(before, reader.read())
    reader.close()
    tick = 1 / os.sysconf("SC_CLK_TCK")
    assert change["steal_s"] == pytest.approx(100 * tick)
    assert change["busy_s"] == 0
    assert change["queued_s"] == pytest.approx(0.003)
    assert [change[f"pressure_{kind}_s"] for kind in ("cpu", "memory", "io")] == pytest.approx(
        [0.5] * 3
    )
    assert change["frequency_hz"] == pytest.approx(1.5e9)
    assert change["frequency_drop"] == pytest.approx(0.25)
    assert before["busy_s"] == pytest.approx(153 * tick)
    assert change["wall_s"] > 0


SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("threads", "active_s"),
    [
        ([(SECOND, 0)], 1.0),
        ([(SECOND, SECOND // 2)], 1.5),
        ([(SECOND, 0), (SECOND // 2, SECOND)], 1.5),
        ([(SECOND // 4, 0), (0, 0)], 0.25),
    ],
)
def test_time_in_which_no_thread_ran_or_was_ready_is_idle(tmp_path, threads, active_s):
    """The active time of the busiest thread is subtracted, because several may have been active at
    once.
    """
    write(tmp_path, threads=[(0, 0)] * len(threads))
    reader = Reader(root=tmp_path)
    before = reader.read()
    write(tmp_path, threads=threads)
    after = reader.read()
    reader.close()
    change = difference(before, {**after, "wall_s": before["wall_s"] + 2.0})
    assert change["idle_s"] == pytest.approx(2.0 - active_s)
    assert not [key for key in change if key.startswith("active")]


def test_threads_that_began_or_ended_meanwhile_do_not_count(tmp_path):
    write(tmp_path, threads=[(0, 0), (0, 0)])
    reader = Reader(root=tmp_path)
    before = reader.read()
    write(tmp_path, threads=[(SECOND, 0), (SECOND // 2, 0), (SECOND * 2, 0)])
    (tmp_path / "proc/self/task/1/schedstat").write_text("")  # as the kernel answers for it
    after = {**reader.read(), "wall_s": before["wall_s"] + 2.0}
    reader.close()
    assert difference(before, after)["idle_s"] == pytest.approx(1.5)


def test_suspended_time_is_boot_time_beyond_the_monotonic_clock(monkeypatch):
    if not hasattr(time, "CLOCK_BOOTTIME"):
        pytest.skip("this system has no clock that goes on while it is suspended")
    before, real = read(), time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() - 7.0)
    assert difference(before, read())["suspended_s"] == pytest.approx(7.0, abs=0.1)


def test_a_process_that_was_stopped_was_idle_though_two_threads_computed():
    """Their CPU time together is more than the wall time, and the stop shows all the same."""
    if not Reader()._active():
        pytest.skip("this kernel does not say when a thread ran (schedstat)")
    script = """
        import hashlib, os, subprocess, threading
        from swbench.probes.disturbance import difference, read
        def work(): [hashlib.sha256(bytes(2**22)).digest() for _ in range(60)]
        def both():
            other = threading.Thread(target=work); other.start(); work(); other.join()
        def change():
            before = read(); both(); return difference(before, read())
        calm = change()
        me = os.getpid()
        hold_up = f"sleep 0.05; kill -STOP {me}; sleep 0.3; kill -CONT {me}"
        with subprocess.Popen(["sh", "-c", hold_up]):
            held_up = change()
        print(calm["idle_s"], held_up["idle_s"])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    calm_s, held_up_s = map(float, done.stdout.split())
    assert held_up_s - calm_s > 0.2


def test_missing_files_leave_their_keys_out(tmp_path):
    assert set(Reader(root=tmp_path).read()) == {
        "wall_s",
        "own_cpu_s",
        "involuntary_switches",
        "major_faults",
        *(("suspended_s",) if hasattr(time, "CLOCK_BOOTTIME") else ()),
    }


def test_a_reading_of_this_machine_has_counters_that_do_not_fall():
    change = difference(read(), read())
    assert min(change.values()) >= 0


@pytest.mark.parametrize(
    ("readings", "over"),
    [
        ({}, False),
        ({"steal_s": 0.02}, False),
        ({"steal_s": 0.05}, True),
        ({"queued_s": 0.009}, False),
        ({"queued_s": 0.011}, True),
        ({"pressure_cpu_s": 0.5}, False),
        ({"pressure_cpu_s": 0.6}, True),
        ({"pressure_memory_s": 0.03}, True),
        ({"pressure_io_s": 0.06}, True),
        ({"involuntary_switches": 25}, False),
        ({"involuntary_switches": 26}, True),
        ({"major_faults": 1}, True),
        ({"frequency_drop": 0.04}, False),
        ({"frequency_drop": 0.06}, True),
        ({"gpu_throttle_reasons": 0x1 | 0x2 | 0x4}, False),
        ({"gpu_throttle_reasons": 0x20}, True),
        ({"gpu_throttle_reasons_before": 0x1, "gpu_throttle_reasons_after": 0x8}, True),
        ({"gpu_throttle_reasons_before": 0x80, "gpu_throttle_reasons_after": 0x4}, True),
        ({"gpu_throttle_reasons_before": 0x4, "gpu_throttle_reasons_after": 0x1}, False),
        ({"gpu_thermal_s": 0.02}, True),
        ({"idle_s": 0.0209}, False),
        ({"idle_s": 0.0211}, True),
        ({"idle_s": 0.06, "pressure_io_s": 0.04}, False),
        ({"suspended_s": 0.009}, False),
        ({"suspended_s": 0.011}, True),
    ],
)
def test_a_round_is_marked_above_the_limits_and_not_at_them(readings, over):
    assert exceeds_rule({"wall_s": 1.0, **readings}) is over


def test_interrupts_never_mark_a_short_round():
    assert not exceeds_rule({"wall_s": 0.0015, "idle_s": 0.001})
    assert exceeds_rule({"wall_s": 0.0015, "idle_s": 0.0011})


def rounds(idle_s, count, held_up_s=0.0, wall_s=1.0):
    """Rounds with so much idle time, the last one held up for longer."""
    calm = [{"wall_s": wall_s, "idle_s": idle_s}] * (count - 1)
    return [*calm, {"wall_s": wall_s + held_up_s, "idle_s": idle_s + held_up_s}]


@pytest.mark.parametrize(
    ("idle_s", "held_up_s", "over"),
    [
        (0.0, 0.3, True),
        (0.0, 3.0, True),
        (0.1, 0.12, False),
        (0.1, 0.13, True),
        (0.4, 0.3, False),
        (0.4, 3.0, True),
        (0.6, 3.0, False),
        (0.9, 30.0, False),
    ],
)
def test_waiting_that_recurs_in_every_round_is_not_a_disturbance(idle_s, held_up_s, over):
    """Twice the usual idle time is allowed, and a worker that waits most of the time is not
    judged.
    """
    idle_rounds = rounds(idle_s, 10, held_up_s)
    assert marked_rounds(idle_rounds) == (frozenset({9}) if over else frozenset())
    assert absences(idle_rounds) == (pytest.approx((held_up_s,)) if over else ())
    assert absences(rounds(idle_s, 10)) == ()


def test_a_round_in_which_the_worker_was_absent_is_marked_before_all_others():
    """On a busy machine every round exceeds the rule, by far more in switches than in seconds."""
    busy = [
        {**round_, "involuntary_switches": 9000 + at} for at, round_ in enumerate(rounds(0.0, 10))
    ]
    busy[3] |= {"wall_s": 1.3, "idle_s": 0.3, "involuntary_switches": 0}
    busy[4] |= {"wall_s": 4.0, "idle_s": 3.0, "involuntary_switches": 0}
    assert marked_rounds(busy) == {3, 4}
    assert marked_rounds([round_ for at, round_ in enumerate(busy) if at != 3] * 2) == {3, 12, 8}


def test_an_absence_in_one_of_two_rounds_is_detected_though_none_may_be_marked():
    assert absences(rounds(0.0, 2, 3.0)) == (pytest.approx(3.0),)
    assert marked_rounds(rounds(0.0, 2, 3.0)) == frozenset()
    assert absences(rounds(0.3, 1, 3.0)) == ()


def test_rounds_stored_without_idle_time_are_judged_as_before():
    old = [{"wall_s": 1.0, "steal_s": 0.01 * position} for position in range(10)]
    assert marked_rounds(old) == {8, 9}
    assert usual_idle(old) == 0
    assert absences(old) == ()


def test_a_suspend_counts_beside_the_wall_time():
    for idle_s in (0.0, 0.01):
        suspended = {"wall_s": 1.0, "idle_s": idle_s, "suspended_s": 60.0}
        assert absences([suspended, {"wall_s": 1.0, "idle_s": 0.0}]) == (
            pytest.approx(60 + idle_s),
        )
        assert exceeds_rule(suspended)


def test_one_stolen_tick_never_marks_a_short_round():
    assert not exceeds_rule({"wall_s": 0.02, "steal_s": 0.01})


def test_marking_is_capped_at_a_fifth_and_takes_the_worst():
    noisy = [{"wall_s": 1.0, "steal_s": 0.1 + 0.01 * i} for i in range(10)]
    assert marked_rounds(noisy) == {8, 9}
    assert marked_rounds(noisy[:4]) == frozenset()
    assert marked_rounds([{"wall_s": 1.0}] * 9 + noisy[:1]) == {9}


CALM, HOT = {"wall_s": 0.1}, {"wall_s": 0.1, "gpu_thermal_s": 0.05}


def test_one_throttled_block_of_several_is_marked_alone():
    blocks = [{"a": CALM, "b": HOT if position == 3 else CALM, "c": CALM} for position in range(10)]
    assert block_marks([{"wall_s": 0.3}] * 10, blocks, "a") == tuple(
        frozenset("b" if position == 3 else "") for position in range(10)
    )


def test_blocks_are_capped_at_a_fifth_of_a_case_and_the_worst_are_taken():
    hotter = [
        {"a": {"wall_s": 0.1, "gpu_thermal_s": 0.01 * (1 + position)}, "b": CALM}
        for position in range(10)
    ]
    marked = block_marks([{"wall_s": 0.3}] * 10, hotter, "b")
    assert [position for position, keys in enumerate(marked) if keys] == [8, 9]
    assert set().union(*marked) == {"a"}


def test_a_marked_round_takes_its_blocks_with_it_and_counts_for_the_cap():
    stolen = {"wall_s": 0.3, "steal_s": 0.2}
    blocks = [{"a": HOT, "b": CALM} for _ in range(10)]
    marked = block_marks([stolen] + [{"wall_s": 0.3}] * 9, blocks, "b")
    assert [sorted(keys) for keys in marked] == [["a", "b"], ["a"], *[[]] * 8]
    assert (
        block_marks([stolen] * 2 + [{"wall_s": 0.3}] * 8, blocks, "b")[2:] == (frozenset(),) * 8
    ), "the rounds have used the fifth up"


@pytest.mark.parametrize("stolen", [0, 1])
def test_no_ratio_loses_more_than_a_fifth_of_its_pairs_though_blocks_of_both_halves_are_throttled(
    stolen,
):
    """The baseline's two worst rounds and two others of each row would be two fifths of every
    ratio.
    """
    hot = {"base": (1, 2), "a": (3, 4), "b": (2, 5)}
    blocks = [
        {case: HOT if position in hot[case] else CALM for case in hot} for position in range(10)
    ]
    rounds = [
        {"wall_s": 0.3, "steal_s": 0.2 if position == 9 and stolen else 0.0}
        for position in range(10)
    ]
    marked = block_marks(rounds, blocks, "base")
    for case in ("a", "b"):
        assert sum(bool(keys & {"base", case}) for keys in marked) == 2
    assert [
        position for position, keys in enumerate(marked) if "base" in keys and position < 9
    ] == ([1] if stolen else [1, 2])


def test_a_throttled_block_beside_a_marked_block_of_the_baseline_costs_no_further_pair():
    hot = {"base": (1,), "a": (1, 5), "b": ()}
    blocks = [
        {case: HOT if position in hot[case] else CALM for case in hot} for position in range(10)
    ]
    marked = block_marks([{"wall_s": 0.3}] * 10, blocks, "base")
    assert {position: keys for position, keys in enumerate(marked) if keys} == {
        1: {"base", "a"},
        5: {"a"},
    }


def test_without_a_baseline_each_case_is_capped_by_itself():
    blocks = [{"a": HOT, "b": CALM} for _ in range(10)]
    assert [sorted(keys) for keys in block_marks([{"wall_s": 0.3}] * 10, blocks, None)] == [
        ["a"]
    ] * 2 + [[]] * 8


def test_severity_ignores_how_long_the_round_took_where_nothing_else_happened():
    assert severity({"wall_s": 0.001}) == severity({"wall_s": 1000.0}) == 0


def test_the_summary_line_counts_disturbed_rounds():
    calm, stolen = {"wall_s": 1.0, "steal_s": 0.0}, {"wall_s": 1.0, "steal_s": 0.5}
    assert quietness([[calm] * 10]).startswith(
        "machine quiet: 0 of 10 rounds disturbed, steal 0.0 %"
    )
    assert "somewhat disturbed: 1 of 10" in quietness([[calm] * 9 + [stolen]])
    assert "busy: 10 of 10 rounds disturbed, 2 marked (at most 20%), steal 50.0 %" in quietness(
        [[stolen] * 10]
    )
    assert "1 of 10 rounds disturbed, not running in 1 rounds, up to 3 s" in quietness(
        [rounds(0.0, 10, 3.0)]
    )
    assert "0 of 10 rounds disturbed" in quietness([rounds(0.4, 10)]), "it waits in every round"
    assert quietness([]) == "machine: not observed"
