"""A plugin that makes parent and workers see one GPU: the fake device for torch's, and the fake
NVML. `GPU_MACHINE` holds what is otherwise, as JSON.

`busy_s` is what the profiler reads, `fits` the largest batch at which SW^a fits, `fail` and
`answers` are the fake NVML's, `uuids` the cards it has, `nvml` false hides the package, `killed`
names a norm whose worker dies of a signal.
"""

import functools
import json
import os
import signal
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
SETTINGS = json.loads(os.environ.get("GPU_MACHINE", "{}"))


def register():
    sys.path.insert(0, str(TESTS / "support"))
    import fake_nvml
    from fake_gpu import FakeGpu

    from swbench.run import devices

    nvml = fake_nvml.FakeNvml(
        **{name: SETTINGS[name] for name in ("uuids", "fail") if name in SETTINGS},
        **SETTINGS.get("answers", {}),
    )
    nvml.answers |= {"nvmlDeviceGetCount": 0, "nvmlShutdown": None}
    for name in ("nvmlDeviceGetCount", "nvmlShutdown"):
        setattr(nvml, name, lambda: 0)
    sys.modules["pynvml"] = nvml if SETTINGS.get("nvml", True) else None
    if "usage" in SETTINGS:
        devices.gpus.usage = lambda: [{"uuid": f"GPU-{FakeGpu.uuid}", **SETTINGS["usage"]}]
    devices.torch_devices = lambda: {
        "torch": "2.11.0",
        "cuda": "13.0",
        "warnings": [],
        "devices": [{"name": "Fake", "uuid": FakeGpu.uuid, "bytes": 1 << 32}],
    }
    devices.BUSY_PAUSE_S = 0.0
    if "torch" in sys.modules or any("swbench.worker.main" in word for word in sys.orig_argv):
        _in_a_worker(FakeGpu)


def _in_a_worker(fake):
    import torch

    from swbench.clock import cuda
    from swbench.probes.network import NetworkWorkload

    torch.set_num_threads(1)
    cuda.gpu_for = functools.cache(
        lambda device: fake(tick_s=0.5, device_busy_s=SETTINGS.get("busy_s", 0.9))
    )
    build = NetworkWorkload._build

    def within_memory(self, case, place):
        if case.norm == "swa" and case.batch > SETTINGS.get("fits", 10**6):
            raise torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total "
                "capacity of 79.10 GiB."
            )
        if case.norm == SETTINGS.get("killed"):
            os.kill(os.getpid(), signal.SIGSEGV)
        build(self, case, place)

    NetworkWorkload._build = within_memory
