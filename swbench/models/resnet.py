"""ResNet50 and ResNet101 (He et al. 2016) with the stride in the 3×3 convolution, and the trunk
that the segmentation network shares with them.
"""

from torch import Tensor, nn

from swbench.models.convolution import Conv2d, ConvNorm
from swbench.models.sites import NormAt, Sites

EXPANSION = 4
STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))
"""(width, blocks) of each stage of ResNet50."""

STAGES_101 = ((64, 3), (128, 4), (256, 23), (512, 3))
"""Those of ResNet101."""


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 convolutions around a shortcut; `dilation` and `stride` sit in the 3×3."""

    def __init__(
        self,
        inputs: int,
        width: int,
        sites: Sites,
        stage: int,
        block: int,
        *,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        outputs = EXPANSION * width
        self.conv1 = Conv2d(inputs, width, 1)
        self.bn1 = sites.norm(stage, block, width)
        self.conv2 = Conv2d(width, width, 3, stride=stride, dilation=dilation)
        self.bn2 = sites.norm(stage, block, width)
        self.conv3 = Conv2d(width, outputs, 1)
        self.bn3 = sites.norm(stage, block, outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = (
            ConvNorm(Conv2d(inputs, outputs, 1, stride=stride), nn.BatchNorm2d(outputs))
            if block == 0
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, 4·width, H/stride, W/stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class Trunk(nn.Module):
    """ResNet50, or what `stages` make of it, up to its last map. Module names are torchvision's, so
    that its checkpoints load where all norms are BN.

    A stage whose entry in `dilations` is above 1 keeps its resolution and dilates its 3×3
    convolutions instead.
    """

    def __init__(
        self,
        norm_at: NormAt,
        dilations: tuple[int, int, int, int] = (1, 1, 1, 1),
        stages: tuple[tuple[int, int], ...] = STAGES,
    ) -> None:
        super().__init__()
        sites = Sites(norm_at)
        self.conv1 = Conv2d(3, 64, 7, stride=2)
        self.bn1 = sites.norm(0, 0, 64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inputs = 64
        for stage, ((width, blocks), dilation) in enumerate(
            zip(stages, dilations, strict=True), start=1
        ):
            stride = 2 if stage > 1 and dilation == 1 else 1
            layers = []
            for block in range(blocks):
                layers.append(
                    Bottleneck(
                        inputs,
                        width,
                        sites,
                        stage,
                        block,
                        stride=stride if block == 0 else 1,
                        dilation=dilation,
                    )
                )
                inputs = EXPANSION * width
            setattr(self, f"layer{stage}", nn.Sequential(*layers))
        self.features = inputs

    def map(self, x: Tensor) -> Tensor:
        """The last map, (N, 2048, H/s, W/s), s = 32 without dilation."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class ResNet50(Trunk):
    """ResNet50 for ImageNet: 25.6 M parameters with 1000 classes."""

    stages = STAGES

    def __init__(self, norm_at: NormAt, num_classes: int = 1000) -> None:
        super().__init__(norm_at, stages=self.stages)
        self.fc = nn.Linear(self.features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, num_classes)."""
        return self.fc(self.map(x).mean((2, 3)))


class ResNet101(ResNet50):
    """ResNet101 for ImageNet: 44.5 M parameters with 1000 classes."""

    stages = STAGES_101
