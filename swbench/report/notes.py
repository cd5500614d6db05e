"""What has to be said around a table: warnings first, then what the marks mean, then where and how
it was measured.
"""

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
from swbench.report.cautions import LETTERS, absence_words
from swbench.report.run_summary import PENDING, Measured, MeasuredRun, is_control
from swbench.result import BUDGET_SPENT, OK, OUT_OF_MEMORY, PAIRED
from swbench.stats.samples import by_replicate, by_worker, disturbed
from swbench.stats.stopping import Stopping
from swbench.stats.verdict import NOT_RESOLVED

if TYPE_CHECKING:
    from swbench.store import StoredRun

_ALLOCATOR = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")


def warnings_of(measured: MeasuredRun, *, no_gpu: bool) -> tuple[str, ...]:
    """What a reader must know before the first number, gravest first."""
    run, protocol = measured.run, measured.run.plan.protocol
    found = []
    if protocol.quick:
        found.append(
            f"QUICK: {protocol.replicates} replicates of {protocol.rounds} rounds; "
            "good for a look, not for a claim."
        )
    cells = [cell for cell in measured.cells if not is_control(cell)]
    if not run.complete:
        done = sum(cell.status != PENDING for cell in cells)
        sealed = sum(cell.replicates for cell in cells)
        found.append(
            f"INTERRUPTED: the run is not complete: {done} of {len(cells)} cells, "
            f"{count(sealed, 'result')} in all. Go on with --resume."
        )
    if run.complete and run.header.get("reason") == BUDGET_SPENT:
        found.append(
            "BUDGET: the time was up after "
            f"{count(_replicates(measured), 'replicate')} of {_most_replicates(protocol)}; "
            "rows may be missing."
        )
    found += list(run.warnings)
    wide = sum(cell.unstable for cell in cells)
    if wide:
        target = protocol.target_ci or 0.0
        found.append(
            f"UNSTABLE: {count(wide, 'row')} did not reach the ±{100 * target:g} % "
            "asked for; the interval shown is what was reached."
        )
    # the control's too, which has no row but the run's exit code says it
    found += list(failures(measured.cells))
    if protocol.replicates < 2 and "time" in run.plan.metrics and any(measured.rounds.values()):
        found.append(
            "One replicate gives no interval: two runs of one process differ less "
            "than two processes do."
        )
    if no_gpu:
        found.append("No GPU here: nothing was measured for the GPU columns.")
    return tuple(found)


def failures(cells: Iterable[Measured]) -> Iterable[str]:
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


def noise_note(measured: MeasuredRun) -> str | None:
    """The noise floor: the widest A/A interval of the run's groups; None where there is no
    control.
    """
    known = {key: interval for key, interval in measured.noise.items() if interval.known}
    if not known:
        return None
    parts = [
        (
            f"{group} {LETTERS.get(metric, metric)} {ratio(interval.estimate)} "
            f"[{ratio(interval.low)}, {ratio(interval.high)}]"
        )
        for (group, metric), interval in list(known.items())[:8]
    ]
    more = f"; and {len(known) - 8} more" if len(known) > 8 else ""
    return (
        f"Noise floor (the baseline against its identical twin): {'; '.join(parts)}{more}. "
        "A smaller difference than this is not called one."
    )


def fitting_note(measured: MeasuredRun) -> str | None:
    """Where batches are tried until one fits: which did not, and which was measured in its place.
    None for a run that tried no other.
    """
    tried = [
        (group.fallback_of, group.name)
        for group in measured.groups
        if group.fallback_of is not None
    ]
    if not tried:
        return None
    failed = Counter(cell.group.name for cell in measured.cells if cell.status == OUT_OF_MEMORY)
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
    how = (
        "one of which a row does not, even alone with the baseline, gets no replicate after "
        "the one that shows it, unless it is the smallest"
    )
    return (
        "Batches from the largest down until one at which every row fits the device; "
        f"{how}: {'; '.join(parts + last)}. Ratios are of one batch each."
    )


def _is_last(name: str, tried: Iterable[tuple[str, str]], failed: Mapping[str, int]) -> bool:
    return failed[name] > 0 and all(group != name for group, _ in tried)


def paired_note(cells: Iterable[Measured]) -> str | None:
    """Which rows did not fit the memory beside the others, and how they were measured then. None
    where all did.
    """
    parts = [
        f"{cell.label} ({cell.group.name})"
        for cell in cells
        if PAIRED in cell.chosen and cell.case.role == VARIANT
    ]
    if not parts:
        return None
    how = (
        "each in processes of its own with the baseline, and its twin where there was room; "
        "the ratio is taken in their rounds, as ever"
    )
    return (
        "Paired one by one with the baseline, because not all fit the memory together: "
        f"{printable('; '.join(parts))}; {how}."
    )


def disturbance_note(measured: MeasuredRun) -> str | None:
    """The share of rounds that the fixed rule marks; None where nothing was timed."""
    rounds = [one for group in measured.rounds.values() for one in group]
    if not rounds:
        return None
    marked_count = sum(len(marked_rounds(disturbances)) for disturbances in _disturbances(measured))
    said = (
        f"Disturbed rounds (fixed rule, capped at 20 %): {marked_count} of {len(rounds)}, "
        f"{100 * marked_count / len(rounds):.1f} %."
    )
    absent = absence_words(measured)
    return (
        f"{said}{f' {absent[0].upper()}{absent[1:]}' if absent else ''}{_throttled(measured)} "
        "They are kept in every figure."
    )


def _disturbances(measured: MeasuredRun) -> list[list[Mapping[str, float]]]:
    """What was read around each round, a list a worker."""
    return [
        [one.disturbance for one in worker]
        for group in measured.rounds.values()
        for worker in by_worker(group).values()
    ]


def _blocks(measured: MeasuredRun) -> list[Mapping[str, float]]:
    """What was read around each block of GPU timing."""
    return [
        readings
        for group in measured.rounds.values()
        for one in group
        for readings in one.blocks.values()
    ]


def _throttled(measured: MeasuredRun) -> str:
    """How many blocks of GPU timing were throttled, and how many of these are marked; empty where
    no card was read around blocks.
    """
    every = _blocks(measured)
    if not every:
        return ""
    over, counted = sum(map(exceeds_rule, every)), 0
    for group in measured.run.plan.groups:
        rounds = measured.rounds[group.name]
        found = disturbed(rounds, group.baseline_key)
        counted += sum(
            exceeds_rule(one.blocks[key])
            for one in rounds
            for key in found[one.place]
            if key in one.blocks
        )
    share = f", {counted} marked (at most 20 % of the pairs of a ratio)" if over else ""
    return f" GPU blocks throttled: {over} of {len(every)}{share}."


def quiet_note(measured: MeasuredRun) -> str | None:
    """How quiet the machine was, in one line; None where nothing was timed."""
    workers = _disturbances(measured)
    return (
        quietness(workers, _blocks(measured)).removeprefix("machine").lstrip(": ")
        if workers
        else None
    )


TOLD_APART = ("nvml", "beside", "busy", "tf32", "cudnn_benchmark", "compiled", PAIRED)
"""What a result says of its device under `chosen`, which `gpu_notes` tells."""


def gpu_notes(cells: Iterable[Measured]) -> Iterable[str]:
    """How GPU columns were measured, which rows wait for the host, what could not be read, and on
    any device what a compiler made of the networks.
    """
    cells = list(cells)
    shown = [cell for cell in cells if device_kind(cell.case.device) == "cuda"]
    if any(cell.wall_s is not None for cell in shown):
        settings = {
            (
                f"TF32 {cell.chosen['tf32']}, cuDNN benchmark "
                f"{cell.chosen.get('cudnn_benchmark', 'off')}"
            ): None
            for cell in shown
            if "tf32" in cell.chosen
        }
        said = f" {'; '.join(printable(one) for one in settings)}." if settings else ""
        yield (
            "GPU seconds are means of CUDA events over blocks of iterations; the host's "
            f"wall time and the kernels' own (CUPTI) stand beside them.{said}"
        )
    if bound := [
        f"{cell.label} ({cell.group.name}) {100 * cell.busy_share:.0f} %"
        for cell in shown
        if cell.launch_bound
    ]:
        yield (
            "Launch-bound, kernels run for less than 90 % of the wall time: "
            f"{printable('; '.join(bound))}."
        )
    if any(cell.values.get("gpu_utilisation") for cell in shown):
        yield (
            "GPU utilisation is NVML's share of time with any kernel running, over a steady "
            "loop of 10 s; it says nothing of how much of the chip is used."
        )
    for what, words, of in (
        ("nvml", "NVML", shown),
        ("beside", "GPU shared", shown),
        ("busy", "Kernel time", shown),
        ("compiled", "torch.compile", cells),
    ):
        told = {cell.chosen[what]: None for cell in of if cell.chosen.get(what)}
        if told:
            yield f"{words}: {printable('; '.join(told))}."


def _replicates(measured: MeasuredRun) -> int:
    """The most replicates that any group has."""
    return max((len(by_replicate(rounds)) for rounds in measured.rounds.values()), default=0)


def _most_replicates(protocol: Protocol) -> str:
    """How many replicates a run may take: what was asked for, or what optional stopping allows."""
    if protocol.target_ci is None:
        return str(protocol.replicates)
    return f"at most {Stopping(protocol.target_ci).most}"


def _done_instead(measured: MeasuredRun) -> str:
    """How many replicates there are, where stopping or a budget made them other than was asked
    for.
    """
    done = _replicates(measured)
    return (
        f"; done: {count(done, 'replicate')}"
        if done not in (0, measured.run.plan.protocol.replicates)
        else ""
    )


def protocol_note(measured: MeasuredRun, paper: bool = False) -> str:
    """How the figures were taken. `paper`: whether the paper's ratios stand beside them."""
    protocol = measured.run.plan.protocol
    confidence = f"{100 * measured.confidence:g} %"
    unresolved = (
        f', "{NOT_RESOLVED}" that the interval holds both 1 and the paper\'s ratio' if paper else ""
    )
    taken = (
        "compare the faster half of each network's calls, the baseline's with its control's"
        if measured.estimator == FASTER_HALF
        else "are taken within rounds"
    )
    return (
        f"Times are means over all rounds; ratios {taken}, [ ] is their "
        f"{confidence} interval over replicate processes "
        f"(asked for: {protocol.iterations} rounds in {count(protocol.replicates, 'replicate')}"
        f"{_done_instead(measured)}). ≈ means that no difference was seen{unresolved}."
    )


def footer_of(measured: MeasuredRun) -> tuple[tuple[str, str], ...]:
    """Environment, command to repeat the run, and how quiet the machine was, as (name, text)."""
    run = measured.run
    pairs = [
        ("Environment", environment_line(run.environment)),
        ("Reproduce", repeating(run)),
        ("Machine", quiet_note(measured)),
        ("Run", run.id),
    ]
    return tuple((name, text) for name, text in pairs if text)


def repeating(run: StoredRun) -> str:
    """The command that repeats a run, behind the variables that its allocator was tuned by: under
    another one ratios differ.
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
    """One line about where a run was made, from whatever its record holds."""

    def at(*path: str) -> Any:
        value: Any = environment
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    parts = [at("processor", "model"), _gpu_words(environment.get("gpus"))]
    if allowed := at("cores", "physical_allowed"):
        quota = f", quota {at('cores', 'quota'):g}" if at("cores", "quota") else ""
        parts.insert(
            1, (f"{count(allowed, 'physical core')} of {at('cores', 'logical')} logical{quota}")
        )
    if total := at("memory", "total_bytes"):
        parts.append(f"{total / 2**30:.0f} GiB")
    parts += [
        f"{name} {version}"
        for name, version in (
            ("Python", at("python", "version")),
            ("torch", at("packages", "torch")),
        )
        if version
    ]
    parts += [f"kernel {at('system', 'kernel')}"] if at("system", "kernel") else []
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
