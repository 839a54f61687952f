"""p(z): modules that return a distribution of batch_shape () and event_shape (D,). PRIORS names
those that are trained with a model; `FittedPrior` holds one that is fitted after training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, MixtureSameFamily, MultivariateNormal

from polymodal.batch import Batch, Modality
from polymodal.distributions.mixture import Joint
from polymodal.distributions.normal import DiagLaplace, DiagNormal
from polymodal.networks.flows import Flow
from polymodal.networks.named import Named


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
    """Laplace(0, I), the prior of MMVAE; with `learn_scale`, learned scales."""

    family = DiagLaplace


class JointPrior(nn.Module):
    """Independent priors of the parts of z, in order."""

    def __init__(self, parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self) -> Joint:
        return Joint(*(part() for part in self.parts))


class FullMixture(MixtureSameFamily):
    """A mixture of normals with full covariances; its density is one matrix product for all points
    and components.
    """

    @cached_property
    def _whitening(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of all components: L^-1 (D, C D), L^-1 mu (C D,), and the log of the weight over the
        normal's constant (C,); once for all points.
        """
        normals: Any = self.component_distribution
        factor, size = normals.scale_tril, normals.loc.shape[-1]
        identity = torch.eye(size, dtype=factor.dtype, device=factor.device).expand_as(factor)
        inverse = torch.linalg.solve_triangular(factor, identity, upper=False)
        centre = (inverse @ normals.loc.unsqueeze(-1)).flatten()
        log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = self.mixture_distribution.logits - log_det - 0.5 * size * math.log(2 * math.pi)
        return inverse.flatten(0, 1).T, centre, constant

    def log_prob(self, z: Tensor) -> Tensor:
        if self.batch_shape:  # of an expanded mixture
            return super().log_prob(z)
        inverse, centre, constant = self._whitening
        white = (z @ inverse - centre).unflatten(-1, (len(constant), -1))
        return (constant - 0.5 * white.square().sum(-1)).logsumexp(-1)


class NormalMixture(nn.Module):
    """sum_c w_c N(mu_c, L_c L_c'), learned or fitted.

    Args:
        dim: D.
        components: how many; their locations start at draws of N(0, I), so that they differ.

    Raises ValueError for fewer than one component.
    """

    def __init__(self, dim: int, components: int = 10) -> None:
        super().__init__()
        if components < 1:
            raise ValueError(f"A mixture needs at least one component, got {components}.")
        self.logits = nn.Parameter(torch.zeros(components))
        self.loc = nn.Parameter(torch.randn(components, dim))
        self.log_diagonal = nn.Parameter(torch.zeros(components, dim))
        self.lower = nn.Parameter(torch.zeros(components, dim, dim))

    def forward(self) -> Distribution:
        factor = self.lower.tril(-1) + torch.diag_embed(self.log_diagonal.exp())
        normals = MultivariateNormal(self.loc, scale_tril=factor, validate_args=False)
        weights = Categorical(logits=self.logits, validate_args=False)
        return FullMixture(weights, normals, validate_args=False)

    @torch.no_grad()
    def set_(self, weights: Tensor, loc: Tensor, factor: Tensor) -> None:
        """Sets weights (C,), locations (C, D) and lower triangular factors (C, D, D)."""
        self.logits.copy_(weights.log())
        self.loc.copy_(loc)
        self.log_diagonal.copy_(factor.diagonal(dim1=-2, dim2=-1).log())
        self.lower.copy_(factor.tril(-1))


class FlowPrior(nn.Module):
    """N(0, I) mapped by a flow; by default of coupling layers, whose densities and draws take one
    pass each.
    """

    def __init__(
        self,
        dim: int,
        kind: str = "coupling",
        transforms: int = 4,
        hidden: Sequence[int] = (128, 128),
    ) -> None:
        super().__init__()
        self.flow = Flow(dim, 2 * dim, kind, transforms, hidden, conditional=False)
        self.base = StandardNormal(dim)

    def forward(self) -> Distribution:
        return self.flow.push(self.base())


class PseudoInputs(nn.Module):
    """p(z) = mean_i q(z | u_i) over `count` learned inputs u_i (Tomczak and Welling 2018); MEME's
    unpaired prior.

    Args:
        expert: expert(x) -> DiagNormal or DiagLaplace.
        modality: the modality of the inputs u_i.
        count: how many inputs.
    """

    def __init__(self, expert: nn.Module, modality: Modality, count: int = 50) -> None:
        super().__init__()
        self.expert, self.inputs = expert, nn.Parameter(torch.rand(count, *modality.shape))

    def forward(self) -> Distribution:
        weights = Categorical(logits=self.inputs.new_zeros(len(self.inputs)), validate_args=False)
        return MixtureSameFamily(weights, self.expert(self.inputs), validate_args=False)


class MixedPrior(nn.Module):
    """The mixture of all components of several mixture priors: MEME's prior of joint samples."""

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.parts = Named(parts)

    def forward(self) -> Distribution:
        mixtures = [part() for part in self.parts.values()]
        logits = torch.cat([p.mixture_distribution.logits for p in mixtures])
        components = [p.component_distribution for p in mixtures]
        loc = torch.cat([c.loc for c in components])
        scale = torch.cat([c.scale for c in components])
        weights = Categorical(logits=logits, validate_args=False)
        return MixtureSameFamily(weights, type(components[0])(loc, scale), validate_args=False)


class FittedPrior(nn.Module):
    """The prior `base` during training, `fitted` after its fit to the aggregate posterior.

    Args:
        base: the prior that the model is trained with.
        fitted: the prior that replaces it, a module of the same kind.
    """

    def __init__(self, base: nn.Module, fitted: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.fitted: Any = fitted
        self.ready: Tensor
        self.register_buffer("ready", torch.zeros((), dtype=torch.bool))

    def forward(self) -> Distribution:
        return self.fitted() if self.ready else self.base()

    def fill(self, q: Mapping[str, Distribution], batch: Batch) -> Distribution | None:
        """The distribution of unobserved blocks under the fitted prior, a `DiffusionPrior`; None
        before it is fitted.
        """
        return self.fitted.fill(q, batch) if self.ready else None


PRIORS: dict[str, Callable[[int], nn.Module]] = {
    "normal": StandardNormal,
    "laplace": StandardLaplace,
    "mixture": NormalMixture,
    "flow": FlowPrior,
}
