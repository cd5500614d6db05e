"""The docs are true and readable: their blocks run, in order and in a folder of their own, their
links, anchors and pictures exist, their commands and flags are known, and every page opens with
whom it is for.
"""

import os
import re
import shlex
import subprocess
import sys
import tomllib

import pytest
from fenced_blocks import PAGES, ROOT, TEXTS, blocks

RUNNABLE = [page for page in PAGES if any(block.tag == "run" for block in blocks(page))]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)#\s]*)(?:#([^)\s]+))?\)")
TINY = ("--iterations", "2", "--replicates", "1")
"""Added to what measures: one process is enough to see that the words are right."""

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def test_there_is_something_to_run():
    assert {page.name for page in RUNNABLE} >= {"tutorial.md", "extending.md"}


def commands(block) -> list[list[str]]:
    return [
        shlex.split(line[2:], comments=True)
        for line in block.text.splitlines()
        if line.startswith("$ ")
    ]


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.name)
def test_blocks_run_as_they_stand(page, tmp_path):
    for block in blocks(page):
        place = f"docs/{page.name}:{block.line}"
        if block.tag.startswith("file="):
            (tmp_path / block.tag.removeprefix("file=")).write_text(block.text)
        elif block.tag == "run" and block.language == "console":
            assert commands(block), place
            for words in commands(block):
                assert words[:2] == ["python", "bench.py"], place
                tiny = TINY if words[2] == "run" and "--dry-run" not in words else ()
                finish(
                    [sys.executable, str(ROOT / "bench.py"), *words[2:], *tiny],
                    tmp_path,
                    f"{place}: {shlex.join(words)}",
                )
        elif block.tag == "run":
            assert block.language == "python", place
            newest = max((path.name for path in (tmp_path / "results").glob("*")), default="")
            finish(
                [sys.executable, "-W", "error", "-c", f"run = {newest!r}\n{block.text}"],
                tmp_path,
                place,
            )


def finish(command, folder, place):
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{place}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"


def anchors(page) -> set[str]:
    """What `#…` may follow a page's name: its headings as GitHub turns them into anchors."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_a_heading_has_the_anchor_of_github(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Two runs: `compare A B`\n\n## Larger matrices, and the fourth root\n")
    assert anchors(page) == {"two-runs-compare-a-b", "larger-matrices-and-the-fourth-root"}


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target, anchor in LINK.findall(page.read_text("utf-8")):
        if target.startswith("http"):
            continue
        to = page.parent / target if target else page
        assert to.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(to), f"{page.name} links to {to.name}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_opens_with_whom_it_is_for(page):
    title, blank, opening, *_ = page.read_text("utf-8").split("\n", 3)
    assert title.startswith("# ")
    assert not blank
    assert opening.startswith("For "), f"{page.name}: {opening}"


def test_the_readme_fits_in_a_minute_and_links_every_page():
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.split()) < 600
    linked = {target for target, _ in LINK.findall(text)}
    assert {f"docs/{page.name}" for page in PAGES} <= linked


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_commands_that_are_not_run_are_known_at_least(page):
    import click

    from swbench import suite
    from swbench.cli.app import COMMANDS, group

    for block in blocks(page):
        for words in commands(block) if block.language == "console" else []:
            name, *rest = words[2:]
            if name in suite.names():
                name, rest = "run", words[2:]
            assert name in COMMANDS, f"docs/{page.name}:{block.line}: {name}"
            command = group.get_command(click.Context(group), name)
            flags = {flag for parameter in command.params for flag in parameter.opts}
            unknown = {word for word in rest if word.startswith("-") and word not in flags}
            assert not unknown, f"docs/{page.name}:{block.line}: {unknown}"


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_files_in_the_docs_parse(page):
    for block in blocks(page):
        if block.language == "toml":
            tomllib.loads(block.text)
        elif block.language == "python":
            compile(block.text, f"docs/{page.name}:{block.line}", "exec")
        elif block.language == "bash":
            subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)


def test_the_slurm_script_starts_torchrun_with_flags_it_knows():
    from torch.distributed.run import get_args_parser

    (script,) = (
        block.text for block in blocks(ROOT / "docs" / "distributed.md") if block.language == "bash"
    )
    line = script.replace("\\\n", " ").splitlines()[-1]
    values = {
        "$SLURM_NNODES": "2",
        "$SLURM_GPUS_ON_NODE": "8",
        "$SLURM_JOB_ID": "1",
        "$first": "host",
        "$SLURM_SUBMIT_DIR": ".",
    }
    for name, value in values.items():
        line = line.replace(name, value)
    srun, torchrun, *words = shlex.split(line)
    assert (srun, torchrun) == ("srun", "torchrun")
    parsed = get_args_parser().parse_args(words)
    assert (parsed.nnodes, parsed.nproc_per_node, parsed.rdzv_endpoint) == ("2", "8", "host:29500")
    assert [parsed.training_script, *parsed.training_script_args][:3] == [
        "bench.py",
        "run",
        "cityscapes",
    ]
    assert "$" not in line


def test_every_status_exit_code_and_suite_key_is_explained():
    from swbench.result import STATUSES
    from swbench.suite import schema

    reading, extending = (
        (ROOT / "docs" / name).read_text() for name in ("reading-tables.md", "extending.md")
    )
    for status in STATUSES:
        assert f"| {status.replace('_', ' ')} |" in reading
    for keys in (
        schema.network_keys(),
        schema.row_keys(),
        schema.solver_keys(),
        schema.PROTOCOL,
        schema.TOP,
    ):
        for key in keys:
            assert f"`{key}`" in extending or f"`{key} = " in extending, key
