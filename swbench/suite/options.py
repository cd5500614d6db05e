"""The options of the command line that override a suite. Each is declared once, here: its flag and
help text, the form and check of its value, and the key of a suite that it overrides.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from swbench.errors import OptionError
from swbench.suite import schema
from swbench.suite.fields import Field, Problems


@dataclass(frozen=True, kw_only=True)
class Option:
    """One flag of the command line.

    `name` is the attribute of `Options` that it sets. `check` declares the allowed values; None
    makes it a switch. A switch with a `choice` sets its attribute to that. `written` names a
    special form of value: `dtypes`, `duration`, `images`, `percent` or `solvers`. `overrides` is
    the value of a suite that it replaces, if there is just one: `base.mode` for the key `mode` of
    `[network]` or `[solvers]`, `protocol.seed` for one of `[protocol]`.
    """

    flag: str
    help: str
    check: Field | None = None
    written: str = ""
    choice: str = ""
    overrides: str = ""
    name: str = ""


def _option(flag: str, help: str, check: Field | None = None, **more: str) -> Any:  # noqa: A002
    """A field of `Options` that `flag` sets."""
    option = Option(flag=flag, help=help, check=check, **more)
    return field(default=None if check else False, metadata={"options": (option,)})


def _text(**how: Any) -> Field:
    return Field(kind=str, many=True, **how)


_WHICH_BATCHES = Field(kind=str, choices=(schema.UNTIL_FITS, schema.EVERY_BATCH))


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The selection of cases from a suite: overrides of its tables; None leaves the suite's value.

    `only` holds globs over rows (`swa*`, `swa-7`, `ResNet50-SW^a`) or solver names, of which one
    must match; the baseline and its control always stay. `worlds` are numbers of processes that
    share a batch, of which `per_node` run on one machine (None: all). `which_batches` is
    `until-fits` or `every-batch`.
    """

    devices: tuple[str, ...] | None = _option(
        "--device",
        "Devices: cpu, cuda, cuda:1.  [default: cpu, and cuda where there is one]",
        _text(check=schema.device_problem),
    )
    threads: int | None = _option(
        "--threads",
        "Intra-op threads on a CPU.  [default: the physical cores allowed]",
        Field(**schema.THREADS),
    )
    only: tuple[str, ...] | None = _option(
        "--only",
        "Rows by norm, norm-layers, label or solver, globs allowed: 'swa*'. The baseline stays.",
        _text(),
    )
    solvers: tuple[str, ...] | None = _option(
        "--solver",
        "Solvers instead of the suite's, a row each: eigh,polar,eigh:backward=paper.",
        _text(check=schema.solver_problem),
        written="solvers",
    )
    worlds: tuple[int, ...] | None = _option(
        "--nproc",
        "Processes that a batch is spread over, started by torch's elastic launcher: 8, or "
        "1,2,4,8.",
        Field(many=True, **schema.WORLD),
        overrides="base.world",
    )
    per_node: int | None = None
    batches: tuple[int, ...] | None = _option(
        "--batch",
        "Batch sizes instead of the suite's.",
        Field(many=True, **schema.MATRICES),
    )
    which_batches: str | None = field(
        default=None,
        metadata={
            "options": (
                Option(
                    flag="--until-fits",
                    help="Of several batches the largest first, smaller ones only until every row "
                    "fits the device.",
                    check=_WHICH_BATCHES,
                    choice=schema.UNTIL_FITS,
                ),
                Option(
                    flag="--every-batch",
                    help="Every batch, in a suite that tries them until all rows fit, too.",
                    check=_WHICH_BATCHES,
                    choice=schema.EVERY_BATCH,
                ),
            )
        },
    )
    images: tuple[tuple[int, int], ...] | None = _option(
        "--image",
        "Image sizes in pixels instead of the suite's: 224, or 224x160 (height, width).",
        Field(many=True, **schema.IMAGE),
        written="images",
        overrides="base.image",
    )
    groups: tuple[int, ...] | None = _option(
        "--group",
        "Whitening group sizes (in a solver suite: matrix sizes) instead of the suite's.",
        Field(many=True, **schema.GROUP),
    )
    spectra: tuple[str, ...] | None = _option(
        "--spectrum",
        "Spectra of a solver suite: kappa=1e3, identity …",
        _text(check=schema.spectrum_problem),
        overrides="base.spectrum",
    )
    roots: tuple[int, ...] | None = _option(
        "--root",
        "Roots of a solver suite: the p of Σ^(-1/p), 2 or 4; for 4 the forward pass alone.",
        Field(many=True, **schema.ROOT),
        overrides="base.root",
    )
    dtypes: tuple[str, ...] | None = _option(
        "--dtype",
        "float32, tf32, bfloat16 (bf16), float16 (fp16), float64; amp-bfloat16 and amp-float16: "
        "autocast to it, parameters in float32.",
        _text(choices=tuple(dict.fromkeys(schema.DTYPES + schema.STABILITY_DTYPES))),
        written="dtypes",
        overrides="base.dtype",
    )
    phases: tuple[str, ...] | None = _option(
        "--phase",
        "train: forward and backward; eval: one forward pass in eval mode, without gradients; "
        "folded: that with norms folded into convolutions.  [default: train]",
        _text(choices=schema.PHASES),
        overrides="base.phase",
    )
    modes: tuple[str, ...] | None = _option(
        "--mode", "eager, graph, compile.", _text(choices=schema.MODES), overrides="base.mode"
    )
    layouts: tuple[str, ...] | None = _option(
        "--layout",
        "contiguous, channels_last.",
        _text(choices=schema.LAYOUTS),
        overrides="base.layout",
    )


@dataclass(frozen=True, kw_only=True)
class Options(Selection):
    """All overrides of a suite: the selection of cases, and the protocol. `target_ci` is a
    half-width on the log-ratio, and `budget_s` is in seconds. `full` selects a suite's full grid.
    `model` replaces the suite: that network with `norms` at the sites that `where` chooses.
    """

    model: str | None = _option(
        "--model",
        "A network instead of a SUITE: timm:NAME, torchvision:NAME, package.module:callable "
        "(imported because you name it here), or one of `list models`.",
        Field(kind=str),
    )
    norms: tuple[str, ...] | None = _option(
        "--norm",
        "With --model: the norms to measure, beside its own.  [default: bw,swa,swb]",
        _text(check=schema.norm_problem),
    )
    where: str | None = _option(
        "--where",
        "With --model: which of its norms are replaced: numbers, globs over module paths, every=6, "
        "'channels<=1024', '!*downsample*' to leave out.  [default: all]",
        Field(kind=str),
    )
    iterations: int | None = _option(
        "--iterations",
        "Rounds in all.  [default: the suite's, 100]",
        Field(**schema.ITERATIONS),
        overrides="protocol.iterations",
    )
    replicates: int | None = _option(
        "--replicates",
        "Fresh worker processes the rounds are spread over.  [default: 5]",
        Field(**schema.REPLICATES),
        overrides="protocol.replicates",
    )
    metrics: tuple[str, ...] | None = _option(
        "--metrics",
        "What to measure, of `list probes`. flops alone need no timing.",
        _text(choices=tuple(schema.METRICS)),
    )
    quick: bool = _option(
        "--quick", "2 replicates of 5 rounds, 3 warm-up calls; every output says QUICK."
    )
    full: bool = _option(
        "--full", "The whole grid of a suite that has one, instead of its default slice."
    )
    target_ci: float | None = _option(
        "--target-ci",
        "Stop when every ratio is known to ± this, such as 1%.",
        Field(**schema.TARGET),
        written="percent",
        overrides="protocol.target_ci",
    )
    budget_s: float | None = _option(
        "--budget",
        "Begin no replicate after this time of measuring, such as 10m, earlier lives of a resumed "
        "run included; the one that runs is finished.",
        Field(**schema.SECONDS),
        written="duration",
        overrides="protocol.budget_s",
    )
    case_limit_s: float | None = _option(
        "--case-limit",
        "The longest one case may stay silent.  [default: 10m]",
        schema.PROTOCOL["case_limit_s"],
        written="duration",
        overrides="protocol.case_limit_s",
    )
    seed: int | None = _option(
        "--seed",
        "Seed of orders and data.  [default: 0]",
        schema.PROTOCOL["seed"],
        overrides="protocol.seed",
    )

    @classmethod
    def of(cls, **given: Any) -> "Options":
        """Options from values as the command line gives them (lists, or None). Raises OptionError
        for a value out of range.
        """
        values = {
            name: tuple(value) if isinstance(value, list | tuple) else value
            for name, value in given.items()
        }
        for option in declared(cls):
            value = values.get(option.name)
            if option.check is None:
                continue
            if value is None or (option.check.many and not value):
                values[option.name] = None
                continue
            problems: Problems = []
            values[option.name] = option.check.read(
                list(value) if option.check.many else value, option.flag, problems
            )
            if problems:
                raise OptionError("; ".join(problems))
        options = cls(**values)
        if options.iterations and options.replicates and options.iterations < options.replicates:
            raise OptionError(
                f"--iterations {options.iterations} cannot be spread over --replicates "
                f"{options.replicates}; give at least one a replicate"
            )
        return options

    def as_given(self) -> dict[str, Any]:
        """The options that were given, by name, without those left to the suite. `--resume` finds a
        run by them.
        """
        return {name: value for name, value in asdict(self).items() if value not in (None, False)}

    def over(self, table: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """The `values` of a suite's `table` (`base` or `protocol`), overridden by the options."""
        overridden = dict(values)
        for option in declared(type(self)):
            of, _, key = option.overrides.partition(".")
            if of == table and (value := getattr(self, option.name)) is not None:
                overridden[key] = value
        return overridden


def declared(kind: type[Selection]) -> Iterator[Option]:
    """The options of `kind` (`Selection` or `Options`), in the order of the help text."""
    for attribute in fields(kind):
        for option in attribute.metadata.get("options", ()):
            yield replace(option, name=attribute.name)
