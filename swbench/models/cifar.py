"""The CIFAR ResNets of depth 6n + 2 (He et al. 2016, section 4.2): two 3×3 convolutions a block,
shortcuts without parameters.
"""

from functools import partial

from torch import Tensor, nn
from torch.nn import functional

from swbench.models.convolution import Conv2d
from swbench.models.sites import NormAt, Sites

WIDTHS = (16, 32, 64)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions around a shortcut, which subsamples and pads with zero channels where
    the shape changes (option A).
    """

    def __init__(
        self, inputs: int, outputs: int, sites: Sites, stage: int, block: int, stride: int
    ) -> None:
        super().__init__()
        self.conv1 = Conv2d(inputs, outputs, 3, stride=stride)
        self.bn1 = sites.norm(stage, block, outputs)
        self.conv2 = Conv2d(outputs, outputs, 3)
        self.bn2 = sites.norm(stage, block, outputs)
        self.relu = nn.ReLU(inplace=True)
        self.stride, self.extra = stride, (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H/stride, W/stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.extra:
            x = functional.pad(
                x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.extra, self.extra)
            )
        y += x
        return self.relu(y)


class CifarResNet(nn.Module):
    """ResNet20, 32, 44, 56 or 110. Raises ValueError for a depth that is not 6n + 2."""

    def __init__(self, depth: int, norm_at: NormAt, num_classes: int = 10) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f"a CIFAR ResNet has depth 6n + 2, not {depth}")
        sites = Sites(norm_at)
        inputs = WIDTHS[0]
        self.conv1 = Conv2d(3, inputs, 3)
        self.bn1 = sites.norm(0, 0, inputs)
        self.relu = nn.ReLU(inplace=True)
        for stage, width in enumerate(WIDTHS, start=1):
            layers = []
            for block in range(blocks):
                layers.append(
                    BasicBlock(
                        inputs,
                        width,
                        sites,
                        stage,
                        block,
                        stride=2 if stage > 1 and block == 0 else 1,
                    )
                )
                inputs = width
            setattr(self, f"layer{stage}", nn.Sequential(*layers))
        self.fc = nn.Linear(inputs, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W), 32×32 on CIFAR -> (N, num_classes)."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


resnet20 = partial(CifarResNet, 20)
resnet32 = partial(CifarResNet, 32)
resnet44 = partial(CifarResNet, 44)
resnet56 = partial(CifarResNet, 56)
resnet110 = partial(CifarResNet, 110)
