"""What the results prove, refute or leave open: each claim with the figure it is judged by."""

import functools
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from gpu_session.steps import ROOT

PROVEN, REFUTED, OPEN = "proven", "refuted", "not shown"
RATIO, SOLVE_US, WITHIN = 1.05, 10.0, 0.01
"""The targets: a network over batch normalisation, 72 matrices of 16×16, and A/A."""

Claim = tuple[str, str, str]
"""Verdict, claim, and the figure or the reason why there is none."""


def claims(results: Path, codes: Mapping[str, int], limit_s: float = 40.0) -> list[Claim]:
    """Every claim, judged by what is in `results` and by the exit codes of the steps that ran."""
    return [
        _tested("the kernels are correct on this device", "correct", codes, results),
        _tested("layers in C are correct with any number of threads", "threads", codes, results),
        _by_code("the instrument reads known answers", "selftest", codes),
        *_ratios(results, codes, "graph", "in graph mode", limit_s),
        *_ratios(results, codes, "table2", "at 713×713", limit_s),
        _solve(results, codes),
    ]


def _by_code(claim: str, step: str, codes: Mapping[str, int]) -> Claim:
    code = codes.get(step)
    if code is None or code == 124:
        return OPEN, claim, f"step {step} {'was not run' if code is None else 'was stopped'}"
    # 4: the self-test could not tell; 5: pytest collected nothing
    if code in (4, 5, 127):
        return OPEN, claim, f"step {step}: exit {code}"
    return (PROVEN if code == 0 else REFUTED), claim, f"step {step}: exit {code}"


def _tested(claim: str, step: str, codes: Mapping[str, int], results: Path) -> Claim:
    """As `_by_code`, where pytest said that tests passed: all of them may have been skipped."""
    verdict, _, why = _by_code(claim, step, codes)
    text = results / f"{step}.txt"
    log = text.read_text(encoding="utf-8", errors="replace") if text.exists() else ""
    counts = re.findall(r"\d+ (?:passed|failed|error|skipped)\w*", log)
    if verdict == PROVEN and not any("passed" in count for count in counts):
        return OPEN, claim, f"step {step}: no test passed ({', '.join(counts) or 'none ran'})"
    return verdict, claim, ", ".join([why, *counts])


def tables(results: Path, limit_s: float) -> dict[str, dict]:
    """Suite and mode of each stored run -> its table as `bench.py show --format json` prints it."""
    tables_by_name = {}
    for run in sorted((results / "runs").glob("*/run.json")):
        table = _table(run.parent, limit_s)
        if table:
            mode = next((r["gpu_mode"]["value"] for r in _rows(table) if "gpu_mode" in r), "")
            tables_by_name[f"{table['suite']} {mode}"] = table
    return tables_by_name


@functools.cache
def _table(run: Path, limit_s: float) -> dict:
    """Of one run, once: it is over. Empty where there is none."""
    show_command = [sys.executable, str(ROOT / "bench.py"), "show", run.name]
    show_command += ["--results", str(run.parent), "--format", "json"]
    try:
        done = subprocess.run(
            show_command, capture_output=True, text=True, timeout=limit_s, check=False
        )
        return json.loads(done.stdout)["tables"][0]
    except (subprocess.TimeoutExpired, ValueError, KeyError, IndexError):
        return {}


def _rows(table: dict) -> Iterator[dict]:
    for section in table["sections"]:
        for row in section["rows"]:
            yield {**row["cells"], "role": row["role"]}


def _ratios(
    results: Path, codes: Mapping[str, int], step: str, where: str, limit_s: float
) -> list[Claim]:
    """SW^a and SW^b over BN, and the control within a per cent, of the run of a step."""
    claim = f"SW^a and SW^b take at most {RATIO:g} × BN {where}, F and F+B"
    repeat_claim = f"the same network twice differs by at most {WITHIN:.0%} {where}"
    key = {"graph": "imagenet graph", "table2": "cityscapes eager"}[step]
    table = tables(results, limit_s).get(key) if step in codes else None
    if table is None:
        why = f"step {step} was not run" if step not in codes else f"step {step} stored no table"
        return [(OPEN, claim, why), (OPEN, repeat_claim, why)]
    try:
        ratios, repeats = list(_layer_ratios(table)), list(_repeat_ratios(table["notes"]))
    except (KeyError, TypeError) as problem:
        why = f"the table of step {step} is not as expected ({problem!r})"
        return [(OPEN, claim, why), (OPEN, repeat_claim, why)]
    return [_under(claim, ratios, RATIO), _between(repeat_claim, repeats)]


def _layer_ratios(table: dict) -> Iterator[tuple]:
    """Name, ratio to BN and both ends of its interval, of SW^a and SW^b, F and F+B."""
    for row in _rows(table):
        norm = row.get("norm", {}).get("value")
        for pass_key, pass_label in (("f", "F"), ("fb", "F+B")) if norm in ("swa", "swb") else ():
            cell = row.get(f"ratio_gpu_{pass_key}", {})
            if cell.get("value") is not None:
                name = f"{norm} batch {row['gpu_batch']['value']} {pass_label}"
                yield name, cell["value"], cell.get("low"), cell.get("high")


TWIN = re.compile(r"(cuda\S* batch .*?) ([\d.]+)(?: \[([\d.]+), ([\d.]+)\])?(?:; |\. |$)")


def _repeat_ratios(notes: list[str]) -> Iterator[tuple]:
    """The baseline over its identical twin, from the note on the noise floor."""
    for note in notes:
        if note.startswith("Noise floor"):
            for name, *figures in TWIN.findall(note):
                yield name, *(float(figure) if figure else None for figure in figures)


def _under(claim: str, ratios: list, limit: float) -> Claim:
    if not ratios:
        return OPEN, claim, "no ratio was measured"
    name, value, low, high = max(ratios, key=lambda ratio: ratio[1])
    text = f"largest of {len(ratios)}: {value:.3f} ({name}"
    if low is None or high is None:
        return OPEN, claim, f"{text}), without an interval"
    text += f", interval [{low:.3f}, {high:.3f}])"
    if all(ratio[3] is not None and ratio[3] <= limit for ratio in ratios):
        return PROVEN, claim, text
    above = any(ratio[2] is not None and ratio[2] > limit for ratio in ratios)
    return (REFUTED if above else OPEN), claim, text


def _between(claim: str, ratios: list) -> Claim:
    if not ratios:
        return OPEN, claim, "the table tells no noise floor"
    name, value, low, high = max(ratios, key=lambda ratio: abs(ratio[1] - 1))
    text = f"furthest of {len(ratios)}: {value:.4f} ({name})"
    if low is None or high is None:
        return OPEN, claim, f"{text}, without an interval"
    if all(ratio[2] >= 1 - WITHIN and ratio[3] <= 1 + WITHIN for ratio in ratios):
        return PROVEN, claim, text
    outside = low > 1 + WITHIN or high < 1 - WITHIN
    return (REFUTED if outside else OPEN), claim, text


def _solve(results: Path, codes: Mapping[str, int]) -> Claim:
    claim = f"72 matrices of 16×16 are solved in at most {SOLVE_US:g} µs"
    try:
        solve_us = json.loads((results / "layer.json").read_text())["solves us"]["72"][
            "polar-triton"
        ]
    except (OSError, ValueError, KeyError):
        return OPEN, claim, "step layer wrote no figures"
    return (PROVEN if solve_us <= SOLVE_US else REFUTED), claim, f"{solve_us:g} µs in a graph"
