"""Whitening layers written as the paper's formulas: every statistic in the input's own dtype, an
eigendecomposition, and autograd for all of it. A reference for the layers of `swbench.norms`.
"""

import torch
from torch import Tensor, nn

from swbench.norms.recipe import Recipe
from swbench.solvers.base import symmetric


class TextbookWhiten2d(nn.Module):
    """y = γ Σ̂^(-1/2) (x − μ̂) + β in training mode, with the statistics that `recipe` names, each by
    its definition (Pan et al. 2019, eqs. 2–6).

    The eigendecomposition alone is in float32 where the dtype is narrower, for LAPACK has no
    narrower one. Raises what `torch.linalg.eigh` raises: `LinAlgError` for a covariance that is not
    finite.
    """

    def __init__(self, channels: int, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.sw_mean_weight = nn.Parameter(torch.ones(len(recipe.statistics)))
        self.sw_var_weight = nn.Parameter(torch.ones(len(recipe.statistics)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) of the dtype of x, or of autocast's."""
        n, channels, height, width = x.shape
        group, names = self.recipe.group, self.recipe.statistics
        of_image = x.reshape(n, channels // group, group, height * width)
        of_batch = of_image.permute(1, 2, 0, 3).reshape(1, channels // group, group, -1)
        eye = torch.eye(group, dtype=x.dtype, device=x.device)
        image, batch = _moments(of_image), _moments(of_batch)
        variance, centre = torch.var_mean(x, (1, 2, 3), correction=0, keepdim=True)
        statistics = {
            "bw": batch,
            "iw": image,
            "bn": (batch[0], batch[1] * eye),
            "in": (image[0], image[1] * eye),
            "ln": (centre, variance * eye),
        }
        mean = sum(
            w * statistics[k][0] for w, k in zip(self.sw_mean_weight.softmax(0), names, strict=True)
        )
        cov = sum(
            w * statistics[k][1] for w, k in zip(self.sw_var_weight.softmax(0), names, strict=True)
        )
        solve_dtype = torch.promote_types(cov.dtype, torch.float32)
        lam, d = torch.linalg.eigh(symmetric(cov + self.recipe.eps * eye).to(solve_dtype))
        w = ((d * lam.rsqrt().unsqueeze(-2)) @ d.mT).to(cov.dtype)
        y = (w @ (of_image - mean)).reshape(x.shape)
        return y * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)


def _moments(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (…, G, 1) and biased covariance (…, G, G) over the pixels of (…, G, P)."""
    mean = groups.mean(-1, keepdim=True)
    centred = groups - mean
    return mean, centred @ centred.mT / groups.shape[-1]
