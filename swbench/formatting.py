"""Formats of all numbers: one rule for each kind of quantity, used by all exporters, so that their
figures agree to the last digit.
"""

import math
from collections.abc import Callable

from swbench.errors import printable

MISSING = "–"
"""Placeholder of a missing value, such as the paper's figure for a row that it does not have."""

NO_DIFFERENCE_MARK, AT_LEAST_MARK = "≈", "≥"


def significant(value: float, digits: int = 4) -> str:
    """`value` with `digits` significant digits and no exponent between 1e-4 and 1e6, as 0.2104,
    17.61 and 1234.
    """
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        return exponent(value, digits)
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"


def exponent(value: float, digits: int = 2) -> str:
    """`value` as 1.2e-7: errors, whose magnitude is what matters."""
    if value == 0:
        return "0"
    mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
    return f"{mantissa}e{int(power)}"


def error(value: float) -> str:
    """An error with 2 digits: 0.40, 1.2e-7."""
    return significant(value, 2) if 1e-2 <= abs(value) < 1e2 else exponent(value)


def precision(half_width: float) -> str:
    """A half-width on the log-ratio in percent, with 2 digits: `±1.5 %`, `±150 %`."""
    percent = float(f"{100 * half_width:.2g}")
    return f"±{percent:.0f} %" if percent >= 10 else f"±{percent:g} %"


def gflops(value: float) -> str:
    """10⁹ operations with the digits of the supplement: 4.143 in Table 1, 274.73 in Table 2."""
    if abs(value) < 0.1:
        return significant(value)
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.2f}"


def ratio(value: float) -> str:
    """A ratio with 3 decimals below 10, 2 below 100, 1 above."""
    return f"{value:.{3 if value < 10 else 2 if value < 100 else 1}f}"


FORMATS: dict[str, Callable[[float], str]] = {
    "count": lambda value: f"{value:.0f}",
    "gflops": gflops,
    "seconds": significant,
    "microseconds": lambda value: significant(value * 1e6),
    "ratio": ratio,
    "error": error,
    "percent": lambda value: f"{value:.1f}",
    "share": lambda value: f"{100 * value:.3g} %",
    "millions": lambda value: significant(value / 1e6),
    "quantity": significant,
    "megahertz": lambda value: f"{value / 1e6:.0f}",
    "mebibytes": lambda value: significant(value / 2**20),
}
"""Kind of column -> text of a value in SI units. The unit is in the column's header; a share
carries its own.
"""


def number(value: float, kind: str) -> str:
    """The text of one number in a column of `kind`. Raises KeyError for a kind that holds text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return FORMATS[kind](value)


def interval(low: float, high: float, kind: str) -> str:
    """`[1.231, 1.262]`."""
    return f"[{number(low, kind)}, {number(high, kind)}]"


STATUS_WORDS = {
    "ok": "ok",
    "out_of_memory": "out of memory",
    "unsupported": "unsupported",
    "crashed": "crashed",
    "timed_out": "timed out",
}


def status_words(status: str) -> str:
    """The words of a status; one that this version does not know is shown as it is, with control
    characters escaped.
    """
    return STATUS_WORDS.get(status, printable(status))
