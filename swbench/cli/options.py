"""The options of a suite as click options, and types of command-line values: lists, percentages,
durations.
"""

import math
import re
from collections.abc import Callable
from typing import Any, ClassVar

import click

from swbench.cli import completion
from swbench.errors import OptionError
from swbench.suite.options import Option, Selection, declared

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


class CommaList(click.ParamType):
    """`a,b,c`: several values in one word, each converted by `kind`."""

    name = "a,b,…"

    def __init__(self, kind: type = str, pattern: str | None = None) -> None:
        self.kind, self.pattern = kind, pattern

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in value.split(",")]
        if not all(parts):
            self.fail(
                f"{value!r} has an empty entry; separate values with single commas", param, ctx
            )
        try:
            return tuple(dict.fromkeys(self.kind(part) for part in parts))
        except ValueError:
            self.fail(
                f"{value!r} must be {self.kind.__name__} values separated by commas", param, ctx
            )


class DtypeList(CommaList):
    """`tf32,bf16,fp16`: dtypes by torch's names or the short ones."""

    name = "dtype,…"
    SHORT: ClassVar[dict[str, str]] = {
        "fp32": "float32",
        "fp64": "float64",
        "bf16": "bfloat16",
        "fp16": "float16",
    }

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        return tuple(
            dict.fromkeys(self.SHORT.get(part, part) for part in super().convert(value, param, ctx))
        )


class SolverList(CommaList):
    """`eigh,svd-loop,eigh:backward=paper,floor=1e-6`: a part that is `key=value` belongs to the
    solver before it.
    """

    name = "solver,…"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        specs: list[str] = []
        for part in super().convert(value, param, ctx):
            if "=" in part and ":" not in part and specs:
                specs[-1] += f",{part}"
            else:
                specs.append(part)
        return tuple(specs)


class Percent(click.ParamType):
    """`1%` or `0.01`: a share, as a fraction above 0 and below 1."""

    name = "percent"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        text = value.strip()
        try:
            share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
        except ValueError:
            share = math.nan
        if not 0 < share < 1:
            self.fail(
                f"{value!r} must be a share between 0 and 100 %, such as 2% or 0.02", param, ctx
            )
        return share


class Duration(click.ParamType):
    """`90s`, `10m`, `1.5h` or plain seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", value.strip())
        seconds = float(match[1]) * _UNITS[match[2] or "s"] if match else 0.0
        if seconds <= 0:
            self.fail(f"{value!r} must be a time such as 90s, 10m or 1.5h", param, ctx)
        return seconds


class ImageList(CommaList):
    """`224,224x160`: sides in pixels, or height x width."""

    name = "pixels,…"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[list[int], ...]:
        if isinstance(value, tuple):
            return value
        sizes: list[list[int]] = []
        for part in super().convert(value, param, ctx):
            match = re.fullmatch(r"(\d{1,9})(?:x(\d{1,9}))?", part)
            if not match:
                self.fail(f"{part!r} must be pixels such as 224 or 224x160", param, ctx)
            sizes.append([int(match[1]), int(match[2] or match[1])])
        return tuple(sizes)


_PARAM_TYPES = {
    "dtypes": DtypeList(),
    "duration": Duration(),
    "images": ImageList(),
    "percent": Percent(),
    "solvers": SolverList(),
}


def suite_options(kind: type[Selection]) -> Callable[[Any], Any]:
    """A decorator that gives a command the options of `kind`: `Selection`, or `Options`, which adds
    those of the protocol.
    """

    def decorate(command: Any) -> Any:
        for option in reversed(tuple(declared(kind))):
            command = _click_option(option)(command)
        return command

    return decorate


def _click_option(option: Option) -> Callable[[Any], Any]:
    if option.choice:
        return click.option(
            option.flag,
            is_flag=True,
            expose_value=False,
            callback=_choice_callback(option),
            help=option.help,
        )
    if option.check is None:
        return click.option(option.flag, option.name, is_flag=True, help=option.help)
    kind = CommaList(option.check.kind) if option.check.many else option.check.kind
    return click.option(
        option.flag,
        option.name,
        type=_PARAM_TYPES.get(option.written, kind),
        help=option.help,
        shell_complete=completion.of_option(
            option.flag, option.check.choices, listed=bool(option.check.many)
        ),
    )


def _choice_callback(option: Option) -> Callable[[click.Context, click.Parameter, bool], None]:
    """A callback that sets `option.name` to its choice, and refuses a second such flag, which click
    would accept silently.
    """

    def choose(ctx: click.Context, param: click.Parameter, given: bool) -> None:
        previous = ctx.params.setdefault(option.name, None)
        if given and previous is not None:
            raise OptionError(
                "--until-fits and --every-batch contradict each other; leave one of them out"
            )
        if given:
            ctx.params[option.name] = option.choice

    return choose


plugin_option = click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="FILE",
    help="A Python file that adds models, norms or solvers. It is executed.",
)
"""The option of every command that builds, checks or lists what a plugin may add. A file is
executed for no other reason.
"""

results_option = click.option(
    "--results",
    default="results",
    envvar="SWBENCH_RESULTS",
    show_default=True,
    show_envvar=True,
    help="Folder that holds the runs.",
)
"""The option of every command that reads or writes runs."""
