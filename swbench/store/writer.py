"""The writer of a run: it appends each round as it happens and a replicate's cells together. An
error names what is stored.
"""

import shutil
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from swbench.errors import StoreError
from swbench.machine.environment import environment_id
from swbench.plan import Plan
from swbench.result import Result, Round
from swbench.store import fingerprint, folder
from swbench.store.checked_jsonl import Appender
from swbench.store.files import write_atomic, write_json
from swbench.store.lock import Lock
from swbench.store.reading import Content, StoredRun, keys_by_group, sealed_rounds, with_samples
from swbench.version import __version__


class RunWriter:
    """The one writer of a run folder, from `create` or `resume` until `finish` or `close`."""

    def __init__(
        self,
        path: Path,
        header: dict[str, Any],
        plan: Plan,
        environment: Mapping[str, Any],
        lock: Lock,
        content: Content | None,
    ) -> None:
        """For `create` and `resume`. `content` is that of the folder, and `spent_s` the seconds
        that it took to measure.
        """
        self.path, self.plan, self.header = path, plan, header
        self.environment_id, self._environment = environment_id(environment), dict(environment)
        self._lock, self._keys = lock, keys_by_group(plan)
        self._rounds = Appender(path / folder.ROUNDS, content.rounds_bytes if content else None)
        self._cells = Appender(path / folder.CELLS, content.cells_bytes if content else None)
        self.rounds: list[Round] = list(content.rounds) if content else []
        self.results: list[Result] = list(content.results) if content else []
        self.spent_s = content.spent_s if content else 0.0
        self._loaded = len(self.results)
        self._sealed: dict[tuple[str, int], set[str]] = defaultdict(set)
        self._count(self.results)
        self.warnings: tuple[str, ...] = content.torn if content else ()

    @classmethod
    def create(
        cls,
        results: str | Path,
        plan: Plan,
        environment: Mapping[str, Any],
        command: str,
        *,
        suite_text: str = "",
        options: Mapping[str, Any] | None = None,
        plugins: Mapping[str, str] | None = None,
    ) -> "RunWriter":
        """Begin a run in a folder of its own below `results`, named after the environment's
        `label`. Raises StoreError where that cannot be written.

        Every result holds the id of the environment. `plugins` (name -> digest) are kept with the
        code that is timed.
        """
        path = folder.make(Path(results), plan.suite, str(environment.get("label") or ""))
        try:
            return cls._begin(path, plan, environment, command, suite_text, options, plugins)
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)  # it is no run yet
            raise

    @classmethod
    def _begin(cls, path, plan, environment, command, suite_text, options, plugins) -> "RunWriter":
        lock = Lock(path)
        header = {
            "schema": folder.SCHEMA,
            "swbench": __version__,
            "created": time.time(),
            "command": command,
            "options": dict(options or {}),
            "complete": False,
            "resumed": [],
            "code": fingerprint.code() | dict(plugins or {}),
            "plan": plan.to_json(),
        }
        try:
            write_atomic(path / folder.SUITE, suite_text)
            write_json(path / folder.ENVIRONMENT, dict(environment))
            writer = cls(path, header, plan, environment, lock, None)
            write_json(path / folder.RUN, header)  # last: a folder is a run once it has this
        except BaseException:
            lock.release()
            raise
        return writer

    @property
    def id(self) -> str:
        """The name of the run's folder."""
        return self.path.resolve().name

    def sealed(self, group: str, replicate: int) -> bool:
        """Whether every case of that group has its result for that replicate."""
        return self._sealed[group, replicate] >= self._keys[group].keys()

    def add_round(self, round_: Round) -> None:
        """Append a round. Raises StoreError, which names what is stored, and ValueError for a group
        or case that is not in the plan or a time that is not finite.
        """
        round_.check(self._keys_of(round_.group).keys())
        self._guarded_write(self._rounds.append, [round_])
        self.rounds.append(round_)

    def seal(self, results: Sequence[Result]) -> None:
        """Append the cells of a group's replicate together; they are on the disk when this returns.
        Raises StoreError, which names what is stored.

        Samples that are in rounds are not repeated in the cells.
        """
        for result in results:
            if result.case not in self._keys_of(result.group):
                raise ValueError(f"case {result.case} of group {result.group!r} is not in the plan")
        records = [
            {"seal": [position, len(results)], **vars(result)}
            for position, result in enumerate(results)
        ]
        self._guarded_write(self._rounds.sync)
        self._guarded_write(self._cells.append, records, sync=True)
        self.results.extend(results)
        self._count(results)

    def finish(self, reason: str = "all replicates done") -> None:
        """Mark the run as complete, with the reason why it ended; then close."""
        self.header.update(complete=True, ended=time.time(), reason=reason)
        self._guarded_write(write_json, self.path / folder.RUN, self.header)
        self.close()

    def sealed_rounds(self, group: str) -> list[Round]:
        """The rounds of a group as `load` would return them now: those of sealed cells, each with
        only the samples of those cells.
        """
        return sealed_rounds(
            [item for item in self.results if item.group == group],
            [item for item in self.rounds if item.group == group],
        )

    def snapshot(self) -> StoredRun:
        """The run as `load` would return it now, for when its folder cannot be read any more."""
        rounds = sealed_rounds(self.results, self.rounds)
        return StoredRun(
            path=self.path,
            id=self.id,
            plan=self.plan,
            environment=self._environment,
            results=(
                *self.results[: self._loaded],
                *with_samples(self.results[self._loaded :], rounds),
            ),
            rounds=tuple(rounds),
            complete=self.header["complete"],
            command=self.header["command"],
            created=self.header["created"],
            warnings=self.warnings,
            header=self.header,
        )

    def close(self) -> None:
        """Stop writing; the run stays unfinished unless `finish` was called. May be called
        twice.
        """
        self._rounds.close()
        self._cells.close()
        self._lock.release()

    def discard(self) -> None:
        """Close and remove the run: for one that proved impossible before anything was measured."""
        self.close()
        shutil.rmtree(self.path, ignore_errors=True)

    def __enter__(self) -> "RunWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _keys_of(self, group: str) -> dict[str, None]:
        if group not in self._keys:
            raise ValueError(f"group {group!r} is not in the plan")
        return self._keys[group]

    def _count(self, results: Sequence[Result]) -> None:
        for result in results:
            self._sealed[result.group, result.replicate].add(result.case)

    def _guarded_write(self, write: Any, *arguments: Any, **options: Any) -> None:
        try:
            write(*arguments, **options)
        except StoreError as problem:
            raise StoreError(f"{problem}. {self._stored_note()}") from problem

    def _stored_note(self) -> str:
        if not (self.path / folder.RUN).exists():
            return f"The run folder is gone, and with it {len(self.results)} finished cells"
        return (
            f"{len(self.results)} finished cells and {len(self.rounds)} rounds are stored; go "
            "on with --resume once that is done"
        )
