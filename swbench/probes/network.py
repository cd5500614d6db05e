"""One network, timed as the paper times it: a forward pass, and a forward and backward pass, from the same call."""

import torch

from swbench import models
from swbench.case import Case
from swbench.clock import Stopwatch, stopwatch_for
from swbench.probes.memory import peak_allocated
from swbench.probes.workload import Unsupported
from swbench.result import Measurement

SEED = 0
"""Weights, inputs and cotangents are the same in every process."""

_LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class NetworkWorkload:
    """A model in training mode with a fixed random input and a fixed random cotangent on its output.

    The loss is the inner product with the cotangent rather than a sum, whose gradient is 1 everywhere and lets layers after
    a normalisation see nothing. Gradients are dropped before the clock starts, so that a call allocates what a training step does.
    """

    def __init__(self, case: Case, stopwatch: Stopwatch | None = None) -> None:
        if case.mode != "eager":
            raise Unsupported(f"mode {case.mode!r} is not built yet; only eager is")
        if case.world != 1:
            raise Unsupported(f"{case.world} processes are not built yet; only 1 is")
        watch = stopwatch or stopwatch_for(case.device)
        if watch is None:
            raise Unsupported(f"there is no clock for device {case.device!r} yet; only cpu has one")
        self._watch = watch
        dtype, layout = getattr(torch, case.dtype), _LAYOUTS[case.layout]
        generator = torch.Generator().manual_seed(SEED)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            model = models.build(case.model, norm=case.norm, layers=case.layers, solver=case.solver or "auto", num_classes=_classes(case), group=case.group)
        self._model = model.to(device=case.device, dtype=dtype, memory_format=layout).train()
        shape = (case.batch, 3, *case.image)
        self._input = torch.randn(shape, generator=generator).to(device=case.device, dtype=dtype, memory_format=layout)
        with torch.no_grad():
            output = self._model(self._input)
        self._cotangent = torch.randn(output.shape, generator=generator).to(output)

    @property
    def chosen(self) -> dict[str, str]:
        """What the layers chose, such as `solver` and `kernels`; differing choices are joined by `+`."""
        found: dict[str, dict[str, None]] = {}
        for module in self._model.modules():
            for name, value in dict(getattr(module, "chosen", None) or {}).items():
                found.setdefault(name, {})[str(value)] = None
        return {name: "+".join(values) for name, values in found.items()}

    def call(self) -> dict[str, float]:
        self._model.zero_grad(set_to_none=True)
        watch = self._watch
        watch.start()
        output = self._model(self._input)
        watch.mark("forward")
        output.backward(self._cotangent)
        watch.mark("forward_backward")
        return watch.read()

    def finish(self) -> list[Measurement]:
        """Peak memory of one call beyond what the model and its input hold, and the bytes of its parameters."""
        self._model.zero_grad(set_to_none=True)
        parameters = sum(p.numel() * p.element_size() for p in self._model.parameters())
        found = [Measurement("parameter_bytes", "B", (float(parameters),))]
        peak = peak_allocated(lambda: self._model(self._input).backward(self._cotangent))
        return found if peak is None else [*found, Measurement("peak_bytes", "B", (float(peak),))]


def _classes(case: Case) -> int | None:
    return None if case.model == "stylizer" else case.classes
