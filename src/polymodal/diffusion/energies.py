"""Pairwise energies E(z_i, z_j, sigma) that say how well two blocks fit together: guidance for a
joint score.
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
    Rooshenas 2024, -C).

    One network serves all pairs: each block goes through a linear layer of its own, i's and j's are
        told apart.

    Args:
        sizes: dimensions of the blocks.
        width: of the hidden layers.
    """

    def __init__(self, sizes: Sequence[int], width: int = 256) -> None:
        super().__init__()
        self.sizes, self.width, self.levels = list(sizes), width, Levels()
        self.given = nn.ModuleList(nn.Linear(d, width) for d in sizes)
        self.wanted = nn.ModuleList(nn.Linear(d, width) for d in sizes)
        self.net = mlp([width + Levels.width, width, width, 1])

    def forward(self, x: Tensor, other: Tensor, given: Tensor, sigma: Tensor) -> Tensor:
        """E_ij for every j, (B, M), of x_i from `x` (B, d) with i = `given` (B,), and x_j from
        `other` (B, d).

        Both with noise sigma (B, 1).
        """
        scale = (1 + sigma * sigma).rsqrt()
        split = lambda v, layers: torch.stack(
            [
                layer(part)
                for layer, part in zip(layers, (scale * v).split(self.sizes, -1), strict=True)
            ],
            -2,
        )
        i = given[:, None, None].expand(-1, 1, self.width)
        both = split(x, self.given).gather(1, i) + split(other, self.wanted)
        level = self.levels(sigma).expand(*both.shape[:-1], -1)
        return self.net(torch.cat([nn.functional.silu(both), level], -1)).squeeze(-1)

    def pull(self, x: Tensor, seen: Tensor, sigma: float) -> Tensor:
        """-grad of E_ij by x_j, (B, d), for each block j that is not `seen` (B, M) and one random i
        that is.
        """
        some = seen.any(-1)
        weights = torch.where(some.unsqueeze(-1), seen, True).to(x)
        i = torch.multinomial(weights, 1).squeeze(-1)
        moving = x.detach().requires_grad_()
        energy = self(x.detach(), moving, i, x.new_full((len(x), 1), sigma))
        wanted = ~seen & some.unsqueeze(-1)
        (gradient,) = torch.autograd.grad(torch.where(wanted, energy, 0).sum(), moving)
        return torch.where(spread(wanted, self.sizes), -gradient, 0)


def contrasted(
    energies: PairEnergies,
    x: Tensor,
    present: Tensor,
    patterns: TrainingMasks,
    active: Tensor | None = None,
) -> Tensor:
    """Noise-contrastive estimation, (B,): softplus(E) of a sample's own pair, and half softplus(-E)
    of a pair with another sample's block and of one with N(0, I), all noised alike. i is random;
    the mean is over the j that are there.

    Args:
        x: (B, d), 0 where missing.
        present: (B, M).
        patterns: gives the levels.
        active: (d,) bool: the coordinates that exist; the others are 0 throughout. None: all.
    """
    sigma = patterns.level(x, len(x))
    normal = lambda: noise(x, x.shape) if active is None else noise(x, x.shape) * active
    noisy = lambda v: v + sigma * normal()
    i = torch.where(present, noise(x, list(present.shape), torch.rand), -1).argmax(-1)
    own = torch.arange(len(energies.sizes), device=x.device) == i.unsqueeze(-1)
    there = present & ~own & present.gather(1, i.unsqueeze(-1))
    turned = x.roll(1, 0)
    given, e = noisy(x), []
    for other in (x, turned, normal()):
        e.append(energies(given, noisy(other), i, sigma))
    wrong = torch.where(present.roll(1, 0), softplus(-e[1]), 0) + softplus(-e[2])
    value = torch.where(there, softplus(e[0]) + 0.5 * wrong, 0)
    return value.sum(-1) / there.sum(-1).clamp_min(1)
