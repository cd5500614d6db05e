"""The mixture of a whitening layer: its statistics by name, the group size and ε."""

from dataclasses import dataclass, field

BATCH, IMAGE = ("bw", "bn"), ("iw", "in", "ln")
FULL, DIAGONAL = ("bw", "iw"), ("bn", "in")
LAYER = "ln"


@dataclass(frozen=True)
class Recipe:
    """The `statistics` (of bw, iw, bn, in, ln) that a layer mixes, in the order of their weights;
    `group` is G, `eps` is ε.

    Means: of the batch for bw and bn, of the image for iw and in, of all channels of the image for
    ln. Covariances: full for bw and iw, diagonal for bn and in, σ²·I for ln (Pan et al. 2019,
    §3.1). A single statistic has no weights.
    """

    statistics: tuple[str, ...]
    group: int
    eps: float

    uses_batch: bool = field(init=False, repr=False, compare=False)
    """Whether batch statistics are used (and running ones tracked)."""
    uses_image: bool = field(init=False, repr=False, compare=False)
    """Whether statistics of each image are used, so that every image has its own matrices."""
    layer_index: int | None = field(init=False, repr=False, compare=False)
    """The index of `ln` in `statistics`; None without it."""
    eps_text: str = field(init=False, repr=False, compare=False)
    """ε as text with all digits: a compiler may treat a number as dynamic, but not a string."""
    all_full: bool = field(init=False, repr=False, compare=False)
    """Whether every covariance is full."""

    def __post_init__(self) -> None:
        # Plain attributes, which a compiler can read where it cannot read a cached property.
        of = self.statistics
        for name, value in (
            ("uses_batch", any(s in BATCH for s in of)),
            ("uses_image", any(s in IMAGE for s in of)),
            ("layer_index", of.index(LAYER) if LAYER in of else None),
            ("eps_text", repr(float(self.eps))),
            ("all_full", all(s in FULL for s in of)),
        ):
            object.__setattr__(self, name, value)
