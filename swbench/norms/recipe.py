"""What a whitening layer mixes: the statistics by name, the group size and ε."""

from dataclasses import dataclass, field

BATCH, IMAGE = ("bw", "bn"), ("iw", "in", "ln")
FULL, DIAGONAL = ("bw", "iw"), ("bn", "in")
LAYER = "ln"


@dataclass(frozen=True)
class Recipe:
    """The `statistics` (of bw, iw, bn, in, ln) that a layer mixes, in the order of its weights;
    `group` = G; `eps` = ε.

    Means: bw and bn the batch's, iw and in the image's, ln that of the whole image. Covariances:
    bw, iw full; bn, in their diagonals; ln σ²·I (Pan et al. 2019, §3.1). One statistic alone has no
    weights.
    """

    statistics: tuple[str, ...]
    group: int
    eps: float

    uses_batch: bool = field(init=False, repr=False, compare=False)
    """Whether the batch's statistics enter (and running ones are kept)."""
    uses_image: bool = field(init=False, repr=False, compare=False)
    """Whether an image's own statistics enter, so that every image has matrices of its own."""
    layer_index: int | None = field(init=False, repr=False, compare=False)
    """The position of `ln` among the statistics, None without it."""
    eps_text: str = field(init=False, repr=False, compare=False)
    """ε in digits, all of them: a compiler may take a number to be one that changes, but not a
    text.
    """
    all_full: bool = field(init=False, repr=False, compare=False)
    """Whether every covariance is a full one."""

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
