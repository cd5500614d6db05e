"""The dilated ResNet50 with a segmentation head that Table 2 measures (inferred from its FLOPs:
docs/flops.md).
"""

from torch import Tensor, nn
from torch.nn import functional

from swbench.models.convolution import Conv2d
from swbench.models.resnet import Trunk
from swbench.models.sites import NormAt

HEAD = 512


class SegmentationResNet50(Trunk):
    """ResNet50 with stages 3 and 4 dilated by 2 and 4, so that its output stride is 8, and a
    two-convolution head.

    The head: 3×3 convolution 2048 -> 512 without bias, BN, ReLU, 1×1 convolution to the classes (19
    on Cityscapes, 150 on ADE20K), and bilinear up-sampling to the input size. The head's BN is no
    site: nothing there is ever whitened.
    """

    def __init__(self, norm_at: NormAt, num_classes: int = 19) -> None:
        super().__init__(norm_at, dilations=(1, 1, 2, 4))
        self.head = nn.Sequential(
            Conv2d(self.features, HEAD, 3),
            nn.BatchNorm2d(HEAD),
            nn.ReLU(inplace=True),
            Conv2d(HEAD, num_classes, 1, bias=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, num_classes, H, W)."""
        # Corners aligned: 713 = 8·89 + 1, so the 90×90 map's corners are the image's.
        return functional.interpolate(
            self.head(self.map(x)), size=x.shape[-2:], mode="bilinear", align_corners=True
        )
