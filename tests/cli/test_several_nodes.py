"""Two nodes on one machine: two torchruns that know each other by their rendezvous alone, each with
ranks, processes and a follower of its own.
"""

import os
import subprocess
import sys
from pathlib import Path
from socket import create_server

import psutil
import pytest

from swbench import store
from swbench.result import CRASHED, OK

HERE = Path(__file__).parent
LIMIT_S = 180.0


class Cluster:
    """`run("--quick", …)` on two nodes of `ranks` each; then what they said, their exit statuses,
    and who was left over.
    """

    def __init__(self, workdir, ranks, act, static):
        self.workdir, self.ranks, self.static = workdir, ranks, static
        self.environ = {
            **os.environ,
            "TINY_ACT": act,
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "lo",
            "SWBENCH_TEST": str(workdir),
        }

    def run(self, *options):
        with create_server(("localhost", 0)) as free:
            port = free.getsockname()[1]
        launch = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nnodes",
            "2",
            "--nproc-per-node",
            str(self.ranks),
        ]
        if self.static:
            launch += ["--master-addr", "localhost", "--master-port", str(port)]
        else:
            launch += [
                "--rdzv-backend",
                "c10d",
                "--rdzv-endpoint",
                f"localhost:{port}",
                "--rdzv-id",
                "test",
            ]
        bench = [str(HERE / "tiny_bench.py"), "run", "tiny.toml", "--batch", "8", *options]
        nodes = [
            subprocess.Popen(
                [*launch, "--node-rank", str(number), *bench],
                env=self.environ,
                cwd=self.workdir,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            for number in range(2)
        ]
        try:
            outputs = [node.communicate(timeout=LIMIT_S) for node in nodes]
        finally:
            for process in [
                *nodes,
                *(self._ours() if any(node.poll() is None for node in nodes) else ()),
            ]:
                process.kill()
        self.codes, self.out, self.err = (
            [node.returncode for node in nodes],
            [out for out, _ in outputs],
            "".join(err for _, err in outputs),
        )
        _, self.left = psutil.wait_procs(self._ours(), timeout=10)

    def _ours(self):
        """Processes that a node started and that are not gone yet."""
        stored = []
        for process in psutil.process_iter():
            try:
                if (
                    process.environ().get("SWBENCH_TEST") == str(self.workdir)
                    and process.pid != os.getpid()
                ):
                    stored.append(process)
            except psutil.Error:
                continue
        return stored

    @property
    def stored(self):
        return store.load(store.find(self.workdir / "results", "latest"))


@pytest.fixture
def cluster(workdir):
    return lambda ranks=1, act="", static=False: Cluster(workdir, ranks, act, static)


def test_only_the_first_node_prints_the_row_with_samples_of_all_ranks(cluster):
    both = cluster()
    both.run("--replicates", "1", "--iterations", "2")
    assert both.codes == [0, 0], both.err
    assert sorted(map(bool, both.out)) == [False, True]
    assert "2 processes on 2 nodes" in "".join(both.out)
    stored = both.stored
    assert stored.complete
    assert stored.command == (
        "torchrun --nnodes 2 --nproc-per-node 1 bench.py run tiny.toml --batch "
        "8 --replicates 1 --iterations 2"
    )
    assert {(case.world, case.nodes) for group in stored.plan.groups for case in group.cases} == {
        (2, 2)
    }
    assert {result.status for result in stored.results} == {OK}
    for round_ in stored.rounds:
        assert all(
            {"forward_s", "forward_s_rank0", "forward_s_rank1"} <= set(metrics)
            for metrics in round_.samples.values()
        )
    assert not both.left


@pytest.mark.slow
@pytest.mark.parametrize("static", [False, True], ids=["c10d", "static"])
def test_two_ranks_on_each_node_measure_the_cases_of_four_on_one(cluster, static):
    both = cluster(ranks=2, static=static)
    both.run()
    assert both.codes == [0, 0], both.err
    stored = both.stored
    assert {result.status for result in stored.results} == {OK}
    assert {result.replicate for result in stored.results} == {0, 1}
    assert all(
        f"forward_s_rank{rank}" in metrics
        for round_ in stored.rounds
        for metrics in round_.samples.values()
        for rank in range(4)
    )
    assert not both.left


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1, 2, 3])
def test_rank_killed_on_any_node_is_a_crash_and_the_rest_is_measured(cluster, rank):
    both = cluster(ranks=2, act=f"4 3@{rank}:killed")
    both.run()
    stored = both.stored
    assert stored.complete
    assert sorted({result.status for result in stored.results}) == [CRASHED, OK]
    (crashed,) = [result for result in stored.results if result.status == CRASHED]
    assert "killed by SIGKILL while timing" in crashed.detail
    assert f"rank {rank}: killed by SIGKILL" in crashed.detail
    assert ("node 1: " in crashed.detail) == (rank >= 2)
    assert both.codes == [1, 1]  # torchrun's own, whatever failed
    assert both.err.count("exitcode  : 3") == 2
    assert "crashed" in "".join(both.out)
    assert not both.left


@pytest.mark.slow
def test_stuck_rank_on_the_other_node_times_out_and_both_nodes_write_stacks(
    cluster,
):
    both = cluster(act="2 3@1:deadlock")
    both.run("--case-limit", "8s")
    stored = both.stored
    assert [result.status for result in stored.results if result.status != OK] == ["timed_out"]
    assert stored.complete
    logs = {log.name: log.read_text() for log in (stored.path / "logs").iterdir()}
    assert any("_deadlock" in text for name, text in logs.items() if name.endswith(".node1.log"))
    assert not both.left


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "message"), [(1, "node 1 is gone"), (0, "node 0 is gone")])
def test_killed_node_process_ends_the_run_on_all_nodes(cluster, rank, message):
    both = cluster(act=f"2 3@{rank}:kill_node")
    both.run()
    assert both.codes == [1, 1]
    assert message in both.err
    assert "--resume" in both.err or rank == 0
    assert not both.stored.complete
    # torchrun may print a traceback of its own; ours would name a file of ours
    assert "swbench/cli" not in both.err
    assert not both.left


@pytest.mark.slow
def test_mistake_is_printed_once_and_ends_all_nodes(cluster):
    both = cluster()
    both.run("--only", "nothing")
    assert both.codes == [1, 1]
    assert both.err.count("--only nothing matches nothing") == 1
    assert both.err.count("exitcode  : 2") == 2
    assert not both.left
