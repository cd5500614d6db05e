"""Each package imports only from the packages above it (docs/design.md), and no files import each
other in a circle. Imports inside functions and for type checkers count as well.
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
        "gc_control",
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
"""Packages from the top; on the first two lines some use others, as `SAME_LINE` lists."""

SAME_LINE = {
    ("registry", "errors"),
    ("plugins", "errors"),
    ("formatting", "errors"),
    ("plan", "case"),
    ("result", "case"),
    ("plan", "result"),
}
LEVEL = {package: level for level, packages in enumerate(ORDER) for package in packages}
FILES = sorted(PACKAGE.rglob("*.py"))


def package(path: Path) -> str:
    part = path.relative_to(PACKAGE).parts[0]
    return part.removesuffix(".py")


def imported(tree: ast.AST, known: set[str]) -> set[str]:
    """Packages that a module imports; `from swbench import x` is one where x is a package."""
    packages = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            packages |= {
                alias.name.split(".")[1]
                for alias in node.names
                if alias.name.startswith("swbench.")
            }
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module == "swbench":
                packages |= {alias.name for alias in node.names} & known
            elif (node.module or "").startswith("swbench."):
                packages.add(node.module.split(".")[1])
    return packages


def violates_order(own: str, other: str) -> bool:
    return other != own and LEVEL[other] >= LEVEL[own] and (own, other) not in SAME_LINE


def test_import_rule_detects_a_violation():
    tree = ast.parse(
        "def f():\n    from swbench.run import run\n    import "
        "swbench.report.table\n    from swbench import cli, __version__"
    )
    assert imported(tree, set(LEVEL)) == {"run", "report", "cli"}
    assert violates_order("store", "report")
    assert violates_order("store", "suite")
    assert not violates_order("report", "run")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_package_imports_only_packages_above_it(path):
    own = package(path)
    if own in ("__init__", "__main__"):
        return
    assert own in LEVEL, f"{own} is no package; add it to the order"
    packages = imported(ast.parse(path.read_text()), set(LEVEL))
    wrong = sorted(other for other in packages if violates_order(own, other))
    assert not wrong, f"{own} must not import {', '.join(wrong)}"


TABLES = [
    path for path in FILES if path.name == "__init__.py" and "| file |" in path.read_text("utf-8")
]


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.parent.name)
def test_a_package_that_lists_its_files_lists_all_of_them(path):
    rows = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").splitlines()
    cells = (row.split("|")[1].strip() for row in rows if row.startswith("| `"))
    listed = [name.strip("` ") for cell in cells for name in cell.split(",")]
    assert sorted(listed) == sorted(file.stem for file in path.parent.glob("[!_]*.py"))


def imported_files(tree: ast.AST, modules: set[str]) -> set[str]:
    """The `modules` that a file imports. A package counts where a name is taken from its own file;
    an import of `package.module` for the module alone does not read as one of the package.
    """
    files = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            files |= {alias.name for alias in node.names} & modules
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                files |= {inner if inner in modules else node.module} & modules
    return files


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
    cycles: list[set[str]] = []
    for name in graph:
        if name in reach[name] and not any(name in file for file in cycles):
            cycles.append({other for other in reach[name] if name in reach[other]})
    return cycles


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
        if package(path) == "cli":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in ("print", "exit", "quit", "sys.exit"), (
                    f"{path}:{node.lineno}"
                )
