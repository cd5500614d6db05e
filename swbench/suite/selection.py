"""Selection of cases by the options, for suites of all kinds, and the refusal of options that do
not apply to a kind.
"""

from collections.abc import Sequence
from typing import Any

from swbench.case import device_kind
from swbench.errors import OptionError, near_miss
from swbench.machine.hardware import usable_cores
from swbench.suite.options import Options

MOST_CASES = 20_000
"""Most cases in one plan; a heuristic: at one second each they take a working day."""


def too_many(name: str) -> str:
    """The message for a suite with more than `MOST_CASES` cases."""
    return (
        f"suite {name!r} has more than {MOST_CASES:,} cases; narrow it with --only, "
        "--batch, --solver or --dtype"
    )


def require_match(chosen: list, options: Options, known: Sequence[str]) -> list:
    """`chosen`, the part of a suite that `--only` matches. Raises OptionError where it is empty,
    with the `known` names.
    """
    if not chosen and options.only:
        globs, known = " ".join(options.only), list(dict.fromkeys(known))
        raise OptionError(
            f"--only {globs} matches nothing.{near_miss(options.only[0], known)} "
            f"Known: {', '.join(known)}"
        )
    return chosen


def refuse_option(name: str, value: object, kind: str) -> None:
    """Raises OptionError where the option called `name` was given, for a kind of suite that it does
    not apply to.
    """
    if value:
        raise OptionError(f"{name} does not apply to a suite of kind {kind!r}; leave it out")


def check_dtypes(options: Options, known: Sequence[str], kind: str) -> None:
    """Raises OptionError for a `--dtype` that suites of this kind do not have."""
    for dtype in options.dtypes or ():
        if dtype not in known:
            raise OptionError(
                f"--dtype {dtype} does not apply to a suite of kind {kind!r}; choose from "
                f"{', '.join(known)}"
            )


def devices_of(base: dict[str, Any], options: Options) -> list[str]:
    """The devices asked for (the CPU, if none is) that `base` is for and has a batch for."""
    requested = options.devices or ("cpu",)
    return [
        device
        for device in requested
        if device_kind(device) in base["device"]
        and (options.batches or on_device(base["batch"], device))
    ]


def on_device(value: Any, device: str) -> tuple[int, ...]:
    """The value for `device` of a key that may differ by device."""
    return value.get(device_kind(device), ()) if isinstance(value, dict) else value


def threads_of(device: str, options: Options, world: int = 1) -> int:
    """Intra-op threads of a case; 0 on a GPU. `world` processes share the cores."""
    return (
        0 if device_kind(device) == "cuda" else options.threads or max(1, usable_cores() // world)
    )


def unless_default(value: str, usual: str) -> str:
    """` value` for the name of a group, or an empty text where it is the default `usual`."""
    return "" if value == usual else f" {value}"
