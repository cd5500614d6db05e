"""Name tables: a name stands for a `module:attribute`, imported only when somebody asks for it."""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from swbench.errors import UnknownName


class Registry(Mapping[str, str]):
    """A table from names to `module:attribute` targets. Looking a name up imports its module; listing imports nothing."""

    def __init__(self, kind: str, table: Mapping[str, str]) -> None:
        self.kind = kind
        self._table = dict(table)

    def names(self) -> tuple[str, ...]:
        """Every registered name, in the order of the table."""
        return tuple(self._table)

    def check(self, name: str, where: str = "") -> str:
        """`name` itself if it is registered. Raises UnknownName, with the nearest match, if it is not. Imports nothing."""
        if name not in self._table:
            raise UnknownName(self.kind, name, self.names(), where)
        return name

    def load(self, name: str) -> Any:
        """The object that `name` stands for. Raises UnknownName if it is not registered."""
        module, _, attribute = self._table[self.check(name)].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def add(self, name: str, target: str) -> None:
        """Register `target` (`module:attribute`) under a new name: what a plugin does. Raises ValueError if the name is taken."""
        if name in self._table:
            raise ValueError(f"{self.kind} {name!r} is registered already, as {self._table[name]}")
        self._table[name] = target

    def __getitem__(self, name: str) -> str:
        return self._table[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)
