"""Which CPU and GPU settings share a section."""

from swbench.report.settings import Setting, device_kind, match


def setting(batch, mode="eager", threads=0):
    return Setting(batch, mode, threads, 1)


def test_like_batches_go_together_and_the_rest_stands_alone():
    cpu, first, second = setting(1, threads=2), setting(1), setting(32)
    assert match([cpu], [first, second]) == [(cpu, first), (None, second)]
    assert match([cpu], [second, first]) == [(cpu, first), (None, second)]


def test_where_no_batch_is_shared_they_are_paired_in_order_as_in_table_2():
    cpu, gpu, more = setting(1, threads=2), setting(16), setting(32)
    assert match([cpu], [gpu, more]) == [(cpu, gpu), (None, more)]


def test_one_device_alone():
    one = setting(1)
    assert match([one], []) == [(one, None)]
    assert match([], [one]) == [(None, one)]
    assert match([], []) == []


def test_graph_mode_is_not_set_beside_eager():
    cpu, eager, graph = setting(1), setting(1), setting(1, mode="graph")
    assert match([cpu], [graph, eager]) == [(cpu, eager), (None, graph)]


def test_device_kind_drops_the_index():
    assert device_kind("cuda:1") == "cuda"
