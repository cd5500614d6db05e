"""The CPU and GPU settings that share a section."""

from stored_runs import network_group, results_of, rounds_of, stored

from swbench.case import device_kind
from swbench.report.build import build_table
from swbench.report.row_pairing import DeviceSetting, match


def setting(batch, mode="eager", threads=0):
    return DeviceSetting(batch, mode, threads, 1, 1, "cpu")


def test_equal_batches_are_paired_and_the_rest_stands_alone():
    cpu, first, second = setting(1, threads=2), setting(1), setting(32)
    assert match([cpu], [first, second]) == [(cpu, first), (None, second)]
    assert match([cpu], [second, first]) == [(cpu, first), (None, second)]


def test_where_no_batch_is_shared_they_are_paired_in_order_as_in_table_2():
    cpu, gpu, more = setting(1, threads=2), setting(16), setting(32)
    assert match([cpu], [gpu, more]) == [(cpu, gpu), (None, more)]


def test_settings_of_one_device_stand_alone():
    alone = setting(1)
    assert match([alone], []) == [(alone, None)]
    assert match([], [alone]) == [(None, alone)]
    assert match([], []) == []


def test_graph_mode_is_not_set_beside_eager():
    cpu, eager, graph = setting(1), setting(1), setting(1, mode="graph")
    assert match([cpu], [graph, eager]) == [(cpu, eager), (None, graph)]


def test_device_kind_drops_the_index():
    assert device_kind("cuda:1") == "cuda"


def shown(*groups):
    """Titles and rows of the sections of a run in which the nth group takes n times as long."""
    results, rounds = [], []
    for place, group in enumerate(groups, 1):
        results += results_of(group)
        rounds += rounds_of(group, [place] * len(group.cases), noise=0)
    sections = build_table(stored(groups, results, rounds)).sections
    return {
        section.title: round(
            section.rows[0].cell("gpu_f_s").value or section.rows[0].cell("cpu_f_s").value, 3
        )
        for section in sections
    }


def test_two_gpus_are_two_sections():
    both = [
        network_group(f"{device} batch 1", device=device, threads=0)
        for device in ("cuda:0", "cuda:1")
    ]
    text = shown(*both)
    assert list(text.values()) == [0.2, 0.4]
    assert [title.rpartition(", ")[2] for title in text] == ["cuda:0", "cuda:1"]


def test_a_gpu_without_a_number_is_not_named():
    (title,) = shown(network_group("cuda batch 1", device="cuda", threads=0))
    assert title.endswith("GPU batch 1")
