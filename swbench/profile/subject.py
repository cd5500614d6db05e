"""What is profiled: the network of a case, its input and its cotangent."""

import torch

from swbench import models
from swbench.case import Case
from swbench.errors import DeviceError, OptionError
from swbench.norms.layers import Whiten2d


class Subject:
    """The network of `case` in training mode, ready to be called. Raises OptionError or DeviceError where it cannot be profiled as it stands."""

    def __init__(self, case: Case) -> None:
        if case.mode != "eager":
            raise OptionError(f"a profile needs the operations one by one, and mode {case.mode!r} hides them; use --mode eager")
        if case.world != 1:
            raise OptionError(f"a profile looks at one process, not {case.world}; choose a row without synchronisation")
        if case.device != "cpu" and not torch.cuda.is_available():
            raise DeviceError("no CUDA device is available to torch here; use --device cpu")
        self.device, self.dtype = torch.device(case.device), getattr(torch, case.dtype)
        if self.device.type == "cpu":
            torch.set_num_threads(case.threads)
        torch.manual_seed(0)
        layout = torch.channels_last if case.layout == "channels_last" else torch.contiguous_format
        model = models.build(case.model, case.norm, case.layers, case.solver or "auto", case.classes, case.group)
        self.model = model.to(self.device, self.dtype, memory_format=layout).train()
        self.x = torch.randn(case.batch, 3, *case.image).to(self.device, self.dtype).to(memory_format=layout)
        with torch.no_grad():
            self.cotangent = torch.randn_like(self.model(self.x))

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    @property
    def chosen(self) -> dict[str, str]:
        """What the whitening layers decided, each value once: `{"solver": "eigh", "kernels": "torch"}`."""
        found: dict[str, dict[str, None]] = {}
        for layer in self.model.modules():
            if isinstance(layer, Whiten2d):
                for key, value in layer.chosen.items():
                    found.setdefault(key, {})[value] = None
        return {key: ", ".join(values) for key, values in found.items()}
