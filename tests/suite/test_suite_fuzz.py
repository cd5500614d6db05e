"""Reading any suite file ends in a plan or in one readable message."""

from fuzzing import cases, promptly
from hypothesis import given
from hypothesis import strategies as st

from swbench import suite
from swbench.errors import SuiteError, SwbenchError
from swbench.suite import schema
from swbench.suite.source import parse

WORDS = [
    *schema.TOP,
    *schema.PROTOCOL,
    *schema.network_keys(),
    *schema.row_keys(),
    "network",
    "rows",
    "solvers",
    "full",
    "protocol",
    "nonsense",
]
SCALARS = st.one_of(
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(["network", "solvers", "resnet50", "swa", "bn", "eigh", "float32", "cpu", ""]),
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=6),
)
VALUES = st.recursive(
    SCALARS,
    lambda kids: (
        st.lists(kids, max_size=4) | st.dictionaries(st.sampled_from(WORDS), kids, max_size=4)
    ),
    max_leaves=12,
)
CASES = cases(of=3)


def toml(value) -> str:
    """A value in TOML; every character of a text is escaped."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(character):08x}" for character in value) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(entry)}" for key, entry in value.items()) + "}"
    return repr(value)


def read(text: str) -> None:
    try:
        with promptly():
            suite.expand(parse(text, "x", "x.toml"), devices=["cpu", "cuda"])
    except SuiteError as problem:
        assert problem.problems  # noqa: PT017
        assert all(character.isprintable() or character == "\n" for character in str(problem))  # noqa: PT017
    except SwbenchError as problem:
        assert str(problem).isprintable()  # noqa: PT017


@CASES
@given(st.text(max_size=80))
def test_any_text_parses_or_raises_a_suite_error(text):
    read(text)


@CASES
@given(
    st.dictionaries(st.sampled_from(WORDS), VALUES, max_size=6),
    st.sampled_from(["network", "solvers"]),
)
def test_any_tables_parse_or_raise_a_suite_error(tables, kind):
    read(
        "\n".join(
            f"{key} = {toml(value)}" for key, value in {**tables, "schema": 1, "kind": kind}.items()
        )
    )


@CASES
@given(
    st.dictionaries(st.sampled_from([*schema.network_keys()]), VALUES, max_size=3),
    st.lists(
        st.dictionaries(st.sampled_from([*schema.row_keys()]), VALUES, max_size=3), max_size=2
    ),
)
def test_any_changed_values_parse_or_raise_a_suite_error(changes, rows):
    network = {"model": "resnet50", "image": [[224, 224]], **changes}
    listed = [{"norm": "swa", "layers": 7}, *rows]
    read(f'schema = 1\nkind = "network"\nnetwork = {toml(network)}\nrows = {toml(listed)}')
