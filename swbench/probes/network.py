"""One network, timed as the paper times it: a forward pass, and a forward and backward pass, from
the same call; or in eval mode one forward pass.
"""

import statistics

import torch
from torch import Tensor

from swbench.case import BASELINE, CONTROL, TRAIN, Case
from swbench.clock import EventStopwatch, Gpu, Stopwatch, stopwatch_for
from swbench.models.outputs import floating
from swbench.probes import modes, sustained_load
from swbench.probes.case_network import build_network, case_inputs, set_phase
from swbench.probes.data_parallel import DataParallel
from swbench.probes.memory import oom_as_memory_error, peak_allocated
from swbench.probes.nvml import NvmlDevice, nvml_device
from swbench.probes.precision import element_type, set_tf32
from swbench.probes.step import Step
from swbench.probes.workload import Unsupported
from swbench.result import WALLS, Measurement

SEED = 0
"""Weights, inputs and cotangents are the same in every process."""

_LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class NetworkWorkload:
    """A model in training mode with a fixed random input and a fixed random cotangent on every
    floating-point tensor of its output; or in eval mode, with running statistics of that input, and
    in phase `folded` with every norm folded that can be.

    The loss is the inner product with the cotangent. A sum would not do: its gradient is 1
    everywhere, of which a normalisation passes 0 on to the layers before it. Gradients are dropped
    before the clock starts, so that a call allocates what a training step does. On a GPU a call is
    a block of iterations (docs/measuring-gpu.md).

    In a case of several processes this is one rank's part: its images and its communication.
    `stopwatch` replaces the device's own, and a call is then one iteration; tests pass `gpu` and
    `nvml`.
    """

    memory = True
    """Whether `finish` measures the peak memory of a call, which takes a profiled call on a CPU."""

    def __init__(
        self,
        case: Case,
        stopwatch: Stopwatch | None = None,
        gpu: Gpu | None = None,
        nvml: NvmlDevice | None = None,
    ) -> None:
        if case.mode not in modes.MODES:
            raise Unsupported(
                f"there is no mode {case.mode!r}; use one of {', '.join(modes.MODES)}"
            )
        if case.mode == "graph" and not case.device.startswith("cuda"):
            raise Unsupported(f"CUDA graphs need a CUDA device; on {case.device} use --mode eager")
        if case.world > 1 and case.phase != TRAIN:
            raise Unsupported(
                f"{case.world} processes need a training step, and phase {case.phase} has none; "
                "use --phase train"
            )
        data_parallel = self._data_parallel = DataParallel(case) if case.world > 1 else None
        if data_parallel and case.mode != "eager":
            raise Unsupported(
                f"{case.world} processes run eager only, not in mode {case.mode}; use --mode eager"
            )
        device = data_parallel.device if data_parallel else case.device
        if gpu is None and stopwatch is None and case.device != "cpu":
            from swbench.clock.cuda import gpu_for

            gpu = gpu_for(device)
        watch = stopwatch or (EventStopwatch(gpu) if gpu is not None else stopwatch_for(device))
        if watch is None:
            raise Unsupported(f"torch sees no device {device!r} here; use --device cpu")
        self._case, self._watch, self._gpu = case, watch, gpu
        self._nvml = nvml_device(gpu.uuid) if nvml is None and gpu is not None else nvml
        self._graphs: tuple = ()
        self._iterations, self._walls = 1, []
        self._settings = set_tf32(case.dtype, device)
        with oom_as_memory_error(gpu):
            self._build(case, device if gpu is None else gpu.device)
            if gpu is not None:
                self._prepare(gpu)

    def _build(self, case: Case, device: str) -> None:
        data_parallel = self._data_parallel
        dtype, layout = element_type(case.dtype), _LAYOUTS[case.layout]
        generator = torch.Generator().manual_seed(SEED)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            model = build_network(case, case.solver or "auto")
        model = model.to(device=device, dtype=dtype, memory_format=layout).train()
        self._inputs = tuple(
            (data_parallel.shard(tensor) if data_parallel else tensor).to(
                device=device,
                memory_format=layout if tensor.dim() == 4 else torch.contiguous_format,
            )
            for tensor in case_inputs(case, generator)
        )
        self._settings |= set_phase(model, case.phase, self._inputs)
        self._model = data_parallel.wrap(model) if data_parallel else model
        self._step = Step(case, device, self._model, self._inputs)
        if case.mode == "compile":
            self._step.run = modes.Compiled(self._model)
        if self._step.trains:
            self._step.cotangents = self._random_cotangents(generator)
        if isinstance(self._step.run, modes.Compiled):
            self._step.run.settle(self._step)

    def _random_cotangents(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        data_parallel = self._data_parallel
        with torch.no_grad():
            outputs = floating(self._step.forward(self._model))
        if not outputs:
            raise Unsupported(
                f"{self._case.model} returns no floating-point tensor, so it has no backward pass; "
                "use --phase eval"
            )
        cotangents = [
            torch.randn(
                data_parallel.global_shape(output.shape) if data_parallel else output.shape,
                generator=generator,
            )
            for output in outputs
        ]
        return tuple(
            (data_parallel.shard(cotangent) if data_parallel else cotangent).to(output)
            for cotangent, output in zip(cotangents, outputs, strict=True)
        )

    def _prepare(self, gpu: Gpu) -> None:
        """Warm up libraries, measure the peak memory of one iteration, capture graphs, and choose
        the size of a block.
        """
        graph = self._case.mode == "graph"
        if graph:
            modes.refuse_synchronising_solvers(modes.synchronising_solvers(self._model))
        where = gpu.run_on_capture_stream if graph else lambda step: step()
        for _ in range(3 if graph else 1):
            where(self._step)
        self._model.zero_grad(set_to_none=True)
        self._peak = gpu.peak(lambda: where(self._step))
        if graph:
            self._graphs = (modes.capture(gpu, self._step.forward),)
            if self._step.trains:
                # so that the capture allocates the gradients, and every replay overwrites them
                self._model.zero_grad(set_to_none=True)
                self._graphs += (modes.capture(gpu, self._step),)
        self._iterations = modes.block_size(
            lambda: self._data_parallel.slowest(self.call()) if self._data_parallel else self.call()
        )
        self.warmed()

    @property
    def chosen(self) -> dict[str, str]:
        """Choices of the layers, such as `solver` and `kernels` (different ones are joined by `+`),
        and settings of the device.
        """
        choices: dict[str, dict[str, None]] = {}
        for module in self._model.modules():
            for name, value in dict(getattr(module, "chosen", None) or {}).items():
                choices.setdefault(name, {})[str(value)] = None
        chosen = (
            {name: "+".join(values) for name, values in choices.items()}
            | self._settings
            | (self._data_parallel.chosen if self._data_parallel else {})
        )
        if isinstance(self._step.run, modes.Compiled):
            chosen["compiled"] = self._step.run.words
        if self._nvml is not None and self._nvml.notes:
            chosen["nvml"] = "; ".join(self._nvml.notes)
        return chosen

    def warmed(self) -> None:
        """Discard the times so far: they were warm-up."""
        self._walls.clear()
        if isinstance(self._watch, EventStopwatch):
            self._watch.take()

    def call(self) -> dict[str, float]:
        with oom_as_memory_error(self._gpu):
            samples = (
                self._compiled_block()
                if isinstance(self._step.run, modes.Compiled)
                else self._replayed()
                if self._graphs
                else self._block()
            )
        self._walls += [samples[name] for name in WALLS if name in samples]
        return samples

    def _block(self) -> dict[str, float]:
        watch = self._watch
        for _ in range(self._iterations):
            self._step.timed(watch)
        return watch.read()

    def _compiled_block(self) -> dict[str, float]:
        samples, compiled = self._step.run.run_and_detect_compiling(self._block)
        if compiled:
            raise Unsupported("torch.compile compiled again while it was timed; use --mode eager")
        return samples

    def _replayed(self) -> dict[str, float]:
        """A block of the forward graph, then one of both passes."""
        samples, watch = {}, self._watch
        for name, graph in zip(self._step.passes, self._graphs, strict=True):
            for _ in range(self._iterations):
                watch.start()
                graph.replay()
                watch.mark(name)
            samples |= watch.read()
        return samples

    def _queue(self) -> None:
        """A block's work without a clock."""
        for _ in range(self._iterations):
            if self._graphs:
                self._graphs[-1].replay()
            else:
                self._step()

    def observe(self, metrics: tuple[str, ...]) -> list[Measurement]:
        """NVML's readings under sustained load: utilisation, power and clocks over 10 s, energy
        over 5 s. Empty on a CPU and for the control.
        """
        if (
            self._gpu is None
            or self._case.role == CONTROL
            or not sustained_load.LEAST_S.keys() & set(metrics)
        ):
            return []
        return sustained_load.observe(self._queue, self._iterations, self._gpu, self._nvml, metrics)

    def timings(self) -> list[Measurement]:
        """On a GPU the size of a block, and the seconds of each iteration of the rounds
        (`forward_event_s`, `forward_backward_event_s`).
        """
        measurements = (
            [Measurement("block_iterations", "1", (float(self._iterations),))]
            if self._gpu is not None
            else []
        )
        if isinstance(self._watch, EventStopwatch):
            measurements += [
                Measurement(f"{name}_event_s", "s", tuple(values))
                for name, values in self._watch.take().items()
            ]
        return measurements

    def finish(self) -> list[Measurement]:
        """Bytes of the parameters and, with `memory`, the peak of a call beyond what model and
        input hold; on a GPU `timings` and the busy time too.

        `gpu_busy_s` is the time for which an iteration keeps the device busy, `gpu_busy_share` its
        share of the median wall time of an iteration.
        """
        self._model.zero_grad(set_to_none=True)
        parameters = sum(p.numel() * p.element_size() for p in self._model.parameters())
        measurements = [Measurement("parameter_bytes", "B", (float(parameters),))]
        if self._gpu is not None:
            measurements += self._device(self._gpu)
        elif self.memory and (peak := peak_allocated(self._step.run_passes)) is not None:
            measurements.append(Measurement("peak_bytes", "B", (float(peak),)))
        if isinstance(self._step.run, modes.Compiled):
            measurements.append(Measurement("compile_s", "s", (self._step.run.seconds,)))
        if self._data_parallel:
            measurements += self._data_parallel.measurements(
                self.call,
                self._step,
                element_type(self._case.dtype),
                self._case.role == BASELINE,
            )
        return measurements

    def _device(self, gpu: Gpu) -> list[Measurement]:
        names = ("peak_bytes", "peak_reserved_bytes") if self.memory else ()
        measurements = [
            Measurement(name, "B", (float(value),))
            for name, value in zip(names, self._peak, strict=False)
        ]
        measurements += self.timings()
        others = len(self._nvml.processes()) - 1
        if others > 0 and not self._data_parallel:
            self._settings["beside"] = (
                f"{others} other process{'es' if others > 1 else ''} computed there at "
                "the end of a replicate"
            )
        busy_s = gpu.busy_s(self._queue)
        if busy_s is None:
            self._settings["busy"] = "not measured: the profiler saw no kernel"
            return measurements
        busy_s /= self._iterations
        measurements.append(Measurement("gpu_busy_s", "s", (busy_s,)))
        wall_s = statistics.median(self._walls) if self._walls else 0.0
        return (
            [*measurements, Measurement("gpu_busy_share", "1", (busy_s / wall_s,))]
            if wall_s > 0
            else measurements
        )
