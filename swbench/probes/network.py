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
from swbench.probes.case_network import in_phase, inputs_of, network_of
from swbench.probes.data_parallel import Spread
from swbench.probes.memory import peak_allocated, told
from swbench.probes.nvml import Card, card_of
from swbench.probes.precision import arrange, element_type
from swbench.probes.step import Step
from swbench.probes.workload import Unsupported
from swbench.result import WALLS, Measurement

SEED = 0
"""Weights, inputs and cotangents are the same in every process."""

_LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class NetworkWorkload:
    """A model in training mode with a fixed random input and a fixed random cotangent on every
    floating-point tensor of its output; or in eval mode, with running statistics of that input,
    and in phase `folded` with every norm folded that can be.

    The loss is the inner product with the cotangent rather than a sum, whose gradient is 1
    everywhere and lets layers after a normalisation see nothing. Of a case of several processes it
    is one rank's part: its images, and its share of the communication. Gradients are dropped before
    the clock starts, so that a call allocates what a training step does. On a GPU a call is a block
    of iterations (docs/measuring-gpu.md). `stopwatch` replaces the device's own, and then a call is
    one iteration; `gpu` and `card` stand for the device and its NVML in tests.
    """

    memory = True
    """Whether `finish` gives the peak of a call, which takes a profiled call on a CPU."""

    def __init__(
        self,
        case: Case,
        stopwatch: Stopwatch | None = None,
        gpu: Gpu | None = None,
        card: Card | None = None,
    ) -> None:
        if case.mode not in modes.MODES:
            raise Unsupported(f"there is no mode {case.mode!r}; there is {', '.join(modes.MODES)}")
        if case.mode == "graph" and not case.device.startswith("cuda"):
            raise Unsupported(f"CUDA graphs need a CUDA device; on {case.device} use --mode eager")
        if case.world > 1 and case.phase != TRAIN:
            raise Unsupported(
                f"{case.world} processes train, and phase {case.phase} does not; use --phase train"
            )
        spread = self._spread = Spread(case) if case.world > 1 else None
        if spread and case.mode != "eager":
            raise Unsupported(
                f"{case.world} processes run eager only, not in mode {case.mode}; use --mode eager"
            )
        device = spread.device if spread else case.device
        if gpu is None and stopwatch is None and case.device != "cpu":
            from swbench.clock.cuda import gpu_for

            gpu = gpu_for(device)
        watch = stopwatch or (EventStopwatch(gpu) if gpu is not None else stopwatch_for(device))
        if watch is None:
            raise Unsupported(f"torch sees no device {device!r} here; use --device cpu")
        self._case, self._watch, self._gpu = case, watch, gpu
        self._card = card_of(gpu.uuid) if card is None and gpu is not None else card
        self._graphs: tuple = ()
        self._iterations, self._walls = 1, []
        self._settings = arrange(case.dtype, device)
        with told(gpu):
            self._build(case, device if gpu is None else gpu.place)
            if gpu is not None:
                self._prepare(gpu)

    def _build(self, case: Case, place: str) -> None:
        spread = self._spread
        dtype, layout = element_type(case.dtype), _LAYOUTS[case.layout]
        generator = torch.Generator().manual_seed(SEED)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            model = network_of(case, case.solver or "auto")
        model = model.to(device=place, dtype=dtype, memory_format=layout).train()
        self._inputs = tuple(
            (spread.own(one) if spread else one).to(
                device=place, memory_format=layout if one.dim() == 4 else torch.contiguous_format
            )
            for one in inputs_of(case, generator)
        )
        self._settings |= in_phase(model, case.phase, self._inputs)
        self._model = spread.model(model) if spread else model
        self._step = Step(case, place, self._model, self._inputs)
        if case.mode == "compile":
            self._step.run = modes.Compiled(self._model)
        if self._step.trains:
            self._step.cotangents = self._random_cotangents(generator)
        if isinstance(self._step.run, modes.Compiled):
            self._step.run.settle(self._step)

    def _random_cotangents(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        spread = self._spread
        with torch.no_grad():
            outputs = floating(self._step.forward(self._model))
        if not outputs:
            raise Unsupported(
                f"{self._case.model} returns no floating-point tensor to go back from"
            )
        cotangents = [
            torch.randn(spread.whole(one.shape) if spread else one.shape, generator=generator)
            for one in outputs
        ]
        return tuple(
            (spread.own(cotangent) if spread else cotangent).to(output)
            for cotangent, output in zip(cotangents, outputs, strict=True)
        )

    def _prepare(self, gpu: Gpu) -> None:
        """Warm libraries up, take the peak of one iteration, capture, and choose the size of a
        block.
        """
        graph = self._case.mode == "graph"
        if graph:
            modes.refuse_waiting(modes.waiting_solvers(self._model))
        where = gpu.aside if graph else lambda step: step()
        for _ in range(3 if graph else 1):
            where(self._step)
        self._model.zero_grad(set_to_none=True)
        self._peak = gpu.peak(lambda: where(self._step))
        if graph:
            self._graphs = (modes.capture(gpu, self._step.forward),)
            if self._step.trains:
                # so that the capture allocates the gradients, and every replay writes them anew
                self._model.zero_grad(set_to_none=True)
                self._graphs += (modes.capture(gpu, self._step),)
        self._iterations = modes.block_size(
            lambda: self._spread.slowest(self.call()) if self._spread else self.call()
        )
        self.warmed()

    @property
    def chosen(self) -> dict[str, str]:
        """What the layers chose, such as `solver` and `kernels` (differing choices are joined by
        `+`), and how the device was set.
        """
        found: dict[str, dict[str, None]] = {}
        for module in self._model.modules():
            for name, value in dict(getattr(module, "chosen", None) or {}).items():
                found.setdefault(name, {})[str(value)] = None
        words = (
            {name: "+".join(values) for name, values in found.items()}
            | self._settings
            | (self._spread.chosen if self._spread else {})
        )
        if isinstance(self._step.run, modes.Compiled):
            words["compiled"] = self._step.run.words
        if self._card is not None and self._card.notes:
            words["nvml"] = "; ".join(self._card.notes)
        return words

    def warmed(self) -> None:
        """What was timed so far was warm-up."""
        self._walls.clear()
        if isinstance(self._watch, EventStopwatch):
            self._watch.take()

    def call(self) -> dict[str, float]:
        with told(self._gpu):
            found = (
                self._compiled_block()
                if isinstance(self._step.run, modes.Compiled)
                else self._replayed()
                if self._graphs
                else self._block()
            )
        self._walls += [found[name] for name in WALLS if name in found]
        return found

    def _block(self) -> dict[str, float]:
        watch = self._watch
        for _ in range(self._iterations):
            self._step.timed(watch)
        return watch.read()

    def _compiled_block(self) -> dict[str, float]:
        found, disturbed = self._step.run.watched(self._block)
        if disturbed:
            raise Unsupported("torch.compile compiled anew while it was timed; use --mode eager")
        return found

    def _replayed(self) -> dict[str, float]:
        """A block of the forward graph, then one of both passes."""
        found, watch = {}, self._watch
        for name, graph in zip(self._step.passes, self._graphs, strict=True):
            for _ in range(self._iterations):
                watch.start()
                graph.replay()
                watch.mark(name)
            found |= watch.read()
        return found

    def _queue(self) -> None:
        """A block's work without a clock."""
        for _ in range(self._iterations):
            if self._graphs:
                self._graphs[-1].replay()
            else:
                self._step()

    def observe(self, metrics: tuple[str, ...]) -> list[Measurement]:
        """What NVML shows of a steady loop: utilisation, power and clocks over 10 s, energy over 5
        s. Nothing on a CPU, nor of the control.
        """
        if (
            self._gpu is None
            or self._case.role == CONTROL
            or not sustained_load.LEAST_S.keys() & set(metrics)
        ):
            return []
        return sustained_load.observe(self._queue, self._iterations, self._gpu, self._card, metrics)

    def timings(self) -> list[Measurement]:
        """On a GPU the size of a block, and each iteration of the rounds (`forward_event_s`,
        `forward_backward_event_s`).
        """
        found = (
            [Measurement("block_iterations", "1", (float(self._iterations),))]
            if self._gpu is not None
            else []
        )
        if isinstance(self._watch, EventStopwatch):
            found += [
                Measurement(f"{name}_event_s", "s", tuple(values))
                for name, values in self._watch.take().items()
            ]
        return found

    def finish(self) -> list[Measurement]:
        """Bytes of the parameters and, with `memory`, the peak of a call beyond what model and
        input hold; on a GPU `timings` and the busy time too.

        `gpu_busy_s` is the time an iteration keeps the device busy, `gpu_busy_share` that over the
        median wall time of an iteration.
        """
        self._model.zero_grad(set_to_none=True)
        parameters = sum(p.numel() * p.element_size() for p in self._model.parameters())
        found = [Measurement("parameter_bytes", "B", (float(parameters),))]
        if self._gpu is not None:
            found += self._device(self._gpu)
        elif self.memory and (peak := peak_allocated(self._step.last)) is not None:
            found.append(Measurement("peak_bytes", "B", (float(peak),)))
        if isinstance(self._step.run, modes.Compiled):
            found.append(Measurement("compile_s", "s", (self._step.run.seconds,)))
        if self._spread:
            found += self._spread.measurements(
                self.call,
                self._step,
                element_type(self._case.dtype),
                self._case.role == BASELINE,
            )
        return found

    def _device(self, gpu: Gpu) -> list[Measurement]:
        names = ("peak_bytes", "peak_reserved_bytes") if self.memory else ()
        found = [
            Measurement(name, "B", (float(value),))
            for name, value in zip(names, self._peak, strict=False)
        ]
        found += self.timings()
        others = len(self._card.processes()) - 1
        if others > 0 and not self._spread:
            self._settings["beside"] = (
                f"{others} other process{'es' if others > 1 else ''} computed there at "
                "the end of a replicate"
            )
        busy_s = gpu.busy_s(self._queue)
        if busy_s is None:
            self._settings["busy"] = "not measured: the profiler saw no kernel"
            return found
        busy_s /= self._iterations
        found.append(Measurement("gpu_busy_s", "s", (busy_s,)))
        wall_s = statistics.median(self._walls) if self._walls else 0.0
        return (
            [*found, Measurement("gpu_busy_share", "1", (busy_s / wall_s,))]
            if wall_s > 0
            else found
        )
