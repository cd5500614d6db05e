"""What the losses look at: features of VGG-16, or of fixed random filters at several scales."""

import pickle
import struct
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from swbench.errors import OptionError, printable

_VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)
"""Channels of the convolutions of VGG-16; 0 is a max pooling."""
_REMEDY = "save torchvision.models.vgg16(weights=…).state_dict() with torch.save"


def gram(features: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, C): products of channels over all places, divided by C·H·W (Johnson
    et al. 2016, eq. 3).
    """
    flat = features.flatten(2)
    return flat @ flat.mT / flat[0].numel()


def _vgg16_shapes() -> dict[str, tuple[int, ...]]:
    shapes, inputs, index = {}, 3, 0
    for channels in _VGG16:
        if channels:
            shapes[f"features.{index}.weight"] = (channels, inputs, 3, 3)
            shapes[f"features.{index}.bias"] = (channels,)
            inputs = channels
        index += 2 if channels else 1
    return shapes


VGG16_SHAPES = _vgg16_shapes()
"""Names and shapes of the convolutions in torchvision's VGG-16 state dict."""


class RandomFeatures(nn.Module):
    """ReLU of one layer of random filters (Ustyuzhaninov et al. 2016, "Texture synthesis using
    shallow convolutional networks with random filters"), on the image and on it halved three times:
    filters of 7, 14, 28 and 56 pixels.
    """

    FILTERS, SIDE, SCALES = 96, 7, 4
    CONTENT = 1
    """The scale whose features stand for the content."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        filters = torch.empty(self.FILTERS, 3, self.SIDE, self.SIDE)
        nn.init.xavier_uniform_(filters, generator=generator)
        self.register_buffer("filters", filters)

    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Style features, one tensor a scale, and content features, of (N, 3, H, W) in [0, 1]."""
        x, features = 2 * images - 1, []
        for scale in range(self.SCALES):
            if scale:
                x = functional.avg_pool2d(x, 2)
            padded = functional.pad(x, (self.SIDE // 2,) * 4, mode="reflect")
            features.append(functional.relu(functional.conv2d(padded, self.filters)))
        return features, features[self.CONTENT]


class VGGFeatures(nn.Module):
    """VGG-16 up to relu4_3: style at relu1_2, relu2_2, relu3_3 and relu4_3, content at relu3_3
    (Johnson et al. 2016, section 4.1).
    """

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in _VGG16[:13]:
            if channels:
                weight = state[f"features.{len(layers)}.weight"]
                bias = state[f"features.{len(layers)}.bias"]
                convolution = nn.utils.skip_init(nn.Conv2d, weight.shape[1], channels, 3, padding=1)
                convolution.load_state_dict({"weight": weight, "bias": bias})
                layers += [convolution, nn.ReLU()]
            else:
                layers.append(nn.MaxPool2d(2))
        self.blocks = nn.ModuleList(
            nn.Sequential(*layers[a:b]) for a, b in ((0, 4), (4, 9), (9, 16), (16, 23))
        )
        self.requires_grad_(False)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))

    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Style features, one tensor a layer, and content features, of (N, 3, H, W) in [0, 1]."""
        x, features = (images - self.mean) / self.deviation, []
        for block in self.blocks:
            x = block(x)
            features.append(x)
        return features, features[2]


def vgg16(path: Path) -> VGGFeatures:
    """The features of the VGG-16 state dict at `path`, as torchvision saves it.

    Nothing but tensors is unpickled. Raises OptionError for any other file.
    """
    shown = printable(path)
    try:
        with warnings.catch_warnings(action="ignore"):  # of pickle protocols it may not know
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise OptionError(f"no features file {shown}; {_REMEDY}") from None
    except (
        *(OSError, RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError),
        *(AssertionError, pickle.UnpicklingError, struct.error),
    ):
        raise OptionError(
            f"{shown} does not load as tensors alone (torch.load, weights_only); {_REMEDY}"
        ) from None
    if not isinstance(state, dict):
        raise OptionError(f"{shown} holds a {type(state).__name__}, no state dict; {_REMEDY}")
    for key, shape in VGG16_SHAPES.items():
        value = state.get(key)
        if not isinstance(value, Tensor):
            raise OptionError(f"{shown} is no VGG-16: it has no tensor {key}; {_REMEDY}")
        if tuple(value.shape) != shape:
            raise OptionError(
                f"{shown} is no VGG-16: {key} is {tuple(value.shape)}, not {shape}; {_REMEDY}"
            )
        if not value.is_floating_point() or not value.isfinite().all():
            raise OptionError(f"{shown}: {key} is not all finite floats; {_REMEDY}")
    return VGGFeatures(state)
