"""The solver of a whitening layer in an ONNX export: ONNX has no matrix decompositions, and no
views or diagonals that can be written to.
"""

import sys
from dataclasses import dataclass

import torch
from torch import Tensor

from swbench import solvers
from swbench.solvers.base import Saved, Solver
from swbench.solvers.iterative import quintics
from swbench.solvers.polar import Polar

AUTO = "auto"


def exporting() -> bool:
    """Whether a network is being exported to ONNX. Does not import `torch.onnx`, which takes half a
    second: an export has it loaded.
    """
    onnx = sys.modules.get("torch.onnx")
    return onnx is not None and onnx.is_in_onnx_export()


@dataclass(frozen=True, kw_only=True)
class Exported(Polar):
    """`polar` in products and sums of complete matrices, each a new tensor. A matrix that is not
    finite affects only its own result, without a mask.
    """

    def forward(self, cov: Tensor) -> tuple[Tensor, Saved]:
        eye = torch.eye(int(cov.shape[-1]), dtype=cov.dtype, device=cov.device)
        norm = 1.0001 * (cov * cov).sum((-2, -1), keepdim=True).sqrt()
        y = 0.5 * (cov + cov.transpose(-2, -1)) / norm
        z = None
        for a, b, c in quintics(cov.dtype, self.low, self.steps):
            m = y if z is None else z @ y
            h = a * eye + b * m + c * (m @ m)
            y, z = y @ h, h if z is None else h @ z
        w = (1.5 * z - 0.5 * (z @ y) @ z) * norm.rsqrt()
        return 0.5 * (w + w.transpose(-2, -1)), ()


def exported(spec: str | Solver) -> tuple[Solver, str]:
    """The solver that replaces `spec` in ONNX, and its name: `Exported`, with the options of `spec`
    if that is a `polar`.

    Raises ValueError for a solver that does not compute Σ^(-1/2), because `polar` cannot replace
    it.
    """
    if spec == AUTO:
        return Exported(), Polar.name
    solver = (spec if isinstance(spec, Solver) else solvers.get(spec)).in_torch()
    if not (solver.exact and solver.symmetric):
        raise ValueError(
            f"solver {solver.name!r} ({solver.inexact}) cannot be exported to ONNX, where "
            "every exact solver becomes 'polar'; give the layer an exact solver"
        )
    options = {"low": solver.low, "steps": solver.steps} if isinstance(solver, Polar) else {}
    return Exported(**options), Polar.name
