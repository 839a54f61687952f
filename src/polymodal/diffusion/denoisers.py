"""Denoisers E[x0 | x0 + sigma eps] of points made of blocks, each block with its own sigma; and
their loss.

A block with sigma 0 is seen; a block with the highest sigma is left out. Learned over all patterns
of these, one network gives the joint law, every conditional and every marginal; where data are
incomplete, missing blocks have the highest sigma and carry no loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from polymodal.checks import Depth, Size, call, check_positive
from polymodal.diffusion.conditioning import spread
from polymodal.rng import noise

FREQUENCIES = 8
LOWEST = 1e-3  # the network does not tell sigmas below it apart, except 0


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

    def __init__(self, sizes: Sequence[int], width: Size = 512, depth: Depth = 3) -> None:
        super().__init__()
        check_positive("A denoiser", width=width, depth=depth)
        total, level_width = sum(sizes), len(sizes) * Levels.width
        self.levels = Levels()
        self.first = nn.Linear(total + level_width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.inner = _linears(depth, width + level_width, 2 * width)
        self.outer = _linears(depth, 2 * width, width)
        self.last = nn.Linear(width, total)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        levels = self.levels(sigma).flatten(-2)
        h = self.first(torch.cat([x, levels], -1))
        for norm, inner, outer in zip(self.norms, self.inner, self.outer, strict=True):
            h = h + outer(nn.functional.silu(inner(torch.cat([norm(h), levels], -1))))
        return self.last(h)


def _linears(count: int, size: int, out: int) -> nn.ModuleList:
    return nn.ModuleList(nn.Linear(size, out) for _ in range(count))


class Attention(nn.Module):
    """Multi-head attention among M tokens, (..., M, W), of plain operations, so that its Jacobian
    can be taken.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.mix, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = map(self._by_head, self.mix(x).chunk(3, -1))
        weight = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
        return self.out((weight @ v).transpose(-2, -3).flatten(-2))

    def _by_head(self, x: Tensor) -> Tensor:
        """(..., M, W) -> (..., heads, M, W / heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(-2, -3)


class TokenTransformer(nn.Module):
    """A transformer whose tokens are the blocks: it has as many weights for ten modalities as for
    two, except in their first and last layers.

    Args:
        sizes: dimensions of the blocks.
        width: of the tokens. depth: number of layers. heads: of the attention.
    """

    def __init__(
        self, sizes: Sequence[int], width: Size = 256, depth: Depth = 4, heads: Depth = 4
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
        self.feeds = nn.ModuleList(_feed_forward(width) for _ in range(depth))
        self.last = nn.ModuleList(nn.Linear(width, d) for d in sizes)
        for weight in self.last.parameters():
            nn.init.zeros_(weight)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        h = self._tokens(x, sigma)
        for i, (mix, feed) in enumerate(zip(self.mixers, self.feeds, strict=True)):
            h = h + mix(self.norms[2 * i](h))
            h = h + feed(self.norms[2 * i + 1](h))
        return torch.cat([last(t) for last, t in zip(self.last, h.unbind(-2), strict=True)], -1)

    def _tokens(self, x: Tensor, sigma: Tensor) -> Tensor:
        """One token for each block, (..., M, W)."""
        blocks = zip(
            self.first, x.split(self.sizes, -1), self.levels(sigma).unbind(-2), strict=True
        )
        tokens = [first(torch.cat([x_m, level], -1)) for first, x_m, level in blocks]
        return torch.stack(tokens, -2)


def _feed_forward(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width))


TRUNKS = {"mlp": ResidualMLP, "transformer": TokenTransformer}


class Denoiser(nn.Module):
    """E[x0 | x] = c_skip x + c_out net(c_in x, sigma) for data of mean 0 and variance 1.

    "edm": c_skip = 1 / (1 + sigma^2), c_out = sigma / sqrt(1 + sigma^2) (Karras et al. 2022, Table
    1): the network's target has variance 1 at every level. "vp": c_skip = 1, c_out = -sigma: its
    target is the noise, as in Song et al. (2021b). c_in = 1 / sqrt(1 + sigma^2) in both.

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
        self.net = call(TRUNKS[trunk], options, "denoiser", sizes, also=("trunk", "scaling"))

    def scales(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """c_in, c_skip and c_out for each coordinate, (..., d)."""
        s = spread(sigma, self.sizes)
        into = (1 + s * s).rsqrt()
        if self.scaling == "edm":
            return into, into * into, s * into
        return into, torch.ones_like(s), -s

    def raw(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The network's output with c_skip x and c_out, all (..., d)."""
        into, skip, out = self.scales(sigma)
        return self.net(into * x, sigma), skip * x, out

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E[x0 | x] (..., d) of x (..., d) with noise sigma (..., M)."""
        net, skip, out = self.raw(x, sigma)
        return skip + out * net


def denoising_score_matching(
    denoiser: Denoiser, x: Tensor, sigma: Tensor, counted: Tensor, active: Tensor | None = None
) -> Tensor:
    """Denoising score matching: mean over the counted coordinates of |net - (x0 - c_skip x) /
    c_out|^2, (B,).

    With "edm" that is (1 + sigma^2) / sigma^2 |D - x0|^2, the weight of Karras et al. (2022); with
    "vp" it is |net - eps|^2, Song et al. (2021b).

    Args:
        x: x0, (B, d).
        sigma: (B, M), positive where counted.
        counted: (B, M) bool, blocks whose error counts: neither seen nor missing. A mean over none
            is 0.
        active: (d,) bool: the coordinates that exist; the others are 0 throughout. None: all.
    """
    s, eps = spread(sigma, denoiser.sizes), noise(x, x.shape)
    coordinates = spread(counted, denoiser.sizes)
    if active is not None:
        coordinates, eps = coordinates & active, eps * active
    net, skip, out = denoiser.raw(x + s * eps, sigma)
    target = (x - skip) / torch.where(coordinates, out, 1)
    error = torch.where(coordinates, net - target, 0).square().sum(-1)
    return error / coordinates.sum(-1).clamp_min(1)
