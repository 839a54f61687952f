"""Denoisers E[x0 | x0 + sigma eps] of points made of blocks, each block with a sigma of its own;
and how they learn.

With sigma 0 a block is known, with the highest sigma nothing is known of it. Learned over all
patterns of these, one network gives the joint law, every conditional and every marginal; where data
are incomplete, what is missing has the highest sigma and carries no loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from polymodal.checks import call, check_positive
from polymodal.diffusion.conditioning import spread
from polymodal.rng import noise

FREQUENCIES = 8
LOWEST = 1e-3  # sigmas below it look alike to the network, 0 alone does not


class Levels(nn.Module):
    """sigma (..., M) -> (..., M, 2 * FREQUENCIES + 1): sines and cosines of log sigma, and whether
    it is 0.
    """

    width = 2 * FREQUENCIES + 1
    factors: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer(
            "factors", 0.25 * 2.0 ** torch.arange(FREQUENCIES) ** 0.75, persistent=False
        )

    def forward(self, sigma: Tensor) -> Tensor:
        angle = sigma.clamp_min(LOWEST).log().unsqueeze(-1) * self.factors
        return torch.cat([angle.sin(), angle.cos(), (sigma == 0).to(angle).unsqueeze(-1)], -1)


class ResidualMLP(nn.Module):
    """h + W_2 SiLU(W_1 LayerNorm(h) + V levels), `depth` times, on all blocks together.

    Args:
        sizes: dimensions of the blocks.
        width: of h; each residual block is twice as wide inside.
    """

    def __init__(self, sizes: Sequence[int], width: int = 512, depth: int = 3) -> None:
        super().__init__()
        check_positive("A denoiser", width=width, depth=depth)
        total, known = sum(sizes), len(sizes) * Levels.width
        self.levels = Levels()
        self.first = nn.Linear(total + known, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.inner = nn.ModuleList(nn.Linear(width + known, 2 * width) for _ in range(depth))
        self.outer = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(depth))
        self.last = nn.Linear(width, total)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        known = self.levels(sigma).flatten(-2)
        h = self.first(torch.cat([x, known], -1))
        for norm, inner, outer in zip(self.norms, self.inner, self.outer, strict=True):
            h = h + outer(nn.functional.silu(inner(torch.cat([norm(h), known], -1))))
        return self.last(h)


class Attention(nn.Module):
    """Multi-head attention among M tokens, (..., M, W); a plain function, so that its Jacobian can
    be taken.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.mix, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            y.unflatten(-1, (self.heads, -1)).transpose(-2, -3) for y in self.mix(x).chunk(3, -1)
        )
        weight = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
        return self.out((weight @ v).transpose(-2, -3).flatten(-2))


class TokenTransformer(nn.Module):
    """A transformer whose tokens are the blocks: with as many weights for ten modalities as for
    two, but for their first and last layers.

    Args:
        sizes: dimensions of the blocks.
        width, depth, heads: of the tokens, of the layers, of the attention.
    """

    def __init__(
        self, sizes: Sequence[int], width: int = 256, depth: int = 4, heads: int = 4
    ) -> None:
        super().__init__()
        check_positive("A denoiser", width=width, depth=depth, heads=heads)
        if width % heads:
            raise ValueError(
                f"The width of a transformer is a multiple of its heads, got {width} and {heads}."
            )
        self.sizes, self.levels = list(sizes), Levels()
        self.first = nn.ModuleList(nn.Linear(d + Levels.width, width) for d in sizes)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * depth))
        self.mixers = nn.ModuleList(Attention(width, heads) for _ in range(depth))
        wide = lambda: nn.Sequential(
            nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width)
        )
        self.feeds = nn.ModuleList(wide() for _ in range(depth))
        self.last = nn.ModuleList(nn.Linear(width, d) for d in sizes)
        for weight in self.last.parameters():
            nn.init.zeros_(weight)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        known = self.levels(sigma).unbind(-2)
        parts = zip(self.first, x.split(self.sizes, -1), known, strict=True)
        h = torch.stack([first(torch.cat(both, -1)) for first, *both in parts], -2)
        for i, (mix, feed) in enumerate(zip(self.mixers, self.feeds, strict=True)):
            h = h + mix(self.norms[2 * i](h))
            h = h + feed(self.norms[2 * i + 1](h))
        return torch.cat([last(t) for last, t in zip(self.last, h.unbind(-2), strict=True)], -1)


TRUNKS = {"mlp": ResidualMLP, "transformer": TokenTransformer}


class Denoiser(nn.Module):
    """E[x0 | x] = c_skip x + c_out net(c_in x, sigma) for data of mean 0 and variance 1.

    "edm": c_skip = 1 / (1 + sigma^2), c_out = sigma / sqrt(1 + sigma^2) (Karras et al. 2022, Table
    1): the network learns what has variance 1 at every level. "vp": c_skip = 1, c_out = -sigma: it
    learns the noise, as Song et al. (2021) do. c_in = 1 / sqrt(1 + sigma^2) in both.

    Args:
        sizes: dimensions of the blocks.
        trunk: a key of TRUNKS; options: its arguments.
    """

    def __init__(
        self, sizes: Sequence[int], trunk: str = "mlp", scaling: str = "edm", **options: int
    ) -> None:
        super().__init__()
        if trunk not in TRUNKS or scaling not in ("edm", "vp"):
            raise ValueError(
                f"A denoiser's network is one of {', '.join(TRUNKS)}, its scaling edm or vp, got"
                f" {trunk!r} and {scaling!r}."
            )
        self.sizes, self.scaling = list(sizes), scaling
        self.net = call(
            TRUNKS[trunk], options, "denoiser_options", sizes, also=("trunk", "scaling")
        )

    def scales(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """c_in, c_skip and c_out for each coordinate, (..., d)."""
        s = spread(sigma, self.sizes)
        into = (1 + s * s).rsqrt()
        return (
            (into, into * into, s * into)
            if self.scaling == "edm"
            else (into, torch.ones_like(s), -s)
        )

    def raw(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The network's output with c_skip x and c_out, all (..., d)."""
        into, skip, out = self.scales(sigma)
        return self.net(into * x, sigma), skip * x, out

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E[x0 | x] (..., d) of x (..., d) with noise sigma (..., M)."""
        net, skip, out = self.raw(x, sigma)
        return skip + out * net


def matching(
    denoiser: Denoiser, x: Tensor, sigma: Tensor, counted: Tensor, active: Tensor | None = None
) -> Tensor:
    """Denoising score matching: mean over the counted coordinates of |net - (x0 - c_skip x) /
    c_out|^2, (B,).

    With "edm" that is (1 + sigma^2) / sigma^2 |D - x0|^2, the weight of Karras et al. (2022); with
    "vp" it is |net - eps|^2, Song et al. (2021).

    Args:
        x: x0, (B, d).
        sigma: (B, M), positive where counted.
        counted: (B, M) bool, blocks whose error counts: neither known nor missing. A mean of none
            of them is 0.
        active: (d,) bool: the coordinates that exist; the others are 0 throughout. None: all.
    """
    s, here, eps = spread(sigma, denoiser.sizes), spread(counted, denoiser.sizes), noise(x, x.shape)
    if active is not None:
        here, eps = here & active, eps * active
    noisy = x + s * eps
    net, skip, out = denoiser.raw(noisy, sigma)
    wanted = (x - skip) / torch.where(here, out, 1)
    error = torch.where(here, net - wanted, 0).square().sum(-1)
    return error / here.sum(-1).clamp_min(1)
