"""The text around a table: warnings, the meaning of marks, and where and how it was measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from shlex import quote
from typing import TYPE_CHECKING, Any

from swbench.case import VARIANT, device_kind
from swbench.errors import printable
from swbench.formatting import ratio, status_words
from swbench.plan import FASTER_HALF, Protocol
from swbench.probes.disturbance import exceeds_rule, marked_rounds, quietness
from swbench.report.cautions import PASS_NAMES, absence_text
from swbench.report.run_summary import PENDING, MeasuredCell, RunSummary, is_control
from swbench.result import BUDGET_SPENT, OK, OUT_OF_MEMORY, PAIRED
from swbench.stats.samples import by_replicate, by_worker, disturbed
from swbench.stats.stopping import Stopping
from swbench.stats.verdict import NOT_RESOLVED

if TYPE_CHECKING:
    from swbench.store import StoredRun

_ALLOCATOR = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")


def warnings_of(summary: RunSummary, *, no_gpu: bool) -> tuple[str, ...]:
    """The warnings of a run, gravest first."""
    run, protocol = summary.run, summary.run.plan.protocol
    lines = []
    if protocol.quick:
        lines.append(
            f"QUICK: {protocol.replicates} replicates of {protocol.rounds} rounds; "
            "good for a look, not for a claim."
        )
    cells = [cell for cell in summary.cells if not is_control(cell)]
    if not run.complete:
        finished = sum(cell.status != PENDING for cell in cells)
        sealed = sum(cell.replicates for cell in cells)
        lines.append(
            f"INTERRUPTED: the run is not complete: {finished} of {len(cells)} cells, "
            f"{count(sealed, 'result')} in all. Go on with --resume."
        )
    if run.complete and run.header.get("reason") == BUDGET_SPENT:
        lines.append(
            "BUDGET: the time was up after "
            f"{count(_replicates(summary), 'replicate')} of {_most_replicates(protocol)}; "
            "rows may be missing."
        )
    lines += list(run.warnings)
    wide = sum(cell.unstable for cell in cells)
    if wide:
        target = protocol.target_ci or 0.0
        lines.append(
            f"UNSTABLE: {count(wide, 'row')} did not reach the ±{100 * target:g} % "
            "asked for; the interval shown is what was reached."
        )
    # the control's too: it has no row, but it decides the run's exit code
    lines += list(failures(summary.cells))
    if protocol.replicates < 2 and "time" in run.plan.metrics and any(summary.rounds.values()):
        lines.append(
            "One replicate gives no interval: two runs of one process differ less "
            "than two processes do."
        )
    if no_gpu:
        lines.append("No GPU here: nothing was measured for the GPU columns.")
    return tuple(lines)


def failures(cells: Iterable[MeasuredCell]) -> Iterable[str]:
    """One line a failed cell, with its cause."""
    for cell in cells:
        if cell.status not in (OK, PENDING):
            share = (
                f" in {cell.failed} of {cell.replicates} replicates"
                if cell.failed < cell.replicates
                else ""
            )
            cause = f": {' '.join(cell.detail.split())}" if cell.detail else ""
            yield f"{cell.label} ({cell.group.name}): {status_words(cell.status)}{share}{cause}"


def count(number: int, noun: str) -> str:
    """`1 round`, `2 rounds`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def noise_note(summary: RunSummary) -> str | None:
    """A note on the noise floor: the A/A intervals of the run's groups; None where there is no
    control.
    """
    known = {key: interval for key, interval in summary.noise.items() if interval.known}
    if not known:
        return None
    parts = [
        (
            f"{group} {PASS_NAMES.get(metric, metric)} {ratio(interval.estimate)} "
            f"[{ratio(interval.low)}, {ratio(interval.high)}]"
        )
        for (group, metric), interval in list(known.items())[:8]
    ]
    more = f"; and {len(known) - 8} more" if len(known) > 8 else ""
    return (
        f"Noise floor (the baseline against its identical twin): {'; '.join(parts)}{more}. "
        "A smaller difference than this is not called one."
    )


def fitting_note(summary: RunSummary) -> str | None:
    """A note on batches that did not fit the memory, and those that were measured in their place.
    None for a run without such batches.
    """
    tried = [
        (group.fallback_of, group.name) for group in summary.groups if group.fallback_of is not None
    ]
    if not tried:
        return None
    failed = Counter(cell.group.name for cell in summary.cells if cell.status == OUT_OF_MEMORY)
    parts = [
        (f"{group}: {count(failed[group], 'case')} out of memory, so {other} takes its place")
        for group, other in tried
    ]
    last = [
        (
            f"{name}: {count(failed[name], 'case')} out of memory, and there is no smaller "
            "batch to try"
        )
        for _, name in tried
        if _is_last(name, tried, failed)
    ]
    explanation = (
        "one of which a row does not, even alone with the baseline, gets no replicate after "
        "the one that shows it, unless it is the smallest"
    )
    return (
        "Batches from the largest down until one at which every row fits the device; "
        f"{explanation}: {'; '.join(parts + last)}. Ratios are of one batch each."
    )


def _is_last(name: str, tried: Iterable[tuple[str, str]], failed: Mapping[str, int]) -> bool:
    return failed[name] > 0 and all(group != name for group, _ in tried)


def paired_note(cells: Iterable[MeasuredCell]) -> str | None:
    """A note on the rows that did not fit the memory beside the others, and how they were measured.
    None where all fitted.
    """
    parts = [
        f"{cell.label} ({cell.group.name})"
        for cell in cells
        if PAIRED in cell.chosen and cell.case.role == VARIANT
    ]
    if not parts:
        return None
    explanation = (
        "each in processes of its own with the baseline, and its twin where there was room; "
        "the ratio is taken in their rounds, as ever"
    )
    return (
        "Paired one by one with the baseline, because not all fit the memory together: "
        f"{printable('; '.join(parts))}; {explanation}."
    )


def disturbance_note(summary: RunSummary) -> str | None:
    """A note on the share of rounds that the fixed rule marks; None where nothing was timed."""
    rounds = [round_ for group in summary.rounds.values() for round_ in group]
    if not rounds:
        return None
    marked_count = sum(len(marked_rounds(disturbances)) for disturbances in _disturbances(summary))
    share_text = (
        f"Disturbed rounds (fixed rule, capped at 20 %): {marked_count} of {len(rounds)}, "
        f"{100 * marked_count / len(rounds):.1f} %."
    )
    absent = absence_text(summary)
    return (
        f"{share_text}{f' {absent[0].upper()}{absent[1:]}' if absent else ''}{_throttled(summary)} "
        "They are kept in every figure."
    )


def _disturbances(summary: RunSummary) -> list[list[Mapping[str, float]]]:
    """The readings of each round, a list for each worker."""
    return [
        [round_.disturbance for round_ in worker]
        for group in summary.rounds.values()
        for worker in by_worker(group).values()
    ]


def _blocks(summary: RunSummary) -> list[Mapping[str, float]]:
    """The readings of each block of GPU timing."""
    return [
        readings
        for group in summary.rounds.values()
        for round_ in group
        for readings in round_.blocks.values()
    ]


def _throttled(summary: RunSummary) -> str:
    """The number of throttled blocks of GPU timing, and of those that are marked, as text; empty
    where no GPU was read around blocks.
    """
    blocks = _blocks(summary)
    if not blocks:
        return ""
    throttled, marked = sum(map(exceeds_rule, blocks)), 0
    for group in summary.run.plan.groups:
        rounds = summary.rounds[group.name]
        marked_cases = disturbed(rounds, group.baseline_key)
        marked += sum(
            exceeds_rule(round_.blocks[key])
            for round_ in rounds
            for key in marked_cases[round_.place]
            if key in round_.blocks
        )
    share = f", {marked} marked (at most 20 % of the pairs of a ratio)" if throttled else ""
    return f" GPU blocks throttled: {throttled} of {len(blocks)}{share}."


def quietness_note(summary: RunSummary) -> str | None:
    """One line about how quiet the machine was; None where nothing was timed."""
    workers = _disturbances(summary)
    return (
        quietness(workers, _blocks(summary)).removeprefix("machine").lstrip(": ")
        if workers
        else None
    )


REPORTED_ELSEWHERE = ("nvml", "beside", "busy", "tf32", "cudnn_benchmark", "compiled", PAIRED)
"""Keys in `chosen` that `gpu_notes` reports."""


def gpu_notes(cells: Iterable[MeasuredCell]) -> Iterable[str]:
    """Notes on GPU columns: how they were measured, which rows wait for the host, and which
    readings are missing; and for any device the graphs of torch.compile.
    """
    cells = list(cells)
    gpu_cells = [cell for cell in cells if device_kind(cell.case.device) == "cuda"]
    if any(cell.wall_s is not None for cell in gpu_cells):
        settings = {
            (
                f"TF32 {cell.chosen['tf32']}, cuDNN benchmark "
                f"{cell.chosen.get('cudnn_benchmark', 'off')}"
            ): None
            for cell in gpu_cells
            if "tf32" in cell.chosen
        }
        settings_text = (
            f" {'; '.join(printable(setting) for setting in settings)}." if settings else ""
        )
        yield (
            "GPU seconds are means of CUDA events over blocks of iterations; the host's "
            f"wall time and the kernels' own (CUPTI) stand beside them.{settings_text}"
        )
    if bound := [
        f"{cell.label} ({cell.group.name}) {100 * cell.busy_share:.0f} %"
        for cell in gpu_cells
        if cell.launch_bound
    ]:
        yield (
            "Launch-bound, kernels run for less than 90 % of the wall time: "
            f"{printable('; '.join(bound))}."
        )
    if any(cell.values.get("gpu_utilisation") for cell in gpu_cells):
        yield (
            "GPU utilisation is NVML's share of time with any kernel running, over a steady "
            "loop of 10 s; it says nothing of how much of the chip is used."
        )
    for key, words, described_cells in (
        ("nvml", "NVML", gpu_cells),
        ("beside", "GPU shared", gpu_cells),
        ("busy", "Kernel time", gpu_cells),
        ("compiled", "torch.compile", cells),
    ):
        texts = {cell.chosen[key]: None for cell in described_cells if cell.chosen.get(key)}
        if texts:
            yield f"{words}: {printable('; '.join(texts))}."


def _replicates(summary: RunSummary) -> int:
    """The largest number of replicates of a group."""
    return max((len(by_replicate(rounds)) for rounds in summary.rounds.values()), default=0)


def _most_replicates(protocol: Protocol) -> str:
    """The largest number of replicates of a run: the requested number, or the limit of optional
    stopping.
    """
    if protocol.target_ci is None:
        return str(protocol.replicates)
    return f"at most {Stopping(protocol.target_ci).most}"


def _replicates_done_text(summary: RunSummary) -> str:
    """The number of replicates, as text, where stopping or a budget made it differ from the
    requested number.
    """
    done = _replicates(summary)
    return (
        f"; done: {count(done, 'replicate')}"
        if done not in (0, summary.run.plan.protocol.replicates)
        else ""
    )


def protocol_note(summary: RunSummary, paper: bool = False) -> str:
    """A note on how the figures were measured. `paper` says that the paper's ratios stand beside
    them.
    """
    protocol = summary.run.plan.protocol
    confidence = f"{100 * summary.confidence:g} %"
    unresolved = (
        f', "{NOT_RESOLVED}" that the interval holds both 1 and the paper\'s ratio' if paper else ""
    )
    ratio_method = (
        "compare the faster half of each network's calls, the baseline's with its control's"
        if summary.estimator == FASTER_HALF
        else "are taken within rounds"
    )
    return (
        f"Times are means over all rounds; ratios {ratio_method}, [ ] is their "
        f"{confidence} interval over replicate processes "
        f"(asked for: {protocol.iterations} rounds in {count(protocol.replicates, 'replicate')}"
        f"{_replicates_done_text(summary)}). ≈ means that no difference was seen{unresolved}."
    )


def footer_of(summary: RunSummary) -> tuple[tuple[str, str], ...]:
    """Environment, command that repeats the run, quietness of the machine and the run's id, as
    (name, text).
    """
    run = summary.run
    pairs = [
        ("Environment", environment_line(run.environment)),
        ("Reproduce", reproduce_command(run)),
        ("Machine", quietness_note(summary)),
        ("Run", run.id),
    ]
    return tuple((name, text) for name, text in pairs if text)


def reproduce_command(run: StoredRun) -> str:
    """The command that repeats a run, after the environment variables that tuned its allocator,
    because another allocator changes ratios.
    """
    variables = run.environment.get("variables")
    tuning = (
        [
            f"{name}={quote(str(value))}"
            for name, value in sorted(variables.items())
            if name.startswith(_ALLOCATOR)
        ]
        if isinstance(variables, Mapping)
        else []
    )
    return " ".join([*tuning, run.command]) if run.command else ""


def environment_line(environment: Mapping[str, Any]) -> str:
    """One line about the environment of a run, from the parts that its record has."""

    def value_at(*path: str) -> Any:
        value: Any = environment
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    parts = [value_at("processor", "model"), _gpu_words(environment.get("gpus"))]
    if allowed := value_at("cores", "physical_allowed"):
        quota = f", quota {value_at('cores', 'quota'):g}" if value_at("cores", "quota") else ""
        parts.insert(
            1,
            (f"{count(allowed, 'physical core')} of {value_at('cores', 'logical')} logical{quota}"),
        )
    if total := value_at("memory", "total_bytes"):
        parts.append(f"{total / 2**30:.0f} GiB")
    parts += [
        f"{name} {version}"
        for name, version in (
            ("Python", value_at("python", "version")),
            ("torch", value_at("packages", "torch")),
        )
        if version
    ]
    parts += [f"kernel {value_at('system', 'kernel')}"] if value_at("system", "kernel") else []
    return "; ".join(str(part) for part in parts if part)


def _gpu_words(gpus: object) -> str:
    names = (
        [str(gpu.get("name") or "GPU") for gpu in gpus if isinstance(gpu, Mapping)]
        if isinstance(gpus, list)
        else []
    )
    return (
        ", ".join(
            f"{names.count(name)}× {name}" if names.count(name) > 1 else name
            for name in dict.fromkeys(names)
        )
        or "no GPU"
    )
