"""Which cells stand in one row: the settings of CPU and GPU that are read side by side, as in the
supplement.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from swbench.case import BASELINE, EVAL, FOLDED, TRAIN, Case, device_kind
from swbench.report.run_summary import Measured

DEVICES = ("cpu", "cuda")

PHASE_WORDS = {TRAIN: "training", EVAL: "eval", FOLDED: "eval with norms folded"}


@dataclass(frozen=True)
class Setting:
    """What a section fixes on one kind of device; `device` says which of several, as in
    `cuda:1`.
    """

    batch: int
    mode: str
    threads: int
    world: int
    nodes: int
    device: str

    @classmethod
    def of(cls, case: Case) -> "Setting":
        """The setting of a case."""
        return cls(case.batch, case.mode, case.threads, case.world, case.nodes, case.device)

    @property
    def alike(self) -> tuple[int, str]:
        """What makes a CPU setting the counterpart of a GPU setting."""
        return self.batch, self.mode

    def words(self) -> str:
        """`batch 1, 2 threads`, naming what is not usual."""
        parts = [f"batch {self.batch}"]
        if self.threads:
            parts.append(f"{self.threads} thread{'s' if self.threads > 1 else ''}")
        if self.mode != "eager":
            parts.append(self.mode)
        if self.world > 1:
            parts.append(
                f"{self.world} processes{f' on {self.nodes} nodes' if self.nodes > 1 else ''}"
            )
        if ":" in self.device:
            parts.append(self.device)
        return ", ".join(parts)


@dataclass(frozen=True)
class Frame:
    """What a section fixes on every device."""

    image: tuple[int, int]
    dtype: str
    layout: str
    phase: str = TRAIN

    @classmethod
    def of(cls, cell: Measured) -> "Frame":
        """The frame of a cell: its phase is the baseline's, beside which a folded twin stands."""
        case = cell.case
        phase = next((one.phase for one in cell.group.cases if one.role == BASELINE), case.phase)
        return cls(tuple(case.image), case.dtype, case.layout, phase)

    def words(self) -> str:
        """`224×224 px, float32`, naming what is not usual."""
        layout = "" if self.layout == "contiguous" else f", {self.layout}"
        phase = "" if self.phase == TRAIN else f", {PHASE_WORDS[self.phase]}"
        return f"{self.image[0]}×{self.image[1]} px, {self.dtype}{layout}{phase}"


Pairing = tuple[Setting | None, Setting | None]
"""(CPU, GPU) settings of one section; None where a device has nothing to set beside the other."""


def pairings(cells: Iterable[Measured]) -> list[tuple[Frame, Pairing]]:
    """The sections of a network table, in the order of the plan.

    Settings with the same batch and mode go together (batch 1 with batch 1); where no two are alike
    they are paired in order (Table 2: batch 1 on the CPU beside batch 16 on the GPU); what is left
    over stands alone.
    """
    found: dict[Frame, dict[str, dict[Setting, None]]] = {}
    for cell in cells:
        by_device = found.setdefault(Frame.of(cell), {device: {} for device in DEVICES})
        by_device.setdefault(device_kind(cell.case.device), {})[Setting.of(cell.case)] = None
    return [
        (frame, pair)
        for frame, by_device in found.items()
        for pair in match(list(by_device["cpu"]), list(by_device["cuda"]))
    ]


def match(cpu: Sequence[Setting], gpu: Sequence[Setting]) -> list[Pairing]:
    """CPU and GPU settings put side by side."""
    rest = list(gpu)
    pairs: list[Pairing] = []
    for setting in cpu:
        twin = next((other for other in rest if other.alike == setting.alike), None)
        if twin is not None:
            rest.remove(twin)
        pairs.append((setting, twin))
    if rest and not any(twin for _, twin in pairs):
        for index in range(min(len(pairs), len(rest))):
            pairs[index] = (pairs[index][0], rest.pop(0))
    return pairs + [(None, setting) for setting in rest]
