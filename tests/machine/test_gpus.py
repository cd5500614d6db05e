"""GPUs through the real pynvml on a fake library: unsupported readings, failures, other processes,
an idle GPU that reads 100 %, a MIG slice.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parent.parent / "support"
COMPILER = shutil.which("cc") or shutil.which("gcc")
UUID = "11111111-2222-3333-4444-555555555555"
EVERYTHING = (
    "nvmlDeviceGetUtilizationRates:3,nvmlDeviceGetMemoryInfo:3,nvmlDeviceGetMemoryInfo_v2:3,"
    "nvmlDeviceGetComputeRunningProcesses_v3:3,nvmlDeviceGetPowerManagementLimit:3,"
    "nvmlDeviceGetMaxClockInfo:3,nvmlDeviceGetMigMode:3,nvmlDeviceGetPersistenceMode:3,"
    "nvmlDeviceGetComputeMode:3"
)
H100 = {"name": "NVIDIA H100", "uuid": UUID, "bytes": 1 << 36}
CHECK = f"""
from swbench.errors import DeviceError
from swbench.run import devices
torch_devices = {{"torch": "2.11.0", "cuda": "13.0", "warnings": [], "devices": [{H100!r}]}}
try:
    answers = devices.check(
        ("cuda",), query_torch=lambda: torch_devices, pause=lambda seconds: None
    )
except DeviceError as problem:
    answers = str(problem)
"""

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A folder with the fake `libnvidia-ml.so.1`."""
    folder = tmp_path_factory.mktemp("nvml")
    words = [COMPILER, "-shared", "-fPIC", "-w", "-o", str(folder / "libnvidia-ml.so.1")]
    subprocess.run([*words, str(SUPPORT / "fake_libnvml.c")], check=True, timeout=60)
    return folder


@pytest.fixture
def run_with_fake_nvml(library, tmp_path):
    """`run_with_fake_nvml(program, UTILISATION=…)` -> the program's `answers`, and how often NVML
    was open after each init and shutdown.
    """

    def run_with_fake_nvml(program, **machine):
        log = tmp_path / "log"
        environment = {
            **os.environ,
            **{f"FAKE_NVML_{name}": str(value) for name, value in machine.items()},
            "FAKE_NVML_LOG": str(log),
            "LD_LIBRARY_PATH": str(library),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        done = subprocess.run(
            [sys.executable, "-c", f"import json\n{program}\nprint(json.dumps(answers))"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        open_now, opened = 0, []
        for line in log.read_text().splitlines() if log.exists() else ():
            open_now += 1 if line == "init" else -1
            opened.append(open_now)
        return json.loads(done.stdout), opened

    return run_with_fake_nvml


USAGE = (
    "from swbench.machine import gpus\nanswers = [gpus.usage(), gpus.gpus(), gpus.no_gpu_reason()]"
)


def test_a_gpu_is_recorded_in_si_units_and_nvml_is_shut_down_as_often_as_it_is_opened(
    run_with_fake_nvml,
):
    ((used,), (gpu,), missing), opened = run_with_fake_nvml(USAGE, UTILISATION=40, USED=3 << 30)
    assert used == {
        "uuid": f"GPU-{UUID}",
        "name": "NVIDIA H100",
        "utilisation": 0.4,
        "used_bytes": 3 << 30,
        "processes": [],
    }
    assert (gpu["memory_bytes"], gpu["power_limit_w"], gpu["max_sm_hz"]) == (
        85520809984,
        700.0,
        1980 * 10**6,
    )
    assert (gpu["application_sm_hz"], gpu["mig"], missing) == (None, 0, None)
    assert opened[-1] == 0


def test_unsupported_readings_are_none_and_the_rest_is_recorded(run_with_fake_nvml):
    ((used,), (gpu,), missing), _ = run_with_fake_nvml(USAGE, FAIL=EVERYTHING)
    assert (used["utilisation"], used["used_bytes"], used["processes"]) == (None, None, [])
    assert used["name"] == gpu["name"] == "NVIDIA H100"
    assert {gpu[name] for name in ("memory_bytes", "power_limit_w", "max_sm_hz", "mig")} == {None}
    assert missing is None


@pytest.mark.parametrize(
    ("machine", "why"),
    [
        ({"FAIL": "nvmlDeviceGetCount_v2:999"}, "Unknown Error"),
        ({"FAIL": "nvmlInitWithFlags:999"}, "Unknown Error"),
        ({"GPUS": 0}, "NVML sees no GPU"),
    ],
)
def test_a_failing_driver_counts_as_no_gpu_with_its_reason(run_with_fake_nvml, machine, why):
    (used, found_gpus, missing), opened = run_with_fake_nvml(USAGE, **machine)
    assert (used, found_gpus, missing) == ([], [], why)
    assert "Init" in str(machine) or opened[-1] == 0


def test_a_foreign_process_is_refused_by_its_id(run_with_fake_nvml):
    answers, _ = run_with_fake_nvml(CHECK, PID=4711)
    assert answers.startswith("--device cuda: 1 other process (pid 4711) on the NVIDIA H100; ")


def test_an_idle_gpu_that_reads_100_per_cent_is_accepted(run_with_fake_nvml):
    assert run_with_fake_nvml(CHECK, UTILISATION=100)[0] == ["cuda"]
    assert run_with_fake_nvml(
        CHECK, UTILISATION=100, FAIL="nvmlDeviceGetComputeRunningProcesses_v3:3"
    )[0] == ["cuda"]


def test_nvml_stays_open_while_a_busy_gpu_is_read(run_with_fake_nvml):
    """Without persistence mode each opening would load the driver anew, and read 100 % again."""
    answers, opened = run_with_fake_nvml(CHECK, UTILISATION=100, USED=900 << 20)
    assert "something else at 100% on the NVIDIA H100" in answers
    assert opened == [1, 2, 1, 2, 1, 2, 1, 0]


DEVICE = """
import pynvml
from swbench.probes.nvml import device_with_uuid
device = device_with_uuid(pynvml, {uuid!r})
answers = [device.utilisation(), device.power_w(), device.energy_j(), device.sm_hz(),
        device.thermal_s(), device.throttle_reasons(), list(device.processes()), device.notes]
"""


def test_a_mig_slice_has_its_readings_and_notes_the_missing_ones(run_with_fake_nvml):
    program = DEVICE.format(uuid="aaaaaaaa-2222-3333-4444-555555555555")
    answers, _ = run_with_fake_nvml(program, MIG=1)
    assert answers[:6] == [None, 70.0, None, 1.98e9, 2.0, 1]
    assert answers[7][0].startswith("a MIG slice")
    assert [note for note in answers[7] if note.startswith("no utilisation: Not Supported")]


def test_a_gpu_without_a_thermal_counter_has_its_other_readings(run_with_fake_nvml):
    answers, _ = run_with_fake_nvml(
        DEVICE.format(uuid=UUID), FAIL="nvmlDeviceGetViolationStatus:3", UTILISATION=7
    )
    assert answers[:6] == [0.07, 70.0, 12.345, 1.98e9, None, 1]
    assert answers[7] == ["no thermal counter: Not Supported"]
