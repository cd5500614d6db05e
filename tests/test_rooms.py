"""Each room imports only from the rooms above it (docs/design.md), and no files import each other
in a circle; imports inside functions and for type checkers count as well.
"""

import ast
from pathlib import Path

import pytest

import swbench

PACKAGE = Path(swbench.__file__).parent

ORDER = [
    [
        "version",
        "errors",
        "garbage",
        "registry",
        "plugins",
        "formatting",
        "codec",
        "program",
        "shipped",
    ],
    ["case", "result", "plan"],
    ["stats"],
    ["native"],
    ["solvers"],
    ["norms"],
    ["models"],
    ["flops"],
    ["clock"],
    ["probes"],
    ["machine"],
    ["suite", "store"],
    ["worker"],
    ["ranks"],
    ["run"],
    ["report"],
    ["doctor", "selftest"],
    ["profile"],
    ["application"],
    ["cli"],
]
"""Rooms from the top; on the first two lines some use others, as `SAME_LINE` lists."""

SAME_LINE = {
    ("registry", "errors"),
    ("plugins", "errors"),
    ("formatting", "errors"),
    ("plan", "case"),
    ("result", "case"),
    ("plan", "result"),
}
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    part = path.relative_to(PACKAGE).parts[0]
    return part.removesuffix(".py")


def imported(tree: ast.AST, names: set[str]) -> set[str]:
    """Rooms that a module imports; `from swbench import x` is one where x is a room."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {
                alias.name.split(".")[1]
                for alias in node.names
                if alias.name.startswith("swbench.")
            }
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module == "swbench":
                found |= {alias.name for alias in node.names} & names
            elif (node.module or "").startswith("swbench."):
                found.add(node.module.split(".")[1])
    return found


def looks_down(own: str, other: str) -> bool:
    return other != own and LEVEL[other] >= LEVEL[own] and (own, other) not in SAME_LINE


def test_the_rule_can_fail():
    tree = ast.parse(
        "def f():\n    from swbench.run import run\n    import "
        "swbench.report.table\n    from swbench import cli, __version__"
    )
    assert imported(tree, set(LEVEL)) == {"run", "report", "cli"}
    assert looks_down("store", "report")
    assert looks_down("store", "suite")
    assert not looks_down("report", "run")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_room_looks_only_up(path):
    own = room(path)
    if own in ("__init__", "__main__"):
        return
    assert own in LEVEL, f"{own} is no room; add it to the order"
    rooms = imported(ast.parse(path.read_text()), set(LEVEL))
    wrong = sorted(other for other in rooms if looks_down(own, other))
    assert not wrong, f"{own} must not import {', '.join(wrong)}"


TABLES = [
    path for path in FILES if path.name == "__init__.py" and "| file |" in path.read_text("utf-8")
]


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.parent.name)
def test_a_package_that_lists_its_files_lists_all_of_them(path):
    rows = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").splitlines()
    cells = (row.split("|")[1].strip() for row in rows if row.startswith("| `"))
    listed = [name.strip("` ") for cell in cells for name in cell.split(",")]
    assert sorted(listed) == sorted(one.stem for one in path.parent.glob("[!_]*.py"))


def imported_files(tree: ast.AST, modules: set[str]) -> set[str]:
    """The `modules` that a file imports. A package counts where a name is taken from its own file;
    an import of `package.module` for the module alone does not read as one of the package.
    """
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & modules
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found |= {inner if inner in modules else node.module} & modules
    return found


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """The sets of files that reach each other (a file that imports itself is one as well)."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        left = [start]
        while left:
            new = graph[left.pop()] - seen
            seen |= new
            left += new
        return seen

    reach = {name: reached(name) for name in graph}
    found: list[set[str]] = []
    for name in graph:
        if name in reach[name] and not any(name in one for one in found):
            found.append({other for other in reach[name] if name in reach[other]})
    return found


def file_imports() -> dict[str, set[str]]:
    names = {
        ".".join(("swbench", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
            ".__init__"
        ): path
        for path in FILES
    }
    return {
        name: imported_files(ast.parse(path.read_text()), set(names))
        for name, path in names.items()
    }


def test_circles_of_files_are_found_wherever_the_import_stands():
    names = {"swbench", "swbench.a", "swbench.b", "swbench.c"}
    sources = {
        "swbench": "",
        "swbench.a": "if TYPE_CHECKING:\n    from swbench.b import B",
        "swbench.b": "def f():\n    from swbench import c",
        "swbench.c": "import swbench.a\nTABLE = {'b': 'swbench.b:B'}",
    }
    graph = {name: imported_files(ast.parse(text), names) for name, text in sources.items()}
    assert circles(graph) == [{"swbench.a", "swbench.b", "swbench.c"}]
    graph["swbench.c"] = set()
    assert circles(graph) == []


def test_no_files_import_each_other_in_a_circle():
    assert circles(file_imports()) == []


def test_only_the_command_line_prints_and_exits():
    for path in FILES:
        if room(path) == "cli":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in ("print", "exit", "quit", "sys.exit"), (
                    f"{path}:{node.lineno}"
                )
