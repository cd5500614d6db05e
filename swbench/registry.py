"""Registries: tables from names to `module:attribute`, imported on first use."""

import pkgutil
import re
from collections.abc import Iterator, Mapping
from typing import Any

from swbench.errors import UnknownName


class Registry(Mapping[str, str]):
    """A table from names to `module:attribute` targets. Looking a name up imports its module;
    listing imports nothing.
    """

    def __init__(self, kind: str, table: Mapping[str, str]) -> None:
        self.kind = kind
        self._table = dict(table)
        self._objects: dict[str, Any] = {}

    def names(self) -> tuple[str, ...]:
        """Every registered name, in the order of the table."""
        return tuple(self._table)

    def check(self, name: str, where: str = "") -> str:
        """`name` itself if it is registered. Raises UnknownName, with the nearest match, if it is
        not. Imports nothing.
        """
        if name not in self._table:
            raise UnknownName(self.kind, name, self.names(), where)
        return name

    def load(self, name: str) -> Any:
        """The object that `name` stands for. Raises UnknownName if it is not registered."""
        target = self._table[self.check(name)]
        return self._objects[name] if name in self._objects else pkgutil.resolve_name(target)

    def add(self, name: str, target: Any) -> None:
        """Register a callable, or its `module:attribute`, under a new name, as a plugin does.

        Closures, partials and lambdas are accepted: another process gets them by executing the
        plugin. Raises ValueError if the name is taken, is not a word of letters, digits, `-`, `_`
        and `.`, or the target cannot be called.
        """
        if name in self._table:
            raise ValueError(f"{self.kind} {name!r} is registered already, as {self._table[name]}")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}", name):
            raise ValueError(
                f"{name!r} cannot be the name of a {self.kind}: it must be a word of "
                "letters, digits, '-', '_' and '.'"
            )
        if isinstance(target, str):
            self._table[name] = target
            return
        if not callable(target):
            raise ValueError(
                f"{target!r} cannot be registered: it must be callable, or 'module:attribute'"
            )
        self._objects[name] = target
        self._table[name] = _address(target)

    def __getitem__(self, name: str) -> str:
        return self._table[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)


def _address(target: Any) -> str:
    """`module:attribute` of `target`, or of its type where it has none."""
    module = getattr(target, "__module__", None) or type(target).__module__
    attribute = getattr(target, "__qualname__", None) or type(target).__qualname__
    return f"{module}:{attribute}"
