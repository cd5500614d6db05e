"""Every check of the doctor, on environment records with at most one problem."""

import copy

import pytest

from swbench.doctor import BAD, OK, WARN, Check, clocks, cores, examine, stack, storage

GIB = 1 << 30
GPU = {"name": "H100", "driver": "1", "mig": None, "persistence": 1}
HEALTHY = {
    "cores": {
        "logical": 8,
        "allowed": list(range(8)),
        "physical_allowed": 4,
        "quota": None,
        "numa_nodes": 1,
    },
    "processor": {
        "governor": "performance",
        "driver": "intel_pstate",
        "virtual": False,
        "turbo": False,
    },
    "memory": {"limit_bytes": None},
    "system": {"clocksource": "tsc"},
    "now": {
        "load": 0.2,
        "pressure_percent": {"cpu": 0.0, "memory": 0.0, "io": 0.0},
        "available_bytes": 32 * GIB,
    },
    "torch": {
        "version": "2.9",
        "blas": "mkl",
        "mkldnn": True,
        "openmp": True,
        "debug": False,
        "cuda": "12",
        "capability": "AVX2",
    },
    "variables": {},
    "allocator": {"library": "glibc 2.36", "preload": None, "tuning": "MALLOC_MMAP_MAX_=0"},
    "packages": {"triton": "3.0"},
    "gpus": [GPU],
}


def sick(**paths):
    other = copy.deepcopy(HEALTHY)
    for path, value in paths.items():
        section, _, key = path.partition("__")
        if key:
            other[section][key] = value
        else:
            other[section] = value
    return other


def test_healthy_machine_has_no_fix():
    checks = examine(HEALTHY, threads=1, native=lambda: None)
    # those look at the real machine
    judged = [check for check in checks if check.name not in ("disk space", "disk sync", "timer")]
    assert [check for check in judged if check.status != OK or check.fix] == []
    assert len({check.name for check in checks}) == len(checks)


@pytest.mark.parametrize(
    ("check", "environment", "status", "word"),
    [
        (lambda f: cores.threads(f, 5), HEALTHY, BAD, "--threads 4"),
        (lambda f: cores.threads(f, None), HEALTHY, WARN, "--threads 1"),
        (lambda f: cores.threads(f, 2), sick(cores__quota=1.5), BAD, "--threads 1"),
        (cores.quota, sick(cores__quota=0.5), BAD, "raise"),
        (cores.quota, sick(cores__quota=2.0), WARN, "--threads at 2"),
        (cores.quota, sick(cores__quota=4.0), OK, ""),
        (cores.load, sick(now__load=6.0), WARN, "top"),
        (cores.load, sick(now__load=20.0), BAD, "top"),
        (
            cores.pressure,
            sick(now__pressure_percent={"cpu": 50.0, "memory": 0.0, "io": None}),
            WARN,
            "waits for cpu",
        ),
        (
            cores.pressure,
            sick(now__pressure_percent={"cpu": None, "memory": None, "io": None}),
            OK,
            "psi=1",
        ),
        (cores.governor, sick(processor__governor="powersave"), WARN, "cpupower"),
        (cores.governor, sick(processor__governor=None), OK, ""),
        (cores.turbo, sick(processor__turbo=True), WARN, "no_turbo"),
        (cores.turbo, sick(processor__turbo=True, processor__driver="acpi-cpufreq"), WARN, "boost"),
        (cores.numa, sick(cores__numa_nodes=2), WARN, "numactl"),
        (cores.memory, sick(now__available_bytes=GIB), BAD, "free"),
        (cores.memory, sick(memory__limit_bytes=GIB), BAD, "limit"),
        (clocks.source, sick(system__clocksource="hpet"), WARN, "tsc"),
        (stack.torch, sick(torch={"error": "no torch"}), BAD, "pip install"),
        (stack.torch, sick(torch__debug=True), BAD, "release"),
        (stack.torch, sick(torch__mkldnn=False), WARN, "wheel"),
        (stack.torch, sick(torch__openmp=False), WARN, "--threads"),
        (stack.openmp, sick(variables={"OMP_WAIT_POLICY": "active"}), WARN, "unset"),
        (stack.openmp, sick(variables={"OMP_WAIT_POLICY": "passive"}), OK, ""),
        (stack.malloc, sick(allocator__tuning=None), WARN, "MALLOC_"),
        (lambda f: stack.gpu(f, "no driver"), sick(gpus=[]), WARN, "install"),
        (lambda f: stack.gpu(f, None), sick(torch__cuda=None), WARN, "CUDA"),
        (lambda f: stack.gpu(f, None), sick(gpus=[{**GPU, "mig": 1}]), WARN, "slices"),
        (lambda f: stack.gpu(f, None), sick(gpus=[{**GPU, "persistence": 0}]), WARN, "nvidia-smi"),
        (stack.triton, sick(packages__triton=None), WARN, "pip install triton"),
        (stack.triton, sick(packages__triton=None, gpus=[]), OK, ""),
        (lambda f: stack.native("no compiler"), HEALTHY, WARN, "slower"),
    ],
)
def test_each_problem_is_reported_with_its_fix(check, environment, status, word):
    result = check(environment)
    assert result.status == status
    assert word in result.fix
    assert result.finding


@pytest.mark.parametrize(
    ("grain", "status"),
    [((50, 40), OK), ((900, 900), WARN), ((50, 15_000_000), WARN), ((0, 0), BAD)],
)
def test_timer_check_depends_on_read_cost_and_smallest_step(grain, status):
    assert clocks.counter(grain).status == status


def test_clock_grain_of_a_clock_that_ticks_every_third_read():
    ticks = iter(range(10_000))
    assert clocks.clock_grain(lambda: 70 * (next(ticks) // 3), reads=300) == (0, 70)


@pytest.mark.parametrize(("free", "status"), [(10 * GIB, OK), (GIB // 2, WARN), (1 << 20, BAD)])
def test_disk_space_check_depends_on_free_bytes(tmp_path, monkeypatch, free, status):
    monkeypatch.setattr(
        storage.shutil, "disk_usage", lambda path: type("Usage", (), {"free": free})
    )
    assert storage.space(tmp_path / "not" / "there").status == status


@pytest.mark.parametrize(("taken", "status"), [(0.001, OK), (0.5, WARN)])
def test_disk_sync_check_depends_on_fsync_time(tmp_path, monkeypatch, taken, status):
    monkeypatch.setattr(storage, "sync_time", lambda folder: taken)
    assert storage.sync(tmp_path).status == status


def test_unwritable_folder_is_bad(tmp_path, monkeypatch):
    def refuses(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(storage, "sync_time", refuses)
    assert storage.sync(tmp_path) == Check(
        "disk sync",
        BAD,
        f"cannot write in {tmp_path}: Permission denied",
        "give --results a folder that can be written",
    )


def test_sync_time_leaves_no_file(tmp_path):
    assert storage.sync_time(tmp_path / "not" / "there", writes=1) > 0
    assert list(tmp_path.iterdir()) == []
