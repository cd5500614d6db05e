"""A GPU's three times side by side, the readings of NVML and the allocator, and rows that wait for
the host.
"""

import dataclasses

import pytest
from stored_runs import ENVIRONMENT, network_group, results_of, rounds_of, stored

from swbench.report.build import build_table
from swbench.result import FORWARD_BACKWARD, FORWARD_BACKWARD_WALL

CHOSEN = {
    "solver": "eigh",
    "tf32": "off",
    "cudnn_benchmark": "off",
    "nvml": "no energy counter: Not Supported",
}


def wall(round_, share):
    """The round with the host's wall time added: `share` more than the events."""
    samples = {
        key: {**metrics, FORWARD_BACKWARD_WALL: metrics[FORWARD_BACKWARD] * (1 + share)}
        for key, metrics in round_.samples.items()
    }
    return dataclasses.replace(round_, samples=samples)


@pytest.fixture(scope="module")
def table():
    group = network_group(
        "cuda batch 32 224x224",
        rows=[("swa", 7, "svd-loop", "ResNet50-SW^a")],
        device="cuda",
        batch=32,
        threads=0,
    )
    rounds = [wall(round_, 0.05) for round_ in rounds_of(group, [1, 1, 4], noise=0.0)]

    def device_measurements(busy_s):
        return [
            ("gpu_busy_s", "s", (busy_s,)),
            ("gpu_utilisation", "1", (0.3, 0.5)),
            ("gpu_power", "W", (200.0, 300.0)),
            ("gpu_energy", "J", (120.0,)),
            ("peak_bytes", "B", (2.0 * 2**30,)),
            ("peak_reserved_bytes", "B", (3.0 * 2**30,)),
            ("block_iterations", "1", (4.0,)),
        ]

    results = results_of(
        group,
        measurements={0: device_measurements(0.6), 2: device_measurements(0.9)},
        chosen=CHOSEN,
    )
    return build_table(
        stored([group], results, rounds, environment={**ENVIRONMENT, "gpus": [{"name": "Fake"}]})
    )


def cells(table, row):
    return {
        name: table.rows[row].cell(name).value
        for name in (column.name for column in table.columns)
        if name.startswith("gpu_")
    }


def test_events_wall_and_kernels_stand_side_by_side(table):
    swa = cells(table, 1)
    assert swa["gpu_fb_s"] == pytest.approx(2.4)
    assert swa["gpu_fb_wall_s"] == pytest.approx(2.52)
    assert swa["gpu_fb_busy_s"] == pytest.approx(0.9)
    assert swa["gpu_busy_share"] == pytest.approx(0.9 / 2.52)
    shown = next(panel for panel in table.panels if panel.title.startswith("GPU:"))
    assert {"gpu_fb_s", "gpu_fb_wall_s", "gpu_fb_busy_s", "gpu_bound"} < set(shown.columns)


def test_a_row_that_waits_for_the_host_is_called_launch_bound(table):
    assert [cells(table, row)["gpu_bound"] for row in (0, 1)] == ["kernels", "launches"]
    note = next(note for note in table.notes if note.startswith("Launch-bound"))
    assert "ResNet50-SW^a (cuda batch 32 224x224) 36 %" in note
    assert "ResNet50-BN" not in note


def test_device_readings_have_their_number_of_samples(table):
    swa = cells(table, 1)
    assert (swa["gpu_utilisation_percent"], swa["gpu_utilisation_samples"]) == (
        pytest.approx(40.0),
        6,
    )
    assert (swa["gpu_power_w"], swa["gpu_energy_j"], swa["gpu_block_iterations"]) == (
        250.0,
        120.0,
        4,
    )
    assert (swa["gpu_peak_bytes"], swa["gpu_peak_reserved_bytes"]) == (2 * 2**30, 3 * 2**30)


def compiled(device="cuda", mode="compile"):
    group = network_group(
        f"{device} batch 2",
        rows=[("swa", 7, "polar", "ResNet50-SW^a")],
        device=device,
        batch=2,
        threads=0,
        mode=mode,
    )
    results = results_of(
        group,
        measurements={0: [("compile_s", "s", (10.0,))], 2: [("compile_s", "s", (40.0,))]},
        chosen={"compiled": "2 graphs, 1 break"},
    )
    return build_table(stored([group], results, rounds_of(group, [1, 1, 2])))


@pytest.mark.parametrize(("device", "span"), [("cpu", "cpu"), ("cuda", "gpu")])
def test_the_time_of_compilation_has_a_panel_of_its_own(device, span):
    table = compiled(device)
    assert [row.cell(f"{span}_compile_s").value for row in table.rows] == [10.0, 40.0]
    shown = [panel for panel in table.panels if f"{span}_compile_s" in panel.columns]
    assert [panel.title.partition(":")[0] for panel in shown] == ["torch.compile"]
    assert "label" in shown[0].columns
    assert f"{span}_f_s" not in shown[0].columns
    assert "torch.compile: 2 graphs, 1 break." in table.notes


def test_without_compiling_there_is_no_such_panel(table):
    for mode_table in (table, compiled(mode="eager")):
        assert not [
            panel
            for panel in mode_table.panels
            if any("compile" in column for column in panel.columns)
        ]
        assert mode_table.rows[0].cell("gpu_compile_s").value is None


def test_settings_of_the_device_are_noted_once_and_not_with_the_solver(table):
    text = "\n".join(table.notes)
    assert "TF32 off, cuDNN benchmark off" in text
    assert text.count("no energy counter") == 1
    assert "svd-loop on cuda: solver eigh." in text
