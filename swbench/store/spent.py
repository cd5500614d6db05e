"""How long a run has been measured, over all of its lives."""

from collections.abc import Iterable

from swbench.result import COUNTED, Result, Round


def spent_s(results: Iterable[Result], rounds: Iterable[Round]) -> float:
    """Seconds that workers have been at work, from the start of each to the last that is stored of
    it.

    `rounds` are all that were stored, those of killed workers too; what such a worker did before
    its first round is not known, and does not count.
    """
    seen: dict[tuple[str, int, str], tuple[float, float]] = {}
    for one in (*(one for one in results if one.replicate != COUNTED), *rounds):
        key = (one.group, one.replicate, one.attempt)
        start, end = seen.get(key, (one.started, one.ended))
        seen[key] = (min(start, one.started), max(end, one.ended))
    return sum(max(0.0, end - start) for start, end in seen.values())
