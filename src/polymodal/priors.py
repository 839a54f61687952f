"""p(z): modules that return a distribution of batch_shape () and event_shape (D,)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polymodal.distributions import DiagLaplace, DiagNormal


class StandardNormal(nn.Module):
    """N(0, I) in `dim` dimensions; with `learn_scale`, N(0, diag(s^2)) with learned s."""

    family: type[DiagNormal] | type[DiagLaplace] = DiagNormal

    def __init__(self, dim: int, learn_scale: bool = False) -> None:
        super().__init__()
        self.loc: Tensor
        self.register_buffer("loc", torch.zeros(dim))
        self.log_scale = nn.Parameter(torch.zeros(dim), requires_grad=learn_scale)

    def forward(self) -> DiagNormal | DiagLaplace:
        return self.family(self.loc, self.log_scale.exp())


class StandardLaplace(StandardNormal):
    """Laplace(0, I), the prior of MMVAE; `learn_scale` as there."""

    family = DiagLaplace
