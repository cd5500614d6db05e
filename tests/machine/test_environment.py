import copy
import json
import subprocess
import sys

import pytest

from swbench.machine import hardware, software
from swbench.machine.environment import RELEVANT, environment_id, label, record, unlike


@pytest.fixture(scope="module")
def environment():
    native = {"instructions": "v4", "compiler": "GCC 12.2.0", "calls": "C"}
    return record(torch_facts={"version": "2.9", "cuda": None, "blas": "mkl", "native": native})


def changed(environment, **paths):
    other = copy.deepcopy(environment)
    for path, value in paths.items():
        section, _, key = path.partition("__")
        other[section][key] = value
    return other


def test_a_record_survives_json_and_does_not_differ_from_itself(environment):
    reread = json.loads(json.dumps(environment))
    assert unlike(environment, reread) == []
    assert environment_id(environment) == environment_id(reread)


def test_every_compared_path_leads_somewhere(environment):
    sections = {path.split(".")[0] for path in RELEVANT}
    assert sections <= set(environment)


def test_a_difference_that_changes_timings_is_listed_and_changes_the_id(environment):
    other = changed(
        environment, processor__model="Other CPU", packages__torch="9.9", cores__quota=1.5
    )
    assert unlike(environment, other) == [
        f"CPU: {environment['processor']['model']} / Other CPU",
        f"cgroup CPU quota: {environment['cores']['quota'] or 'not set'} / 1.5",
        f"torch: {environment['packages']['torch']} / 9.9",
    ]
    assert environment_id(environment) != environment_id(other)


def test_variables_are_compared_by_name_except_paths_and_those_that_a_case_sets(environment):
    variables = {
        "MALLOC_ARENA_MAX": "1",
        "OMP_WAIT_POLICY": "ACTIVE",
        "OMP_NUM_THREADS": "7",
        "TORCH_HOME": "elsewhere",
        "CUDA_VISIBLE_DEVICES": "3",
        "NCCL_SOCKET_IFNAME": "eth1",
    }
    assert unlike({**environment, "variables": {}}, {**environment, "variables": variables}) == [
        "MALLOC_ARENA_MAX: not set / 1"
    ]


def test_load_host_and_code_do_not_matter(environment):
    other = changed(
        environment,
        now__load=99.0,
        system__host="other",
        code__commit="other",
        memory__total_bytes=environment["memory"]["total_bytes"] + 4096,
    )
    assert unlike(environment, other) == []
    assert environment_id(environment) == environment_id(other)


def test_native_kernels_are_compared_except_with_records_that_lack_them(environment):
    other = changed(environment, torch__native={"missing": "switched off"})
    assert unlike(environment, other) == [
        "native kernels' instruction set: v4 / not set",
        "native kernels' compiler: GCC 12.2.0 / not set",
        "what calls the native kernels: C / not set",
    ]
    assert environment_id(environment) != environment_id(other)
    before = {
        **environment,
        "torch": {name: fact for name, fact in environment["torch"].items() if name != "native"},
    }
    assert unlike(environment, before) == unlike(before, environment) == []


def test_another_gpu_makes_environments_unlike(environment):
    gpu = {"name": "NVIDIA H100 80GB HBM3", "driver": "1", "uuid": "a"}
    assert "GPU: not set / NVIDIA H100 80GB HBM3" in unlike(
        {**environment, "gpus": []}, {**environment, "gpus": [gpu]}
    )
    assert (
        unlike({**environment, "gpus": [gpu]}, {**environment, "gpus": [{**gpu, "uuid": "b"}]})
        == []
    )


@pytest.mark.parametrize(
    "strange",
    [
        {},
        {"variables": 3, "memory": {"total_bytes": 10**400}, "gpus": ["one"], "processor": []},
        {"memory": 7, "gpus": {}},
    ],
)
def test_an_edited_record_is_unlike_without_a_traceback(environment, strange):
    assert unlike(environment, strange)
    assert environment_id(environment) != environment_id(strange)


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("AMD EPYC 9555 64-Core Processor", "amd-epyc-9555"),
        ("Intel(R) Xeon(R) Platinum 8480+ CPU @ 2.00GHz", "intel-xeon-8480"),
        ("AMD Ryzen 7 7840U w/ Radeon 780M Graphics", "amd-ryzen-7-7840u-w-rade"),
        ("", "machine"),
    ],
)
def test_labels_are_short_and_fit_for_a_folder(name, short):
    assert label({"processor": {"model": name}, "gpus": []}) == short


def test_a_gpu_gives_the_label():
    assert (
        label({"processor": {"model": "x"}, "gpus": [{"name": "NVIDIA H100 80GB HBM3"}]})
        == "h100-80gb-hbm3"
    )


def test_recording_leaves_torch_unloaded():
    program = (
        "import sys; from swbench.machine.environment import record; "
        "record(torch_facts={}); assert not {'torch', 'numpy', 'scipy'} & "
        "set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=software.PACKAGE_ROOT.parent)


def test_torchs_build_is_recorded():
    import torch

    facts = software.torch_facts()
    assert facts["version"] == torch.__version__
    assert facts["blas"]
    assert facts["native"].keys() in ({"instructions", "compiler", "calls"}, {"missing"})
    json.dumps(facts)


def test_a_torch_that_does_not_load_is_recorded_as_an_error(monkeypatch):
    def fails(*arguments, **options):
        raise subprocess.CalledProcessError(
            1, "python", stderr="Traceback\nImportError: libgomp is missing\n"
        )

    monkeypatch.setattr(software.subprocess, "run", fails)
    assert software.torch_facts_from_subprocess() == {"error": "ImportError: libgomp is missing"}


def test_the_hash_of_the_sources_follows_their_content(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    before = software.sources(tmp_path)
    assert software.sources(tmp_path) == before
    (tmp_path / "a.py").write_text("x = 2\n")
    assert software.sources(tmp_path) != before


def test_cgroup_limits_of_version_2_take_the_tightest_level(tmp_path):
    group = tmp_path / "sys/fs/cgroup/outer/inner"
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/outer/inner\n")
    (group / "cpu.max").write_text("max 100000\n")
    (group.parent / "cpu.max").write_text("150000 100000\n")
    (group / "memory.max").write_text("1073741824\n")
    assert hardware.quota(tmp_path) == 1.5
    assert hardware.memory(tmp_path)["limit_bytes"] == 1 << 30


@pytest.mark.parametrize(("limit", "cores"), [("50000 100000", 1), ("max 100000", None)])
def test_usable_cores_are_no_more_than_the_quota_and_never_none(tmp_path, limit, cores):
    group = tmp_path / "sys/fs/cgroup/outer"
    (group / "inner").mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/outer/inner\n")
    (group / "cpu.max").write_text(limit + "\n")
    assert hardware.usable_cores(tmp_path) == (
        cores or hardware.cores(tmp_path)["physical_allowed"]
    )


def test_cgroup_limits_of_version_1(tmp_path):
    group = tmp_path / "sys/fs/cgroup/cpu/job"
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("3:cpu:/job\n0::/\n")
    (group / "cpu.cfs_quota_us").write_text("200000\n")
    (group.parent / "cpu.cfs_quota_us").write_text("-1\n")
    (group.parent / "cpu.cfs_period_us").write_text("100000\n")
    assert hardware.quota(tmp_path) == 2.0


def test_missing_kernel_files_are_recorded_as_none(tmp_path):
    assert hardware.quota(tmp_path) is None
    assert hardware.memory(tmp_path)["total_bytes"] == 0
    assert hardware.processor(tmp_path)["governor"] is None
    assert hardware.now(tmp_path)["pressure_percent"] == {"cpu": None, "memory": None, "io": None}


@pytest.mark.parametrize(
    ("file", "value", "on"),
    [
        ("intel_pstate/no_turbo", "1", False),
        ("intel_pstate/no_turbo", "0", True),
        ("cpufreq/boost", "1", True),
    ],
)
def test_turbo_is_read_from_either_kernel_file(tmp_path, file, value, on):
    path = tmp_path / "sys/devices/system/cpu" / file
    path.parent.mkdir(parents=True)
    path.write_text(value)
    assert hardware.turbo(tmp_path) is on


def test_a_copy_inside_a_checkout_of_something_else_has_no_commit(tmp_path, monkeypatch):
    git = ["git", "-C", tmp_path, "-c", "user.name=A", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "of something else"], check=True)
    package = tmp_path / ".venv" / "swbench"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.setattr(software, "PACKAGE_ROOT", package)
    assert software.code()["commit"] is None
    assert software.code()["dirty"] is None
    subprocess.run([*git, "add", "-f", package], check=True)
    assert len(software.code()["commit"]) == 40


def test_a_copy_without_history_has_the_commit_of_the_variable_and_its_own_sources(monkeypatch):
    monkeypatch.setenv("SWBENCH_COMMIT", "0123abc")
    code = software.code()
    assert code["commit"] != "0123abc" or code["dirty"] is None
    monkeypatch.setattr(software, "_git", lambda *arguments: None)
    assert (software.code()["commit"], software.code()["dirty"]) == ("0123abc", None)
    assert software.code()["sources"] == code["sources"]
    monkeypatch.delenv("SWBENCH_COMMIT")
    assert software.code()["commit"] is None
