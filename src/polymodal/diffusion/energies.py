"""Pairwise energies E(z_i, z_j, sigma), low where two blocks fit together: guidance for a joint
score.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from polymodal.diffusion.conditioning import spread
from polymodal.diffusion.denoisers import Levels
from polymodal.diffusion.masking import TrainingMasks
from polymodal.networks.layers import mlp
from polymodal.rng import noise


class PairEnergies(nn.Module):
    """E_ij(x_i, x_j, sigma) for all pairs at once, low where the two belong together (Wesego and
    Rooshenas 2024, SBM-VAE-C).

    One network serves all pairs. Each block has a linear layer as i and another as j.

    Args:
        sizes: dimensions of the blocks.
        width: of the hidden layers.
    """

    def __init__(self, sizes: Sequence[int], width: int = 256) -> None:
        super().__init__()
        self.sizes, self.width, self.levels = list(sizes), width, Levels()
        self.first_layers = nn.ModuleList(nn.Linear(d, width) for d in sizes)
        self.second_layers = nn.ModuleList(nn.Linear(d, width) for d in sizes)
        self.net = mlp([width + Levels.width, width, width, 1])

    def forward(self, x: Tensor, other: Tensor, i: Tensor, sigma: Tensor) -> Tensor:
        """E_ij for every j, (B, M), of x_i from `x` (B, d) with i (B,), and x_j from `other` (B,
        d); both with noise sigma (B, 1).
        """
        scale = (1 + sigma * sigma).rsqrt()
        index = i[:, None, None].expand(-1, 1, self.width)
        first = self._layers(self.first_layers, scale * x).gather(1, index)
        both = first + self._layers(self.second_layers, scale * other)
        level = self.levels(sigma).expand(*both.shape[:-1], -1)
        return self.net(torch.cat([nn.functional.silu(both), level], -1)).squeeze(-1)

    def _layers(self, layers: nn.ModuleList, x: Tensor) -> Tensor:
        """Each block of x (B, d) through its layer, (B, M, width)."""
        blocks = x.split(self.sizes, -1)
        return torch.stack([layer(x_m) for layer, x_m in zip(layers, blocks, strict=True)], -2)

    def energy_gradient(self, x: Tensor, seen: Tensor, sigma: float) -> Tensor:
        """-grad of E_ij by x_j, (B, d), for each block j that is not `seen` (B, M) and one random
        seen i; 0 where no block is seen.
        """
        some = seen.any(-1)
        weights = torch.where(some.unsqueeze(-1), seen, True).to(x)
        i = torch.multinomial(weights, 1).squeeze(-1)
        moving = x.detach().requires_grad_()
        energy = self(x.detach(), moving, i, x.new_full((len(x), 1), sigma))
        wanted = ~seen & some.unsqueeze(-1)
        (gradient,) = torch.autograd.grad(torch.where(wanted, energy, 0).sum(), moving)
        return torch.where(spread(wanted, self.sizes), -gradient, 0)


def noise_contrastive_loss(
    energies: PairEnergies,
    x: Tensor,
    present: Tensor,
    masks: TrainingMasks,
    active: Tensor | None = None,
) -> Tensor:
    """Noise-contrastive estimation, (B,): softplus(E) of a sample's own pair, and half softplus(-E)
    of a pair with another sample's block and of one with N(0, I), all with noise of one level. i is
    random; the mean is over the present j.

    Args:
        x: (B, d), 0 where missing.
        present: (B, M).
        masks: gives the levels.
        active: (d,) bool: the coordinates that exist; the others are 0 throughout. None: all.
    """
    sigma = masks.level(x, len(x))

    def normal() -> Tensor:
        return noise(x, x.shape) if active is None else noise(x, x.shape) * active

    def noisy(v: Tensor) -> Tensor:
        return v + sigma * normal()

    i = torch.where(present, noise(x, list(present.shape), torch.rand), -1).argmax(-1)
    first, unrelated = noisy(x), normal()
    own, shuffled, random = (
        energies(first, noisy(other), i, sigma) for other in (x, x.roll(1, 0), unrelated)
    )
    wrong = torch.where(present.roll(1, 0), softplus(-shuffled), 0) + softplus(-random)
    counted = _partners(present, i)
    value = torch.where(counted, softplus(own) + 0.5 * wrong, 0)
    return value.sum(-1) / counted.sum(-1).clamp_min(1)


def _partners(present: Tensor, i: Tensor) -> Tensor:
    """(B, M) bool: the present blocks j other than i (B,), where i itself is present."""
    first = i.unsqueeze(-1)
    is_first = torch.arange(present.shape[1], device=present.device) == first
    return present & ~is_first & present.gather(1, first)
