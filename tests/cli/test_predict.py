"""`predict` lists the collectives of a suite's or a run's networks."""

import stored_on_disk
from stored_runs import table1


def test_predict_lists_each_layer_and_the_gradients(invoke):
    code, out, err = invoke("predict", "scaling-devices", "--nproc", "4")
    assert (code, err) == (0, "")
    (block,) = (part for part in out.split("\n\n") if part.startswith("ResNet20-BW "))
    lines = [line.split() for line in block.splitlines()[1:]]
    assert lines[0] == ["bn1", "2", "2,180", "4,908"]  # 3 x 1,092 + 1.5 x 1,088
    assert [line[0] for line in lines[-2:]] == ["gradients", "all"]
    assert lines[-1][1] == "12"


def test_predict_gives_seconds_for_latency_and_bandwidth(invoke):
    link = ("--latency", "1ms", "--bandwidth", "8Gbit/s")
    code, out, _ = invoke("predict", "scaling-devices", "--nproc", "1024", *link)
    assert code == 0
    (first, *_) = (line for line in out.splitlines() if line.startswith("  bn1 "))
    # 10 messages and twice 10, or 1023 and twice as many; and 1,119,290 bytes
    assert first.split()[3:] == ["0.0311", "…", "3.07"]


def test_predict_reads_the_networks_of_a_stored_run(invoke, tmp_path):
    stored_on_disk.store(tmp_path / "results", table1())
    code, out, err = invoke("predict", "latest")
    assert (code, err) == (0, "")
    headings = [block.split(" (")[0] for block in out.split("\n\n")[1:]]
    assert headings == ["ResNet50-BN", "ResNet50-BW", "ResNet50-SW^a", "ResNet50-SW^b"]


def test_predict_refuses_incomplete_links_missing_units_one_rank_and_solvers(invoke):
    for arguments, message in (
        (("scaling-devices", "--latency", "5us"), "give both or neither"),
        (("scaling-devices", "--latency", "5", "--bandwidth", "1GB/s"), "one of ns, us"),
        (("scaling-devices", "--nproc", "1,8"), "--nproc 1 sends nothing"),
        (("solvers",), "which send nothing"),
    ):
        code, out, err = invoke("predict", *arguments)
        assert (code, out) == (2, "")
        assert message in err
