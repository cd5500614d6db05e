"""The command that started this program, for hints that a user can copy."""

import sys
from pathlib import Path

NAME = "swbench"


def words() -> tuple[str, ...]:
    """The words that start this program: `swbench`, `python -m swbench` or `python bench.py`, as
    they were typed. Where Python code started it, a form that works here.
    """
    argv0 = Path(sys.argv[0] if sys.argv else "")
    if argv0.parts[-2:] == (NAME, "__main__.py"):
        return ("python", "-m", NAME)
    script = Path(__file__).parents[1] / "bench.py"
    if argv0.name == script.name or (argv0.name != NAME and script.is_file()):
        return ("python", "bench.py")
    return (NAME,)


def command() -> str:
    """`words` as text: f"`{command()} list runs` names them"."""
    return " ".join(words())


def name() -> str:
    """The program in messages and in the help: `swbench`, `python -m swbench` or `bench.py`."""
    return "bench.py" if words()[-1] == "bench.py" else command()


def after_torchrun() -> tuple[str, ...]:
    """`words` as torchrun takes them: a script, a module, or with a flag a command."""
    return words()[1:] or ("--no-python", NAME)
