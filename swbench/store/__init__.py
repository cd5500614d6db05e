"""Runs on disk: every sample the moment it exists, append only, checked line by line, resumable.
Nothing here imports torch.

results/<utc>_<suite>_<machine>/
    run.json           what was asked for, by which version and code, and whether it is complete
        (written whole, renamed into place)
    suite.toml         the suite file as it was read          environment.json   the machine
        (likewise)
    rounds.jsonl       one line a round, appended as it happens
    cells.jsonl        one line a cell and replicate, all of a replicate's lines at once and synced
    lock               held by the process that writes        logs/   exports/

Format history (schema in run.json):
    1  the first
    2  rounds hold the readings around each block of GPU timing (`bn` their names, `b` their values
        in the order of `o`) where they were joined for the
       whole round in `d`; a cell that was measured in several workers of one replicate names the
           others (`also`)
A run that is resumed gets the schema of the version that goes on with it; its older lines stay as
they are, for each newer line holds all that older ones do.
"""

from swbench.store.folder import Summary, find, newest, runs
from swbench.store.lock import held
from swbench.store.reading import StoredRun, load
from swbench.store.resuming import resume
from swbench.store.writer import RunWriter

__all__ = ["RunWriter", "StoredRun", "Summary", "find", "held", "load", "newest", "resume", "runs"]
