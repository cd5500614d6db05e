"""GPUs as the real pynvml tells of them, on a library that answers as it is told to: what is not
supported, what fails, who else is there, an idle card that reads 100 %, a MIG slice.
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
ONE = {"name": "NVIDIA H100", "uuid": UUID, "bytes": 1 << 36}
CHECK = f"""
from swbench.errors import DeviceError
from swbench.run import devices
asked = {{"torch": "2.11.0", "cuda": "13.0", "warnings": [], "devices": [{ONE!r}]}}
try:
    said = devices.check(("cuda",), query_torch=lambda: asked, pause=lambda seconds: None)
except DeviceError as problem:
    said = str(problem)
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
def asked(library, tmp_path):
    """`asked(program, UTILISATION=…)` -> what the program leaves in `said`, and how often NVML was
    open after each init and shutdown.
    """

    def asked(program, **machine):
        log = tmp_path / "log"
        environment = {
            **os.environ,
            **{f"FAKE_NVML_{name}": str(value) for name, value in machine.items()},
            "FAKE_NVML_LOG": str(log),
            "LD_LIBRARY_PATH": str(library),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        done = subprocess.run(
            [sys.executable, "-c", f"import json\n{program}\nprint(json.dumps(said))"],
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

    return asked


USAGE = "from swbench.machine import gpus\nsaid = [gpus.usage(), gpus.gpus(), gpus.missing()]"


def test_a_card_is_told_in_si_units_and_nvml_is_shut_down_as_often_as_it_is_opened(asked):
    ((used,), (card,), missing), opened = asked(USAGE, UTILISATION=40, USED=3 << 30)
    assert used == {
        "uuid": f"GPU-{UUID}",
        "name": "NVIDIA H100",
        "utilisation": 0.4,
        "used_bytes": 3 << 30,
        "processes": [],
    }
    assert (card["memory_bytes"], card["power_limit_w"], card["max_sm_hz"]) == (
        85520809984,
        700.0,
        1980 * 10**6,
    )
    assert (card["application_sm_hz"], card["mig"], missing) == (None, 0, None)
    assert opened[-1] == 0


def test_what_is_not_supported_is_none_and_the_rest_is_told(asked):
    ((used,), (card,), missing), _ = asked(USAGE, FAIL=EVERYTHING)
    assert (used["utilisation"], used["used_bytes"], used["processes"]) == (None, None, [])
    assert used["name"] == card["name"] == "NVIDIA H100"
    assert {card[name] for name in ("memory_bytes", "power_limit_w", "max_sm_hz", "mig")} == {None}
    assert missing is None


@pytest.mark.parametrize(
    ("machine", "why"),
    [
        ({"FAIL": "nvmlDeviceGetCount_v2:999"}, "Unknown Error"),
        ({"FAIL": "nvmlInitWithFlags:999"}, "Unknown Error"),
        ({"CARDS": 0}, "NVML sees no card"),
    ],
)
def test_a_driver_that_fails_is_as_no_card_and_says_why(asked, machine, why):
    (used, cards, missing), opened = asked(USAGE, **machine)
    assert (used, cards, missing) == ([], [], why)
    assert "Init" in str(machine) or opened[-1] == 0


def test_a_foreign_process_is_refused_by_its_id(asked):
    said, _ = asked(CHECK, PID=4711)
    assert said.startswith("--device cuda: 1 other process (pid 4711) on the NVIDIA H100; ")


def test_an_idle_card_that_reads_100_per_cent_is_taken(asked):
    assert asked(CHECK, UTILISATION=100)[0] == ["cuda"]
    assert asked(CHECK, UTILISATION=100, FAIL="nvmlDeviceGetComputeRunningProcesses_v3:3")[0] == [
        "cuda"
    ]


def test_a_busy_card_is_looked_at_with_nvml_open_all_the_while(asked):
    """Without persistence mode each opening would load the driver anew, and read 100 % again."""
    said, opened = asked(CHECK, UTILISATION=100, USED=900 << 20)
    assert "something else at 100% on the NVIDIA H100" in said
    assert opened == [1, 2, 1, 2, 1, 2, 1, 0]


CARD = """
import pynvml
from swbench.probes.card import find
card = find(pynvml, {uuid!r})
said = [card.utilisation(), card.power_w(), card.energy_j(), card.sm_hz(), card.thermal_s(),
        card.throttle_reasons(), list(card.processes()), card.notes]
"""


def test_a_mig_slice_has_its_readings_and_says_which_it_lacks(asked):
    program = CARD.format(uuid="aaaaaaaa-2222-3333-4444-555555555555")
    said, _ = asked(program, MIG=1)
    assert said[:6] == [None, 70.0, None, 1.98e9, 2.0, 1]
    assert said[7][0].startswith("a MIG slice")
    assert [note for note in said[7] if note.startswith("no utilisation: Not Supported")]


def test_a_card_without_a_thermal_counter_is_read_all_the_same(asked):
    said, _ = asked(CARD.format(uuid=UUID), FAIL="nvmlDeviceGetViolationStatus:3", UTILISATION=7)
    assert said[:6] == [0.07, 70.0, 12.345, 1.98e9, None, 1]
    assert said[7] == ["no thermal counter: Not Supported"]
