"""The convolution of all networks here: He initialisation, and no bias where a norm follows."""

from torch import Tensor, nn


class Conv2d(nn.Conv2d):
    """A k×k convolution, `same` padding for odd k and any dilation, without bias unless asked for.

    Weights are normal with variance 2 / fan-out (He et al. 2015, eq. 14), biases zero.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        padding: int | None = None,
        bias: bool = False,
    ) -> None:
        if padding is None:
            padding = dilation * (kernel // 2)
        super().__init__(
            inputs, outputs, kernel, stride=stride, padding=padding, dilation=dilation, bias=bias
        )

    def reset_parameters(self) -> None:
        # nothing to fill, and on that device torch would load its compiler to do it
        if self.weight.is_meta:
            return
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class ConvNorm(nn.Sequential):
    """A convolution and the norm after it: what a down-sampling branch is made of."""

    def __init__(self, conv: nn.Module, norm: nn.Module) -> None:
        super().__init__(conv, norm)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W')."""
        return self[1](self[0](x))
