"""What the command line may change about a suite, checked before anything runs."""

from dataclasses import dataclass
from typing import Any

from swbench.errors import OptionError
from swbench.suite import format as fmt
from swbench.suite import vocabulary
from swbench.suite.fields import Field, Problems


@dataclass(frozen=True, kw_only=True)
class Options:
    """Overrides of a suite; None leaves what the suite says.

    `only` are globs over rows (`swa*`, `swa-7`, `ResNet50-SW^a`) or solver names, of which one must
    match; the baseline and its control always stay. `worlds` are numbers of processes that a batch
    is spread over, of which `per_node` fit on one machine (None: all). `which_batches` is
    `until-fits` or `every-batch`. `target_ci` is a half-width on the log-ratio, `budget_s` seconds.
    `full` turns a solver suite's full grid on.
    """

    devices: tuple[str, ...] | None = None
    threads: int | None = None
    only: tuple[str, ...] | None = None
    solvers: tuple[str, ...] | None = None
    worlds: tuple[int, ...] | None = None
    per_node: int | None = None
    batches: tuple[int, ...] | None = None
    which_batches: str | None = None
    groups: tuple[int, ...] | None = None
    spectra: tuple[str, ...] | None = None
    dtypes: tuple[str, ...] | None = None
    modes: tuple[str, ...] | None = None
    layouts: tuple[str, ...] | None = None
    metrics: tuple[str, ...] | None = None
    iterations: int | None = None
    replicates: int | None = None
    target_ci: float | None = None
    budget_s: float | None = None
    case_limit_s: float | None = None
    seed: int | None = None
    quick: bool = False
    full: bool = False

    @classmethod
    def of(cls, **given: Any) -> "Options":
        """Options from values as the command line gives them (lists, or None). Raises OptionError
        for a value out of range.
        """
        values = {
            name: tuple(value) if isinstance(value, list | tuple) else value
            for name, value in given.items()
        }
        for name, field in _FIELDS.items():
            value = values.get(name)
            if value is None or (field.many and not value):
                values[name] = None
                continue
            problems: Problems = []
            values[name] = field.read(list(value) if field.many else value, _flag(name), problems)
            if problems:
                raise OptionError("; ".join(problems))
        found = cls(**values)
        if found.iterations and found.replicates and found.iterations < found.replicates:
            raise OptionError(
                f"--iterations {found.iterations} cannot be spread over --replicates "
                f"{found.replicates}; give at least one a replicate"
            )
        return found


_SINGULAR = {
    "worlds": "nproc",
    "batches": "batch",
    "spectra": "spectrum",
    "metrics": "metrics",
    "threads": "threads",
    "iterations": "iterations",
    "replicates": "replicates",
}


def _flag(name: str) -> str:
    """The command-line flag behind an option: `devices` is `--device`, `budget_s` is `--budget`."""
    name = name.removesuffix("_s")
    return "--" + _SINGULAR.get(name, name.removesuffix("s")).replace("_", "-")


_FIELDS = {
    "devices": Field(kind=str, many=True, check=vocabulary.device_problem),
    "threads": Field(**fmt.THREADS),
    "only": Field(kind=str, many=True),
    "solvers": Field(kind=str, many=True, check=vocabulary.solver_problem),
    "worlds": Field(many=True, **fmt.WORLD),
    "batches": Field(many=True, **fmt.MATRICES),
    "which_batches": Field(kind=str, choices=(vocabulary.UNTIL_FITS, vocabulary.EVERY_BATCH)),
    "groups": Field(many=True, **fmt.GROUP),
    "spectra": Field(kind=str, many=True, check=vocabulary.spectrum_problem),
    "dtypes": Field(kind=str, many=True, choices=vocabulary.DTYPES),
    "modes": Field(kind=str, many=True, choices=vocabulary.MODES),
    "layouts": Field(kind=str, many=True, choices=vocabulary.LAYOUTS),
    "metrics": Field(kind=str, many=True, choices=tuple(vocabulary.METRICS)),
    "iterations": Field(**fmt.ITERATIONS),
    "replicates": Field(**fmt.REPLICATES),
    "target_ci": Field(**fmt.TARGET),
    "budget_s": Field(**fmt.SECONDS),
    "case_limit_s": fmt.PROTOCOL["case_limit_s"],
    "seed": fmt.PROTOCOL["seed"],
}
