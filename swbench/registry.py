"""Name tables: a name stands for a `module:attribute`, imported only when somebody asks for it."""

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
        return pkgutil.resolve_name(self._table[self.check(name)])

    def add(self, name: str, target: Any) -> None:
        """Register a class or function, or its `module:attribute`, under a new name: what a plugin
        does.

        Raises ValueError if the name is taken, is not a word of letters, digits, `-`, `_` and `.`,
        or the target has no name of its own in its module.
        """
        if name in self._table:
            raise ValueError(f"{self.kind} {name!r} is registered already, as {self._table[name]}")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}", name):
            raise ValueError(
                f"{name!r} cannot be the name of a {self.kind}: it must be a word of "
                "letters, digits, '-', '_' and '.'"
            )
        self._table[name] = target if isinstance(target, str) else _address(target)

    def __getitem__(self, name: str) -> str:
        return self._table[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)


def _address(target: Any) -> str:
    module, attribute = getattr(target, "__module__", None), getattr(target, "__qualname__", None)
    if not module or not attribute or not attribute.isidentifier():
        raise ValueError(
            f"{target!r} cannot be registered: define it as a class or function at "
            "the top of its module, or give 'module:attribute'"
        )
    return f"{module}:{attribute}"
