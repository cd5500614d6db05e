"""The stylizing network of Fig. 1 (Johnson, Alahi and Fei-Fei 2016, "Perceptual losses",
supplement, table 1).
"""

from torch import Tensor, nn
from torch.nn import functional

from swbench.models.convolution import Conv2d
from swbench.models.sites import NormAt, Sites

MARGIN = 40
"""Pixels of reflection padding around the image; the residual blocks, which do not pad, take them
off again.
"""

BLOCKS = 5


class UpConv2d(nn.ConvTranspose2d):
    """A 3×3 convolution of stride ½ that doubles height and width."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, stride=2, padding=1, output_padding=1, bias=False)

    def reset_parameters(self) -> None:
        # A transposed convolution's fan-out is what torch calls fan-in: its weight is (inputs,
        # outputs, k, k).
        nn.init.kaiming_normal_(self.weight, mode="fan_in", nonlinearity="relu")


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions without padding; the shortcut is cropped by 2 pixels a side, and no ReLU
    follows the sum.
    """

    def __init__(self, channels: int, sites: Sites, block: int) -> None:
        super().__init__()
        self.conv1 = Conv2d(channels, channels, 3, padding=0)
        self.norm1 = sites.norm(2, block, channels)
        self.conv2 = Conv2d(channels, channels, 3, padding=0)
        self.norm2 = sites.norm(2, block, channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H − 4, W − 4)."""
        y = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        y += x[:, :, 2:-2, 2:-2]
        return y


class Stylizer(nn.Module):
    """Image to image: 9×9, two down-sampling 3×3, five residual blocks, two up-sampling 3×3, 9×9.

    Each of the 15 convolutions but the last is followed by the norm under test. Stages: 0 the first
    9×9, 1 down, 2 residual, 3 up. The output is the last convolution's, without the scaled tanh
    that fixes the range of a picture. It is as large as the input where the sides are multiples of
    4, else up to 3 pixels larger. `num_classes` is taken for uniformity and has no effect.
    """

    def __init__(self, norm_at: NormAt, num_classes: int | None = None) -> None:
        super().__init__()
        sites = Sites(norm_at)
        self.relu = nn.ReLU(inplace=True)
        self.stem = nn.Sequential(Conv2d(3, 32, 9), sites.norm(0, 0, 32), self.relu)
        self.down = nn.Sequential(
            *(Conv2d(32, 64, 3, stride=2), sites.norm(1, 0, 64), self.relu),
            *(Conv2d(64, 128, 3, stride=2), sites.norm(1, 1, 128), self.relu),
        )
        self.residual = nn.Sequential(
            *(ResidualBlock(128, sites, block) for block in range(BLOCKS))
        )
        self.up = nn.Sequential(
            *(UpConv2d(128, 64), sites.norm(3, 0, 64), self.relu),
            *(UpConv2d(64, 32), sites.norm(3, 1, 32), self.relu),
        )
        self.out = Conv2d(32, 3, 9, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, H, W). Height and width above 40."""
        x = functional.pad(x, (MARGIN,) * 4, mode="reflect")
        return self.out(self.up(self.residual(self.down(self.stem(x)))))
