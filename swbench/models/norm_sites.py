"""The norms of any network: their numbers and paths, and choosing among them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from torch import nn

from swbench.errors import OptionError, near_miss, printable
from swbench.norms.replacement import reason_not_replaceable

Where = int | str | Iterable[int | str] | None
"""A choice of norms, as `choose` takes it."""

_SHOWN = 6
"""The most paths that a message lists; further ones are counted."""


@dataclass(frozen=True)
class NormSite:
    """One norm of a network. `number` counts batch normalisations from 1 in the order of
    `model.named_modules()`. It is None for an instance normalisation, which cannot be replaced: it
    is listed so that a glob that matches it can be refused with the reason.

    A module that is used at several places is one site; `path` is the first of its `paths`.
    """

    number: int | None
    paths: tuple[str, ...]
    channels: int
    module: nn.Module = field(repr=False, compare=False)

    @property
    def path(self) -> str:
        """The first path, such as `layer1.0.bn2`; empty where the network itself is the norm."""
        return self.paths[0]

    def matches(self, glob: str) -> bool:
        """Whether one of the paths matches `glob`."""
        return any(fnmatchcase(path, glob) for path in self.paths)


def norm_sites(model: nn.Module, skip: Iterable[str] = ()) -> list[NormSite]:
    """Every batch or instance normalisation of `model` over (N, C, H, W), frozen and synchronised
    ones included, in the order of the model.

    Norms that match a glob in `skip` are left out before the others are numbered.
    """
    paths: dict[nn.Module, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        if _channels(module) is not None:
            paths.setdefault(module, []).append(path)
    sites: list[NormSite] = []
    number = 0
    for module, places in paths.items():
        site = NormSite(None, tuple(places), _channels(module), module)
        if any(site.matches(glob) for glob in skip):
            continue
        if not isinstance(module, nn.InstanceNorm2d):
            number += 1
            site = NormSite(number, site.paths, site.channels, module)
        sites.append(site)
    return sites


def choose(model: nn.Module, where: Where = None, name: str = "the network") -> list[NormSite]:
    """The sites of `model` that `where` chooses, in the order of the model.

    `where` is None (every batch normalisation), an empty list (none), a number, or terms in a list
    or separated by commas:

    - `3` chooses the third batch norm, `layer[123].*.bn2` every norm whose path matches; of several
      such terms each adds its norms;
    - `!*downsample*` leaves norms out, before the others are numbered;
    - `every=6` keeps number 1 and the multiples of 6, as the supplement counts;
    - `channels<=1024` (also `>=`, `<`, `>`, `=`) keeps norms with at most 1024 channels.

    Raises OptionError, whose message calls the network `name`, if it has no batch norm, if a glob
    or number matches nothing, if no norm is left, if a chosen norm cannot be replaced, or if a term
    is misspelt.
    """
    terms = _Selection(where)
    if terms.none:
        return []
    all_sites = norm_sites(model)
    if not any(site.number for site in all_sites) and not terms.globs:
        raise OptionError(f"{name} has no batch normalisation to replace; {_norms_in(model)}")
    for glob in (*terms.globs, *terms.skipped):
        if not any(site.matches(glob) for site in all_sites):
            raise OptionError(_matches_nothing(glob, model, all_sites, name))
    sites = norm_sites(model, terms.skipped)
    last = max((site.number for site in sites if site.number), default=0)
    for number in terms.numbers:
        if not 1 <= number <= last:
            raise OptionError(
                f"{name} has no norm {number}; its batch norms are numbered from 1 to {last}"
                if last
                else f"{name} has no norm {number}; only batch norms have numbers, name a path"
            )
    chosen = [site for site in sites if terms.selects(site)]
    if not chosen:
        raise OptionError(
            f"--where {terms.text} leaves none of the {last} norms of {name}; "
            "leave one of its rules out"
        )
    problems = [
        (site, problem) for site in chosen if (problem := reason_not_replaceable(site.module))
    ]
    if problems:
        site, problem = problems[0]
        place = f"{site.path or 'the network itself'} ({type(site.module).__name__})"
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        remedy = f"leave it out with !{site.path}" if site.path else "give a network that holds it"
        raise OptionError(f"{name}: {place} {problem}{more}; {remedy}")
    return chosen


class _Selection:
    """The parsed terms of `where`."""

    def __init__(self, where: Where) -> None:
        self.numbers: list[int] = []
        self.globs: list[str] = []
        self.skipped: list[str] = []
        self._rules: list[tuple[str, str, int]] = []
        entries = () if where is None else where
        entry_list = [entries] if isinstance(entries, int | str) else list(entries)
        words = [word for entry in entry_list for word in _split(entry)]
        self.text, self.none = ",".join(words), where is not None and not words
        for word in words:
            rule = re.fullmatch(r"(\w+)\s*(<=|>=|==|=|<|>)\s*(\w+)", word)
            if rule:
                self._rules.append(_rule(word, *rule.groups()))
            elif re.fullmatch(r"[+-]?\d+", word):
                self.numbers.append(int(word))
            elif word.startswith("!"):
                self.skipped.append(word[1:])
            else:
                self.globs.append(word)

    def selects(self, site: NormSite) -> bool:
        """Whether the terms choose `site`, which no `!glob` left out."""
        if self.numbers or self.globs:
            named = site.number in self.numbers or any(map(site.matches, self.globs))
        else:
            named = site.number is not None
        return named and all(_satisfies(site, *rule) for rule in self._rules)


def _split(term: int | str) -> list[str]:
    """The terms between commas, except commas within the brackets of a glob."""
    if isinstance(term, bool) or not isinstance(term, int | str):
        raise ValueError(f"where takes numbers and texts, not {term!r}")
    words = [word.strip() for word in re.split(r",(?![^\[]*\])", str(term))]
    if not all(words):
        raise OptionError(
            f"--where {printable(term)!r} has an empty entry; separate terms with single commas"
        )
    return words


_RULES = ("every", "channels")


def _rule(word: str, name: str, sign: str, value: str) -> tuple[str, str, int]:
    if name not in _RULES:
        raise OptionError(
            f"--where {printable(word)}: no rule is called {printable(name)!r}."
            f"{near_miss(name, _RULES)} Known: every=N, channels<=N"
        )
    if name == "every" and sign not in ("=", "=="):
        raise OptionError(f"--where {printable(word)}: write every=N")
    if not value.isdecimal() or int(value) < 1:
        raise OptionError(f"--where {printable(word)}: {value!r} must be a whole number from 1")
    return name, sign, int(value)


def _satisfies(site: NormSite, name: str, sign: str, value: int) -> bool:
    if name == "every":
        return site.number is not None and (site.number == 1 or site.number % value == 0)
    compared = {
        "<=": site.channels <= value,
        ">=": site.channels >= value,
        "<": site.channels < value,
        ">": site.channels > value,
    }
    return compared.get(sign, site.channels == value)


_NORMS = (nn.BatchNorm2d, nn.LazyBatchNorm2d, nn.SyncBatchNorm, nn.InstanceNorm2d)


def _channels(module: nn.Module) -> int | None:
    """The channels of a norm over (N, C, H, W); None of any other module."""
    if isinstance(module, _NORMS):
        return module.num_features
    if type(module).__name__.startswith("FrozenBatchNorm"):
        count = getattr(module, "num_features", None)
        return module.weight.shape[0] if count is None else count
    return None


def _matches_nothing(glob: str, model: nn.Module, sites: list[NormSite], name: str) -> str:
    unsupported = next(
        (
            type(module).__name__
            for path, module in model.named_modules()
            if "Norm" in type(module).__name__ and fnmatchcase(path, glob)
        ),
        None,
    )
    if unsupported:
        return (
            f"--where {printable(glob)} matches {unsupported} in {name}, which cannot be replaced"
        )
    paths = [site.path for site in sites]
    shown = ", ".join(paths[:_SHOWN]) + (f", … ({len(paths)})" if len(paths) > _SHOWN else "")
    return (
        f"--where {printable(glob)} matches no norm of {name}.{near_miss(glob, paths)} "
        f"Norms: {shown or 'none'}"
    )


def _norms_in(model: nn.Module) -> str:
    counts: dict[str, int] = {}
    for module in model.modules():
        kind = type(module).__name__
        if "norm" in kind.lower() and not list(module.children()):
            counts[kind] = counts.get(kind, 0) + 1
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())[:_SHOWN])
    return f"it has {listed}" if listed else "it has no norm at all"
