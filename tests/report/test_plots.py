"""Every plot is drawn from a run with its data and left out without, and it is safe and
reproducible.
"""

from dataclasses import replace

import pytest
from stored_runs import (
    every_status,
    flops,
    network_group,
    results_of,
    rounds_of,
    settings_run,
    solver_group,
    stored,
    stored_solvers,
    table1,
)

from swbench.errors import OptionError, UnknownName
from swbench.report.build import build_table
from swbench.report.plots import TABLE, plot_files
from swbench.report.plots.roofline import Point, roofline
from swbench.report.plots.style import FigureCanvasAgg


def scaling_run():
    groups = [
        network_group(name=f"cpu batch {batch} {size}", batch=batch, image=(size, size))
        for batch in (1, 8)
        for size in (224, 448)
    ]
    results = [result for group in groups for result in results_of(group)]
    rounds = [
        round_
        for index, group in enumerate(groups)
        for round_ in rounds_of(group, [1, 1, 1.1, 1.2, 1.3 + index], seed=index)
    ]
    return stored(groups, results, rounds)


def sizes_run():
    groups = [solver_group(batch=batch, group=size) for batch in (1, 72) for size in (16, 32, 33)]
    rounds = [
        round_
        for index, group in enumerate(groups)
        for round_ in rounds_of(group, [1, 1, 5, 0.7, 0.5], base_s=1e-3 * (1 + index), seed=index)
    ]
    return stored(
        groups,
        [result for group in groups for result in results_of(group)],
        rounds,
        kind="solvers",
        title="Solvers",
    )


def devices_run():
    """Batch 16 on 1, 2 and 4 processes, and 16 for each: the nth group takes n times as long."""
    error_bars = [(16, 1), (16, 2), (32, 2), (16, 4), (64, 4)]
    groups = [
        network_group(name=f"cpu batch {batch} {world} processes", batch=batch, world=world)
        for batch, world in error_bars
    ]
    results = [result for group in groups for result in results_of(group)]
    rounds = [
        round_
        for place, group in enumerate(groups, 1)
        for round_ in rounds_of(group, [place] * 5, noise=0)
    ]
    return stored(groups, results, rounds)


WITH_DATA = {
    "ratios": table1,
    "times": table1,
    "passes": table1,
    "settings": settings_run,
    "scaling": scaling_run,
    "devices": devices_run,
    "pareto": stored_solvers,
    "batches": sizes_run,
    "groups": sizes_run,
    "drift": every_status,
}


def test_each_plot_has_a_test_run():
    assert set(WITH_DATA) == set(TABLE.names())


@pytest.mark.parametrize("name", WITH_DATA)
def test_a_plot_is_drawn_where_there_is_data(name, tmp_path):
    paths = plot_files(build_table(WITH_DATA[name]()), tmp_path, only=[name])
    assert [path.name for path in paths] == [f"{name}.png", f"{name}.svg"]
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    svg = paths[1].read_text(encoding="utf-8")
    assert svg.count("<path") > 10
    assert "<script" not in svg


def test_the_same_run_gives_the_same_file(tmp_path):
    first, second = (
        plot_files(build_table(table1()), tmp_path / name, only=["ratios"], formats=["svg"])[
            0
        ].read_bytes()
        for name in "ab"
    )
    assert first == second


def test_bars_are_the_tables_ratios():
    table = build_table(table1())
    drawn = TABLE.load("ratios")(table)
    ends = {round(bar.get_x() + bar.get_width(), 9) for bar in drawn.axes[0].patches}
    assert ends == {
        round(row.cell(f"ratio_cpu_{p}").value, 9)
        for row in table.rows
        if row.role == "variant"
        for p in ("f", "fb")
    }
    assert isinstance(drawn.canvas, FigureCanvasAgg)


def test_the_step_between_32_and_33_is_marked():
    drawn = TABLE.load("groups")(build_table(sizes_run()))
    assert any("32|33" in text.get_text() for axis in drawn.axes for text in axis.texts)


def test_weak_and_strong_scaling_are_panels_of_their_own():
    fig = TABLE.load("devices")(build_table(devices_run()))
    curves = {
        axis.get_title(loc="left").partition(" (")[0]: axis.get_lines()[0]
        for axis in fig.axes
        if axis.get_visible()
    }
    assert set(curves) == {"CPU, strong scaling, batch 16", "CPU, weak scaling, 16 images each"}
    assert list(curves["CPU, strong scaling, batch 16"].get_xdata()) == [1, 2, 4]
    step_s = 3 * 0.2  # F+B of the first group
    assert curves["CPU, strong scaling, batch 16"].get_ydata() == pytest.approx(
        [16 / step_s, 16 / 2 / step_s, 16 / 4 / step_s]
    )
    assert curves["CPU, weak scaling, 16 images each"].get_ydata() == pytest.approx(
        [16 / step_s, 32 / 3 / step_s, 64 / 5 / step_s]
    )


def test_numbers_of_processes_do_not_share_a_heat_map():
    row = [("swa", 7, "auto", "ResNet50-SW^a")]
    groups = [
        network_group(name=f"{batch} {world}", rows=row, batch=batch, world=world)
        for batch in (8, 16)
        for world in (1, 2)
    ]
    run = stored(
        groups,
        [result for group in groups for result in results_of(group)],
        [round_ for group in groups for round_ in rounds_of(group, [1, 1, 2])],
    )
    titles = [axis.get_title(loc="left") for axis in TABLE.load("scaling")(build_table(run)).axes]
    assert sorted("2 processes" in title for title in titles if title) == [False, False, True, True]


def settings_run(*settings):
    """Batches 1 and 16 of one row on a GPU in each of `settings`; every setting is slower than the
    one before.
    """
    row, places = (
        [("swa", 7, "auto", "ResNet50-SW^a")],
        [(batch, place, setting) for place, setting in enumerate(settings) for batch in (1, 16)],
    )
    groups = [
        network_group(
            name=f"{batch} {place}",
            rows=row,
            batch=batch,
            **{"device": "cuda", "threads": 0, **setting},
        )
        for batch, place, setting in places
    ]
    rounds = [
        round_
        for group, (_, place, _) in zip(groups, places, strict=True)
        for round_ in rounds_of(group, [1, 1, 2 + place], noise=0)
    ]
    return stored(groups, [result for group in groups for result in results_of(group)], rounds)


def panels_of(run):
    """The title of each panel of the heat map, and the ratios in it."""
    fig = TABLE.load("scaling")(build_table(run))
    return {
        axis.get_title(loc="left"): {text.get_text() for text in axis.texts}
        for axis in fig.axes
        if axis.get_title(loc="left")
    }


@pytest.mark.parametrize(
    ("field", "values", "words"),
    [
        ("mode", ("eager", "graph", "compile"), ("eager", "graph", "compile")),
        ("dtype", ("float32", "bfloat16"), ("float32", "bfloat16")),
        ("layout", ("contiguous", "channels_last"), ("contiguous", "channels_last")),
    ],
)
def test_a_heat_map_has_a_panel_for_each_setting(field, values, words):
    panels = panels_of(settings_run(*({field: value} for value in values)))
    assert len(panels) == len(words) * 2, "F and F+B"
    for place, word in enumerate(words):
        mine = [texts for title, texts in panels.items() if f"GPU, {word}: " in title]
        assert mine == [{f"{2 + place}.000"}] * 2


def test_a_title_names_unusual_settings_only():
    assert set(panels_of(settings_run({}))) == {"ResNet50-SW^a, GPU F", "ResNet50-SW^a, GPU F+B"}
    assert set(panels_of(settings_run({"mode": "graph", "device": "cuda:1"}))) == {
        f"ResNet50-SW^a\nGPU:1, graph: {letters}" for letters in ("F", "F+B")
    }


def test_more_panels_than_can_be_read_are_counted():
    settings = [
        {"mode": mode, "dtype": dtype}
        for mode in ("eager", "graph", "compile")
        for dtype in ("float32", "bfloat16", "float16")
    ]
    fig = TABLE.load("scaling")(build_table(settings_run(*settings)))
    assert "first 12 of 18 panels" in fig.get_suptitle()


def test_the_batch_that_fits_is_drawn_first_and_left_out_panels_are_counted():
    names = [f"cuda batch {batch}" for batch in (32, 16, 8, 4, 2)]
    groups = [
        replace(network_group(name, device="cuda", threads=0), fallback_of=before)
        for name, before in zip(names, [None, *names[:-1]], strict=True)
    ]
    results = [
        result
        for group in groups
        for result in results_of(
            group, replicates=1, statuses={4: "out_of_memory"} if group is not groups[-1] else {}
        )
    ]
    fig = TABLE.load("drift")(
        build_table(
            stored(
                groups,
                results,
                [round_ for group in groups for round_ in rounds_of(group, [1] * 5, replicates=1)],
            )
        )
    )
    assert [axis.get_title(loc="left") for axis in fig.axes] == [
        "cuda batch 2",
        "cuda batch 32",
        "cuda batch 16",
        "cuda batch 8",
    ]
    assert "first 4 of 5 panels" in fig.get_suptitle()


def test_hostile_names_are_drawn_as_they_are(tmp_path):
    assert plot_files(build_table(every_status()), tmp_path, formats=["png"])


def test_nothing_to_draw_is_an_error():
    group = network_group()
    run = stored(
        [group],
        results_of(group, replicates=1, measurements={0: flops("bn")}),
        [],
        metrics=("flops",),
    )
    table = build_table(run)
    assert [name for name in TABLE.names() if TABLE.load(name)(table) is not None] == []
    with pytest.raises(OptionError, match="nothing to draw"):
        plot_files(table, "unused")


def test_unknown_plots_and_formats(tmp_path):
    table = build_table(table1())
    with pytest.raises(UnknownName, match="Did you mean 'ratios'"):
        plot_files(table, tmp_path, only=["ratio"])
    with pytest.raises(OptionError, match="png or svg"):
        plot_files(table, tmp_path, formats=["gif"])


def test_roofline_draws_what_can_be_drawn():
    points = [
        Point("conv1", "conv", 1e9, 1e7, 0.01),
        Point("copy", "other", 0, 1e7, 0.01),
        Point("bn1", "norm", 1e7, 2e7, 0.002),
    ]
    (axis,) = roofline(points, peak_flops_s=2e11, peak_bytes_s=2e10).axes
    assert sum(len(drawn.get_offsets()) for drawn in axis.collections) == 2
    with pytest.raises(ValueError, match="above zero"):
        roofline(points[1:2], peak_flops_s=2e11, peak_bytes_s=2e10)


@pytest.mark.parametrize(
    ("replicates", "named"),
    [(3, ["replicate 0", "replicate 1", "replicate 2"]), (12, ["replicates 0 to 11"])],
)
def test_the_legend_of_the_drift_names_as_many_replicates_as_there_are_colours(replicates, named):
    group = network_group()
    results, rounds = (
        results_of(group, replicates=replicates),
        rounds_of(group, [1] * 5, replicates=replicates, rounds=5, disturbed={(0, 1)}),
    )
    fig = TABLE.load("drift")(build_table(stored([group], results, rounds)))
    (legend,) = [axis.get_legend() for axis in fig.axes]
    assert [text.get_text() for text in legend.get_texts()] == [*named, "disturbed"]


def test_the_drift_of_a_paired_replicate_goes_forward_in_time():
    """Its workers ran one after the other, each with rounds of the same numbers."""
    group = network_group()
    later = [
        replace(round_, attempt="b0", started=round_.started + 50)
        for round_ in rounds_of(group, [1] * 5, replicates=1)
    ]
    results = [replace(result, also=("b0",)) for result in results_of(group, replicates=1)]
    fig = TABLE.load("drift")(
        build_table(stored([group], results, [*rounds_of(group, [1] * 5, replicates=1), *later]))
    )
    places = [
        list(line.get_xdata())
        for axis in fig.axes
        for line in axis.get_lines()
        if line.get_label().startswith("replicate")
    ]
    assert places == [[0, 1, 2, 3, 50, 51, 52, 53]]
