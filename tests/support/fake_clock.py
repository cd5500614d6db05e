"""A clock for tests: it moves only when the test moves it, with scripted drift and steps."""

from collections.abc import Callable


class FakeClock:
    """Moves by `advance`; `script` maps true seconds since the start to the reading, so it can
    drift or jump.
    """

    def __init__(self, script: Callable[[float], float] = lambda true_s: true_s) -> None:
        self.true_s = 0.0
        self.busy_s = 0.0
        self._script = script

    def advance(self, wall_s: float, cpu_s: float | None = None) -> None:
        """Let `wall_s` seconds pass, of which the process is on a core for `cpu_s` (all of them by
        default).
        """
        self.true_s += wall_s
        self.busy_s += wall_s if cpu_s is None else cpu_s

    def now(self) -> float:
        return self._script(self.true_s)

    def cpu(self) -> float:
        return self.busy_s


def drifting(share: float) -> Callable[[float], float]:
    """A script for a clock that runs fast by `share`."""
    return lambda true_s: true_s * (1.0 + share)


def stepping(at_s: float, by_s: float) -> Callable[[float], float]:
    """A script for a clock that jumps by `by_s` after `at_s`."""
    return lambda true_s: true_s + (by_s if true_s > at_s else 0.0)
