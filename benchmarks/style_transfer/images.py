"""The images of the style transfer: read from files, the sample photographs, and a style drawn by
code.
"""

import importlib.util
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from swbench.errors import OptionError, printable

SAMPLES = (
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
)
"""Packages and the photographs in them; the last is kept out of training."""
LONGEST = 2
"""Longer side of a training image over its shorter side; what is beyond is cut off both ends."""


def samples() -> list[Path]:
    """The sample photographs of scikit-learn and matplotlib. Raises OptionError where scikit-learn
    is not installed.
    """
    paths = []
    for package, name in SAMPLES:
        spec = importlib.util.find_spec(package)  # scikit-learn takes seconds to import
        if spec is None or spec.origin is None:
            raise OptionError(
                f"the sample photographs need {package}, which is not installed; "
                "pip install scikit-learn, or name two images or more"
            )
        paths.append(Path(spec.origin).parent / name)
    return paths


def read(path: Path, size: int) -> Tensor:
    """The image at `path` as RGB (3, H, W) in [0, 1], scaled so that its shorter side is `size`.

    Grey images become RGB and transparent pixels white; EXIF rotation is applied. Raises
    OptionError for whatever cannot be read as 8-bit pixels.
    """
    shown = printable(path)
    try:
        with Image.open(path) as file:
            file.load()
            image = ImageOps.exif_transpose(file)
    except FileNotFoundError:
        raise OptionError(f"no image {shown}; name a file that exists") from None
    except UnidentifiedImageError:
        raise OptionError(
            f"{shown} is no image that Pillow can read; convert it to PNG or JPEG"
        ) from None
    except Image.DecompressionBombError:
        raise OptionError(f"{shown} has too many pixels; scale it down first") from None
    except (OSError, SyntaxError, ValueError) as error:
        reason = printable(str(error).partition("\n")[0])
        raise OptionError(
            f"{shown} cannot be read ({reason}); name a readable image, whole and undamaged"
        ) from None
    if image.mode[0] in "IF":
        raise OptionError(f"{shown} has {image.mode} pixels; convert it to 8 bits a channel")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    shorter, longer = sorted(image.size)
    excess = max(0, longer - LONGEST * shorter) // 2
    width, height = image.size
    box = (
        (excess, 0, width - excess, height)
        if width > height
        else (0, excess, width, height - excess)
    )
    image = image.crop(box)
    scale = size / shorter
    sides = [max(size, round(side * scale)) for side in image.size]
    pixels = np.asarray(image.resize(sides, Image.Resampling.LANCZOS), np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def centre(image: Tensor, size: int) -> Tensor:
    """The middle `size`×`size` pixels of (3, H, W)."""
    top, left = (image.shape[1] - size) // 2, (image.shape[2] - size) // 2
    return image[:, top : top + size, left : left + size].contiguous()


def crops(images: list[Tensor], side: int, count: int, generator: torch.Generator) -> Tensor:
    """(`count`, 3, `side`, `side`): random places of the images in turn, half of them mirrored."""
    paths = []
    for index in range(count):
        image = images[index % len(images)]
        top, left = (
            int(torch.randint(length - side + 1, (), generator=generator))
            for length in image.shape[1:]
        )
        crop = image[:, top : top + side, left : left + side]
        paths.append(crop.flip(2) if torch.rand((), generator=generator) < 0.5 else crop)
    return torch.stack(paths)


PALETTE = (
    (16, 28, 84),
    (30, 84, 168),
    (240, 196, 60),
    (248, 240, 214),
    (198, 62, 38),
    (24, 132, 140),
)


TWIRLS = ((0.3, 0.3, 7.0), (0.68, 0.72, -8.0), (0.82, 0.2, 5.0), (0.14, 0.84, -5.0))
"""Centres (row, column as shares of the side) of the style's twirls, and their turn in radians."""


def texture(size: int) -> Tensor:
    """A style drawn by code, (3, `size`, `size`): stripes of strong colours with dark edges,
    twirled around several centres; the same at every size.
    """
    y, x = np.mgrid[0:size, 0:size] / size
    for row, column, turn in TWIRLS:
        dy, dx = y - row, x - column
        angle = turn * np.exp(-(dy**2 + dx**2) / 0.2**2)
        y = row + dy * np.cos(angle) - dx * np.sin(angle)
        x = column + dy * np.sin(angle) + dx * np.cos(angle)
    bands = 11 * x + 5 * y + 0.35 * np.sin(2 * math.pi * (3 * y - x))
    colours = np.array(PALETTE, float)[np.floor(bands).astype(int) % len(PALETTE)]
    edge = 1 - np.abs(bands % 1 - 0.5) * 2
    shade = np.clip(edge / 0.3, 0.1, 1) * (0.88 + 0.12 * np.cos(2 * math.pi * 4 * bands))
    pixels = (colours / 255 * shade[..., None]).clip(0, 1).astype(np.float32)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
