"""Pairing of CPU and GPU settings whose cells share the rows of a section, as in the supplement."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from swbench.case import BASELINE, EVAL, FOLDED, TRAIN, Case, device_kind
from swbench.report.run_summary import MeasuredCell

DEVICES = ("cpu", "cuda")

PHASE_WORDS = {TRAIN: "training", EVAL: "eval", FOLDED: "eval with norms folded"}


@dataclass(frozen=True)
class DeviceSetting:
    """The setting of a section on one kind of device. `device` names one of several, as in
    `cuda:1`.
    """

    batch: int
    mode: str
    threads: int
    world: int
    nodes: int
    device: str

    @classmethod
    def of(cls, case: Case) -> "DeviceSetting":
        """The setting of a case."""
        return cls(case.batch, case.mode, case.threads, case.world, case.nodes, case.device)

    @property
    def pairing_key(self) -> tuple[int, str]:
        """The fields that have to agree for a CPU and a GPU setting to share rows."""
        return self.batch, self.mode

    def words(self) -> str:
        """Text such as `batch 1, 2 threads`, with unusual values only."""
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
class SharedSetting:
    """The setting of a section that holds for every device."""

    image: tuple[int, int]
    dtype: str
    layout: str
    phase: str = TRAIN

    @classmethod
    def of(cls, cell: MeasuredCell) -> "SharedSetting":
        """The shared setting of a cell. Its phase is the baseline's, because a folded case stands
        in the same section.
        """
        case = cell.case
        phase = next(
            (group_case.phase for group_case in cell.group.cases if group_case.role == BASELINE),
            case.phase,
        )
        return cls(tuple(case.image), case.dtype, case.layout, phase)

    def words(self) -> str:
        """Text such as `224×224 px, float32`, with unusual values only."""
        layout = "" if self.layout == "contiguous" else f", {self.layout}"
        phase = "" if self.phase == TRAIN else f", {PHASE_WORDS[self.phase]}"
        return f"{self.image[0]}×{self.image[1]} px, {self.dtype}{layout}{phase}"


Pairing = tuple[DeviceSetting | None, DeviceSetting | None]
"""(CPU, GPU) settings of one section; None where a device has no counterpart."""


def pairings(cells: Iterable[MeasuredCell]) -> list[tuple[SharedSetting, Pairing]]:
    """The sections of a network table, in the order of the plan.

    Settings with the same batch and mode are paired (batch 1 with batch 1). Where no two agree,
    they are paired in order (Table 2: batch 1 on the CPU with batch 16 on the GPU). The rest stands
    alone.
    """
    by_shared_setting: dict[SharedSetting, dict[str, dict[DeviceSetting, None]]] = {}
    for cell in cells:
        by_device = by_shared_setting.setdefault(
            SharedSetting.of(cell), {device: {} for device in DEVICES}
        )
        by_device.setdefault(device_kind(cell.case.device), {})[DeviceSetting.of(cell.case)] = None
    return [
        (shared, pair)
        for shared, by_device in by_shared_setting.items()
        for pair in match(list(by_device["cpu"]), list(by_device["cuda"]))
    ]


def match(cpu: Sequence[DeviceSetting], gpu: Sequence[DeviceSetting]) -> list[Pairing]:
    """Pairs of CPU and GPU settings."""
    unpaired = list(gpu)
    pairs: list[Pairing] = []
    for setting in cpu:
        partner = next(
            (candidate for candidate in unpaired if candidate.pairing_key == setting.pairing_key),
            None,
        )
        if partner is not None:
            unpaired.remove(partner)
        pairs.append((setting, partner))
    if unpaired and not any(partner for _, partner in pairs):
        for index in range(min(len(pairs), len(unpaired))):
            pairs[index] = (pairs[index][0], unpaired.pop(0))
    return pairs + [(None, setting) for setting in unpaired]
