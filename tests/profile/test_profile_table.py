import subprocess
import sys
from pathlib import Path

import pytest

from swbench.case import Case
from swbench.profile.icicle import icicle
from swbench.profile.table import as_text, render, roofline_rows
from swbench.profile.types import (
    BACKWARD,
    CONV,
    FORWARD,
    NORM,
    OTHER,
    REMAINDER,
    Iteration,
    Layer,
    Part,
    Profile,
    Roof,
    Work,
)

ROOT = Path(__file__).parents[2]


def part(phase, operator, seconds):
    return Part(phase=phase, operator=operator, seconds=seconds, host_s=seconds, launches=0)


def layer(path, kind, operator, forward_s, backward_s, work=()):
    return Layer(
        path=path,
        kind=kind,
        type="T",
        parts=(part(FORWARD, operator, forward_s), part(BACKWARD, operator, backward_s)),
        work=work,
    )


WORK = (
    Work(phase=FORWARD, flops=2e9, traffic_bytes=1e8),
    Work(phase=BACKWARD, flops=4e9, traffic_bytes=2e8),
)


DISTURBED = Iteration(
    forward_s=3.0, backward_s=3.0, plain_forward_s=2.8, plain_backward_s=2.8, used=False
)


@pytest.fixture
def profile():
    return Profile(
        case=Case(model="resnet50", norm="swa", layers=7, solver="eigh"),
        iterations=(
            Iteration(
                forward_s=0.100, backward_s=0.200, plain_forward_s=0.09, plain_backward_s=0.19
            ),
            DISTURBED,
        ),
        layers=(
            layer("", OTHER, "other: linear", 0.005, 0.0),
            layer("stem", CONV, "conv", 0.040, 0.120, WORK),
            layer("stage.0", OTHER, "other: addition", 0.005, 0.0),
            layer("stage.0.norm", NORM, "norm: moments", 0.050, 0.070),
            layer("[red]\x1b[2J", OTHER, "other: python", 0.001, 0.0),
            layer(
                "(uneven between calls)", REMAINDER, "other: uneven between calls", -0.001, 0.010
            ),
        ),
        roof=Roof(flops_per_s=1e11, bytes_per_s=2e10),
        chosen={"solver": "eigh"},
        environment={},
        remarks=("A remark.",),
    )


@pytest.mark.parametrize("width", [60, 80, 116, 200])
def test_no_line_is_wider_than_the_width(profile, width):
    assert max(len(line) for line in render(profile, width).splitlines()) <= width


def test_the_text_names_row_solver_calls_overhead_roof_and_remarks(profile):
    text = render(profile, 120)
    for words in (
        "resnet50 swa-7",
        "solver eigh",
        "of 2 profiled calls",
        "+7.1%",
        "100 GFLOP/s, 20 GB/s",
        "A remark.",
        "(uneven between calls)",
        "(model)",
        "for times, use `run`",
    ):
        assert words in text
    row = next(line.split() for line in text.splitlines() if line.strip().startswith("stem"))
    assert row == [
        "stem",
        "conv",
        "40.00",
        "40.0",
        "120.0",
        "60.0",
        "53.3",
        "2.000",
        "100.0",
        "20.00",
        "50",
        "4.000",
        "200.0",
        "20.00",
        "33",
    ]
    row = next(
        line.split() for line in text.splitlines() if line.strip().startswith("norm: moments")
    )
    assert row[2:7] == ["50.00", "50.0", "70.00", "35.0", "40.0"]


def test_layers_beyond_the_top_are_summed(profile):
    text = render(profile, 120, top=1)
    assert "stage.0.norm" not in text
    row = next(line.split() for line in text.splitlines() if "(4 more)" in line)
    assert row[2:4] == ["61.00", "61.0"]


def test_names_cannot_drive_the_terminal(profile):
    text = render(profile, 200, colour=False)
    assert "\x1b" not in text
    assert "[red]" in text
    assert "\x1b[2J" not in render(profile, 200, colour=True)


def test_the_icicle_is_in_proportion(profile):
    lines = as_text(icicle(profile, 80), 80).splitlines()
    assert lines[0] == "forward 100 ms"
    forward, backward = lines[1:4], lines[5:8]
    assert len(forward[0]) == pytest.approx(40, abs=1)
    assert len(backward[0]) == 80
    assert backward[0].startswith("|stem" + "-" * 43)
    assert backward[1][48:].startswith("|0")
    assert backward[2][48:].startswith("|norm##")


def test_the_text_is_coloured_only_on_request(profile):
    assert "\x1b[" in render(profile, 100, colour=True)


def test_roofline_rows(profile):
    profiled_modules = roofline_rows(profile)
    assert [(row["layer"], row["phase"]) for row in profiled_modules] == [
        ("stem", FORWARD),
        ("stem", BACKWARD),
    ]
    assert profiled_modules[0]["intensity_flops_per_byte"] == 20
    assert profiled_modules[0]["flops_per_s"] == pytest.approx(5e10)
    assert profiled_modules[0]["share_of_roof"] == pytest.approx(0.5)


def test_rendering_imports_no_torch():
    script = (
        "import sys, swbench.profile.table, swbench.profile.launch; sys.exit('torch' in "
        "sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0
