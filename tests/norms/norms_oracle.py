"""The layers as the paper defines them, naively, by autograd: an oracle in float64 that shares no
code with the package.

Everything is taken two-pass over centred values, one statistic after the other, and Σ^(-1/2) by a
symmetric eigendecomposition of its own whose derivative is a converged Newton correction, free of
eigenvalue gaps.
"""

import torch


def inverse_root(cov):
    """Σ^(-1/2), differentiable at equal eigenvalues: coupled Newton steps from the solution itself
    carry the derivative.
    """
    with torch.no_grad():
        lam, vec = torch.linalg.eigh(cov)
        w = vec @ torch.diag_embed(lam.rsqrt()) @ vec.mT
        root = vec @ torch.diag_embed(lam.sqrt()) @ vec.mT
        g = cov.shape[-1]
        eye = torch.eye(g, dtype=cov.dtype)
        # vec(dR) from R dR + dR R = dΣ, then dW = -W dR W
        kron = torch.stack(
            [torch.kron(r, eye) + torch.kron(eye, r) for r in root.reshape(-1, g, g)]
        )
        inverse = torch.linalg.inv(kron)
    flat = cov.reshape(-1, g, g)
    change = flat - flat.detach()
    d_root = (inverse @ change.reshape(-1, g * g, 1)).view(-1, g, g)
    w = w.view(-1, g, g)
    return (w - w @ d_root @ w).view(cov.shape)


def covariance(groups):
    """Biased mean and covariance over the last dimension of (…, G, P)."""
    mean = groups.mean(-1, keepdim=True)
    deviation = groups - mean
    return mean, deviation @ deviation.transpose(-1, -2) / groups.shape[-1]


def diagonal(matrix):
    return torch.diag_embed(torch.diagonal(matrix, dim1=-2, dim2=-1))


def statistics(x, group, running=None):
    """name -> (mean (N, g, G, 1), covariance (N, g, G, G)), and the batch's own (g, G, 1), (g, G,
    G).
    """
    n, c, h, w = x.shape
    g = c // group
    images = x.reshape(n, g, group, h * w)
    mean_i, cov_i = covariance(images)
    mean_b, cov_b = (
        covariance(images.permute(1, 2, 0, 3).reshape(g, group, n * h * w))
        if running is None
        else running
    )
    mean_l = x.mean((1, 2, 3)).view(n, 1, 1, 1)
    var_l = x.var((1, 2, 3), correction=0).view(n, 1, 1, 1)
    eye = torch.eye(group, dtype=x.dtype)
    table = {
        "bw": (mean_b.unsqueeze(0), cov_b.unsqueeze(0)),
        "iw": (mean_i, cov_i),
        "bn": (mean_b.unsqueeze(0), diagonal(cov_b).unsqueeze(0)),
        "in": (mean_i, diagonal(cov_i)),
        "ln": (mean_l.expand(n, g, group, 1), (var_l * eye).expand(n, g, group, group)),
    }
    return table, (mean_b, cov_b)


def whiten(
    x, names, group, eps, gamma=None, beta=None, mean_logits=None, cov_logits=None, running=None
):
    """y, and the batch's mean and covariance."""
    n, c, h, w = x.shape
    table, batch = statistics(x, group, running)
    ones = torch.zeros(1, dtype=x.dtype)
    mean_weights = torch.exp(ones if mean_logits is None else mean_logits)
    cov_weights = torch.exp(ones if cov_logits is None else cov_logits)
    mean = sum(
        weight * table[name][0]
        for weight, name in zip(mean_weights / mean_weights.sum(), names, strict=True)
    )
    cov = sum(
        weight * table[name][1]
        for weight, name in zip(cov_weights / cov_weights.sum(), names, strict=True)
    )
    root = inverse_root(cov + eps * torch.eye(group, dtype=x.dtype))
    y = (root @ (x.reshape(n, c // group, group, h * w) - mean)).reshape(n, c, h, w)
    if gamma is not None:
        y = y * gamma.view(1, c, 1, 1) + beta.view(1, c, 1, 1)
    return y, batch


def reference(layer, x, **parameters):
    """The naive output and batch statistics of `layer` on `x`, with its parameters or those given
    by name.
    """
    given = dict(layer.named_parameters()) | parameters
    mean_logits = given.get("sw_mean_weight")
    running = None
    if layer.recipe.uses_batch and not layer.training:
        running = layer.running_mean.clone(), layer.running_cov.clone()
    return whiten(
        x,
        layer.recipe.statistics,
        layer.num_pergroup,
        layer.recipe.eps,
        given.get("weight"),
        given.get("bias"),
        mean_logits,
        given.get("sw_var_weight", mean_logits),
        running,
    )
