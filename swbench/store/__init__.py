"""Runs on disk: each sample is stored as soon as it exists, append-only, with a checksum for each
line; a run can be resumed. Nothing here imports torch.

results/<utc>_<suite>_<machine>/
    run.json           plan, options, version and code, and whether it is complete (written
        atomically)
    suite.toml         the suite file as it was read          environment.json   the machine
        (atomically)
    rounds.jsonl       one line a round, appended as it happens
    cells.jsonl        one line a cell and replicate, all of a replicate's lines at once and synced
    lock               held by the process that writes        logs/   exports/

Format history (schema in run.json):
    1  the first
    2  rounds hold the readings around each block of GPU timing, which were joined for the whole
       round before; a cell that was measured in several workers of one replicate names the others
       (`also`)
    3  a round has the names of its fields and the keys of its cases, as cells have always had them
       and as workers send it; before, one letter for a field, positions in the plan for cases, and
       tables for values (`old_schemas`)
A run that is resumed gets the schema of the version that goes on with it. Its older lines stay as
they are: each line is read by the schema it was written in.
"""

from swbench.store.folder import Summary, find, newest, runs
from swbench.store.lock import held
from swbench.store.reading import StoredRun, load
from swbench.store.resuming import resume
from swbench.store.writer import RunWriter

__all__ = ["RunWriter", "StoredRun", "Summary", "find", "held", "load", "newest", "resume", "runs"]
