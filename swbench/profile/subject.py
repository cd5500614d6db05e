"""What is profiled: the very network, input and cotangent that a run times."""

from typing import Any

import torch
from torch import Tensor, nn

from swbench.case import Case
from swbench.clock import HostClock, HostStopwatch
from swbench.errors import DeviceError
from swbench.probes.network import NetworkWorkload
from swbench.probes.precision import element_type
from swbench.probes.workload import Unsupported


class Subject(NetworkWorkload):
    """The network of `case`, called piecewise. Raises Unsupported where the case is not run one
    operation at a time, DeviceError without its device.
    """

    def __init__(self, case: Case) -> None:
        if case.device != "cpu" and not torch.cuda.is_available():
            raise DeviceError("no CUDA device is available to torch here; use --device cpu")
        if case.mode != "eager":
            raise Unsupported(
                f"mode {case.mode!r} runs more than one operation at a time; profile "
                "with --mode eager"
            )
        if case.device == "cpu" and case.threads:
            torch.set_num_threads(case.threads)
        super().__init__(case, HostStopwatch(HostClock()))
        self.device, self.dtype = torch.device(case.device), element_type(case.dtype)

    @property
    def model(self) -> nn.Module:
        """In training mode."""
        return self._model

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What it is called with."""
        return self._inputs

    def backward(self, output: Any) -> None:
        """The backward pass from the cotangents of `output`."""
        self._backward(output)

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
