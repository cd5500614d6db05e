"""What expanding a suite of any kind needs of the options: what they leave, and which mean nothing
for it.
"""

from collections.abc import Sequence

from swbench.errors import OptionError, near_miss
from swbench.suite.options import Options


def some(found: list, options: Options, known: Sequence[str]) -> list:
    """What `--only` left of a suite. Raises OptionError where that is nothing, with what `known`
    names there are.
    """
    if not found and options.only:
        globs, known = " ".join(options.only), list(dict.fromkeys(known))
        raise OptionError(
            f"--only {globs} matches nothing.{near_miss(options.only[0], known)} "
            f"There is: {', '.join(known)}"
        )
    return found


def refuse(name: str, value: object, kind: str) -> None:
    """Raises OptionError where the option called `name` was given for a kind of suite that has no
    use for it.
    """
    if value:
        raise OptionError(f"{name} means nothing for a suite of kind {kind!r}")


def check_dtypes(options: Options, known: Sequence[str], kind: str) -> None:
    """Raises OptionError for a `--dtype` that suites of this kind do not have."""
    for dtype in options.dtypes or ():
        if dtype not in known:
            raise OptionError(
                f"--dtype {dtype} means nothing for a suite of kind {kind!r}; choose of "
                f"{', '.join(known)}"
            )
