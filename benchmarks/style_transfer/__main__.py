"""Fig. 1 of the supplement: train the stylizing network with each normalisation, on the same crops
from the same seed, and lay the pictures side by side.

python -m benchmarks.style_transfer [CONTENT…] [--style IMAGE] [--norms bn,in,bw,iw,swa] -o DIR

The last CONTENT is kept out of training; one alone joins the sample photographs. A run that was
stopped is taken up by the same command. Same seed, machine and number of threads
(OMP_NUM_THREADS): the same pictures to the bit.
"""

# ruff: noqa: T201  a script: it is run by hand, and what it prints is its result
import argparse
import hashlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from benchmarks.style_transfer import features, figure, images, training
from benchmarks.style_transfer.folder import LOSSES, Folder
from swbench import norms
from swbench.errors import OptionError, SwbenchError, printable

LARGEST = 4096
MEANINGS = {
    "size": "side of the pictures in pixels, a multiple of 4",
    "steps": "training steps of each norm",
    "batch": "crops a step",
    "seed": "of the first weights, the crops and the random features",
    "learning_rate": "of Adam at the first step",
    "style_weight": "weight of the style loss; the content loss has 1",
    "tv_weight": "weight of the total variation",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise OptionError(f"{message}; --help lists the options")


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; raises OptionError for what cannot be right."""
    parser = _Parser(
        prog="python -m benchmarks.style_transfer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("content", nargs="*", type=Path, help="images; default: three samples")
    parser.add_argument("--style", type=Path, help="an image; default: a texture drawn by code")
    parser.add_argument("--norms", default="bn,in,bw,iw,swa", help="default: %(default)s")
    parser.add_argument("--features", type=Path, help="VGG-16 state dict as torchvision saves it")
    parser.add_argument("-o", dest="out", type=Path, required=True, metavar="DIR", help="results")
    for entry in fields(training.Settings):
        parser.add_argument(
            f"--{entry.name.replace('_', '-')}",
            type=type(entry.default),
            default=entry.default,
            help=f"{MEANINGS[entry.name]}; default: %(default)s",
        )
    given = parser.parse_args(arguments)
    given.norms = list(dict.fromkeys(norms.TABLE.check(entry) for entry in given.norms.split(",")))
    least = {"size": 44, "steps": 1, "batch": 1, "seed": 0}
    for name, low in least.items():
        if getattr(given, name) < low:
            raise OptionError(f"--{name} {getattr(given, name)} is too small; {low} is the least")
    if given.size > LARGEST:
        raise OptionError(f"--size {given.size} is too large; {LARGEST} is the most")
    if given.size % 4:
        nearest = max(44, round(given.size / 4) * 4)
        raise OptionError(f"--size {given.size} is no multiple of 4; {nearest} is the nearest")
    if given.seed >= 2**63:
        raise OptionError("--seed must be below 2**63")
    for name in ("learning_rate", "style_weight", "tv_weight"):
        if not 0 <= getattr(given, name) < float("inf"):
            raise OptionError(
                f"--{name.replace('_', '-')} must be a number from 0, not {getattr(given, name)}"
            )
    return given


def _digest(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _progress(norm: str, left: int, steps: int, began: float) -> Callable[[int, float], None]:
    """Prints a line ten times a norm, with the time left for it and the `left` norms after it."""

    def progress(step: int, loss: float) -> None:
        if step % max(1, steps // 10) and step != steps:
            return
        pace = (time.perf_counter() - began) / step
        minutes = pace * (steps - step + left * steps) / 60
        print(
            f"{norm:>4} step {step}/{steps}: loss {loss:.4f}, {pace:.2f} s a step, "
            f"about {minutes:.1f} min left",
            file=sys.stderr,
            flush=True,
        )

    return progress


def run(given: argparse.Namespace) -> None:
    """Train every norm that the folder does not hold yet, and draw the figure after each."""
    settings = training.Settings(
        **{entry.name: getattr(given, entry.name) for entry in fields(training.Settings)}
    )
    paths = given.content if len(given.content) > 1 else [*images.samples(), *given.content]
    read = [images.read(path, given.size) for path in paths]
    names = [f"{index}-{path.stem[:40]}" for index, path in enumerate(paths, 1)]
    contents = dict(zip(names, (images.centre(entry, given.size) for entry in read), strict=True))
    if given.style:
        style = images.centre(images.read(given.style, given.size), given.size)
    else:
        style = images.texture(given.size)
    if given.features:
        extractor, described = features.vgg16(given.features), "VGG-16 features"
    else:
        extractor, described = features.RandomFeatures(given.seed), "random features"
    folder = Folder(
        given.out,
        {
            **asdict(settings),
            "contents": {name: _digest(entry) for name, entry in zip(names, read, strict=True)},
            "style": _digest(style),
            "features": described,
            "features_sha256": _digest(*extractor.state_dict().values()),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        },
    )
    print(f"{described}; {names[-1]} is kept out of training", file=sys.stderr)
    folder.write_picture("style", style)
    losses = training.Losses(extractor, style)
    records = {norm: record for norm in given.norms if (record := folder.stored(norm, names))}
    missing = [norm for norm in given.norms if norm not in records]
    for index, norm in enumerate(missing):
        progress = _progress(norm, len(missing) - index - 1, given.steps, time.perf_counter())
        trained = training.train(norm, read[:-1], losses, settings, progress)
        pictures = {
            name: training.stylized(trained.network, entry) for name, entry in contents.items()
        }
        held = names[-1]
        with torch.no_grad():
            judged = losses(pictures[held][None], contents[held][None])
        row = {
            "image": held,
            **dict(zip(LOSSES, (entry.item() for entry in judged), strict=True)),
            "seconds_a_step": trained.seconds_a_step,
            "features": described,
            **asdict(settings),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
        folder.keep(norm, {"row": row, "losses": trained.losses}, pictures)
        records[norm] = {"row": row, "losses": trained.losses}
        draw(
            folder,
            {entry: records[entry] for entry in given.norms if entry in records},
            contents,
            style,
        )
    if not missing:
        draw(folder, records, contents, style)
    print(f"written: {folder.path / 'grid.png'}")


def draw(folder: Folder, records: dict, contents: dict[str, Tensor], style: Tensor) -> None:
    """Write the tables, the grid and the losses of the norms there are."""
    folder.write_tables(records)
    first = next(iter(records.values()))["row"]
    rows = []
    for name, content in contents.items():
        shown = name.partition("-")[2] + ("\n(not trained on)" if name == first["image"] else "")
        made = [folder.read_picture(f"{name}-{norm}") for norm in records]
        rows.append((shown, [content, style, *made]))
    figure.grid(
        folder.path / "grid.png",
        ["content", "style", *map(figure.label, records)],
        rows,
        f"{first['features']}, {first['size']}×{first['size']}, {first['steps']} steps of "
        f"{first['batch']} crops, seed {first['seed']}",
    )
    figure.curves(
        folder.path / "losses.png", {norm: record["losses"] for norm, record in records.items()}
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and draw; 2, with one line on stderr, for the user's mistakes."""
    torch.use_deterministic_algorithms(True)
    try:
        run(options(arguments))
    except SwbenchError as error:
        print(f"error: {printable(error)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; the same command takes the run up again", file=sys.stderr)
        return 130
    except OSError as error:
        where = f" ({printable(error.filename)})" if error.filename else ""
        print(
            f"error: {error.strerror or error}{where}; make room, then try again", file=sys.stderr
        )
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
