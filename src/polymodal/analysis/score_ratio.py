"""Score ratio matching: in which few directions does a sample differ from its reference, and by how
much?

For samples of pi, whitened, and the reference rho = N(0, I), the ratio's score is s = grad log(pi /
rho), and H = E_pi[s s'] says along which directions pi differs from rho: with eigenpairs (lambda_i,
u_i) and

    pi_r(x) ~ f(U_r' x) rho(x),    KL(pi || pi_r) <= 1/2 sum_{i > r} lambda_i

for the best f, the density of U_r' x over its reference (Zahm et al. 2022; Baptista, Brennan and
Marzouk 2024). s is learned by minimising F(s) = E_pi[1/2 |s|^2 + tr grad s - x's], whose minimum is
-1/2 tr H.

Several modalities must be whitened *one by one* (`Whitening.of_blocks`): whitening all of them
together erases the linear correlation between them, which is what is looked for; for normal data it
leaves H = 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from polymodal.analysis.trace import divergence


@dataclass(frozen=True)
class Whitening:
    """x -> (x - mean) @ matrix, block by block.

    Args:
        mean: (d,).
        matrix: (d, d), block-diagonal.
        sizes: {block: its dimensions}, in their order in x.
    """

    mean: Tensor
    matrix: Tensor
    sizes: dict[str, int]

    @classmethod
    def of_blocks(cls, x: Mapping[str, Tensor], ridge: float = 1e-6) -> Whitening:
        """Each block's own, with covariance + ridge * (mean variance) I: x[m] (N, d_m).

        Raises ValueError for fewer samples than dimensions in a block.
        """
        means, parts = [], []
        for m, value in x.items():
            n, d = value.shape
            if n <= d:
                raise ValueError(
                    f"Whitening {m!r} needs more samples than its {d} dimensions, got {n}."
                )
            centred = value - value.mean(0)
            covariance = centred.T @ centred / (n - 1)
            covariance = covariance + ridge * covariance.diagonal().mean() * torch.eye(d).to(value)
            precision = torch.linalg.cholesky(
                torch.linalg.inv(covariance)
            )  # L with L L' = precision; x -> L' x
            means.append(value.mean(0))
            parts.append(precision)
        sizes = {m: value.shape[1] for m, value in x.items()}
        return cls(torch.cat(means), torch.block_diag(*parts), sizes)

    def __call__(self, x: Mapping[str, Tensor]) -> Tensor:
        """The blocks side by side, whitened: (N, d)."""
        return (torch.cat([x[m] for m in self.sizes], -1) - self.mean) @ self.matrix

    def inverse(self, z: Tensor) -> dict[str, Tensor]:
        """Back to the blocks."""
        x = torch.linalg.solve(self.matrix.T, z.T).T + self.mean
        return dict(zip(self.sizes, x.split(list(self.sizes.values()), -1), strict=True))


class RatioScore(nn.Module):
    """s(x) = A x + b + g(x), or, with `rank`, W (A W'x + b + g(W'x)) with W of `rank` columns.

    g is a network that starts at 0; A and b at what is best without it, see `start_`.

    Args:
        dim: d.
        hidden: widths of g's layers.
        rank: None, or how many directions s may depend on and point to.
    """

    def __init__(
        self, dim: int, hidden: Sequence[int] = (128, 128), rank: int | None = None
    ) -> None:
        super().__init__()
        if rank is not None and not 0 < rank <= dim:
            raise ValueError(
                f"The rank of a score in {dim} dimensions lies between 1 and {dim}, got {rank}."
            )
        size = rank or dim
        self.frame = (
            None if rank is None else nn.Parameter(torch.linalg.qr(torch.randn(dim, rank))[0])
        )
        self.linear = nn.Linear(size, size)
        layers: list[nn.Module] = []
        for a, b in pairwise([size, *hidden]):
            layers += [nn.Linear(a, b), nn.SiLU()]
        last = nn.Linear(hidden[-1], size)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(*layers, last)

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.frame is None else x @ self.frame
        s = self.linear(y) + self.net(y)
        return s if self.frame is None else s @ self.frame.T

    @torch.no_grad()
    def start_(self, x: Tensor) -> None:
        """The best linear score: A = I - C^-1 for the covariance C of x, which is exact where x is
        normal.
        """
        covariance = x.T @ x / len(x)
        best = torch.eye(x.shape[1]).to(x) - torch.linalg.inv(covariance)
        if self.frame is not None:
            values, vectors = torch.linalg.eigh(best)
            self.frame.copy_(
                vectors[:, values.abs().argsort(descending=True)[: self.frame.shape[1]]]
            )
            best = self.frame.T @ best @ self.frame
        self.linear.weight.copy_(best)
        self.linear.bias.zero_()


def objective(score: nn.Module, x: Tensor, probes: int | None = None) -> Tensor:
    """F per sample, (N,): 1/2 |s|^2 + tr grad s - x's. Its mean is least for s = grad log(pi /
    rho).
    """
    s, trace = divergence(score, x, probes)
    return 0.5 * s.square().sum(-1) + trace - (x * s).sum(-1)


def fit(
    x: Tensor,
    held_out: Tensor,
    *,
    hidden: Sequence[int] = (128, 128),
    rank: int | None = None,
    steps: int = 2000,
    batch: int = 512,
    lr: float = 1e-3,
    decay: float = 1e-4,
    patience: int = 10,
    exact: int = 32,
) -> RatioScore:
    """The score of x (N, d), whitened, stopped where F is least on `held_out`.

    Args:
        hidden, rank: see `RatioScore`.
        steps, batch, lr, decay: of AdamW, its rate falling to 0 as a cosine.
        patience: evaluations, one every 50 steps, without a better held-out F before it stops.
        exact: dimensions up to which the trace is exact; above, one random sign vector a sample.
    """
    score = RatioScore(x.shape[1], hidden, rank).to(x)
    score.start_(x)
    probes = None if x.shape[1] <= exact else 1
    optimizer = torch.optim.AdamW(score.parameters(), lr=lr, weight_decay=decay)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    held = lambda: float(objective(score, held_out, probes and 8).mean().detach())
    best, kept, wait = held(), {k: v.clone() for k, v in score.state_dict().items()}, 0
    for step in range(1, steps + 1):
        rows = torch.randint(len(x), (min(batch, len(x)),), device=x.device)
        optimizer.zero_grad()
        objective(score, x[rows], probes).mean().backward()
        optimizer.step()
        rate.step()
        if step % 50 == 0:
            value = held()
            wait = 0 if value < best else wait + 1
            if value < best:
                best, kept = value, {k: v.clone() for k, v in score.state_dict().items()}
            if wait >= patience:
                break
    score.load_state_dict(kept)
    return score


@dataclass(frozen=True)
class Reduction:
    """What score ratio matching found.

    Args:
        matrices: H, or its diagonal block for each modality, {block: (d_m, d_m)}.
        values, vectors: {block: (d_m,)} descending, {block: (d_m, d_m)} in columns.
        trace: tr H over all blocks; `check`: -2 F on the same data, which equals it for the true
            score: their difference is the error of the learned one; `error`: standard error of the
            trace.
    """

    matrices: dict[str, Tensor]
    values: dict[str, Tensor]
    vectors: dict[str, Tensor]
    trace: float
    check: float
    error: float

    def bound(self, sizes: Mapping[str, int]) -> float:
        """1/2 sum of the eigenvalues left out, nats: an estimate, off by about `error` and |trace -
        check| / 2.
        """
        return 0.5 * math.fsum(float(v[sizes[m] :].sum()) for m, v in self.values.items())

    def choose(self, epsilon: float) -> dict[str, int]:
        """The fewest directions, over all blocks together, whose bound is below `epsilon` nats.

        Raises ValueError unless epsilon is positive.
        """
        if not epsilon > 0:
            raise ValueError(f"epsilon must be positive, in nats, got {epsilon}.")
        every = sorted((float(v), m) for m, values in self.values.items() for v in values)
        left, total = {m: len(v) for m, v in self.values.items()}, 0.0
        for value, m in every:  # the smallest first
            total += 0.5 * value
            if total >= epsilon:
                break
            left[m] -= 1
        return left

    def frame(self, sizes: Mapping[str, int]) -> Tensor:
        """W = blockdiag(U_m), (d, sum of sizes), of the leading directions of each block."""
        return torch.block_diag(*(u[:, : sizes[m]] for m, u in self.vectors.items()))


@torch.no_grad()
def reduce(
    score: nn.Module, held_out: Tensor, sizes: Mapping[str, int], base: Mapping[str, nn.Module] = {}
) -> Reduction:
    """H on held-out samples (N, d), block by block, with its eigenpairs.

    Args:
        sizes: {block: dimensions}; one block for the plain analysis.
        base: {block: the score of that block alone}: the reference is then the product of the
            blocks' own laws instead of N(0, I), which leaves what they share.
    """
    s = score(held_out)
    blocks = dict(zip(sizes, held_out.split(list(sizes.values()), -1), strict=True))
    parts = dict(zip(sizes, s.split(list(sizes.values()), -1), strict=True))
    parts = {m: v - base[m](blocks[m]) if m in base else v for m, v in parts.items()}
    matrices = {m: v.T @ v / len(v) for m, v in parts.items()}
    pairs = {m: torch.linalg.eigh(h) for m, h in matrices.items()}
    squares = torch.cat(list(parts.values()), -1).square().sum(-1)
    own = sum(float(objective(base[m], blocks[m]).mean()) for m in base)
    values = {m: v.flip(0).clamp_min(0) for m, (v, _) in pairs.items()}
    vectors = {m: u.flip(1) for m, (_, u) in pairs.items()}
    return Reduction(
        matrices,
        values,
        vectors,
        float(squares.mean()),
        -2 * (float(objective(score, held_out).mean()) - own),
        float(squares.std() / math.sqrt(len(squares))),
    )


def sample(frame: Tensor, samples: Tensor, n: int, seen: Tensor | None = None) -> Tensor:
    """n draws of pi_r, (n, d): W'x resampled from `samples` (N, d), the complement of W from N(0,
    I).

    Args:
        frame: W (d, r) with orthonormal columns.
        seen: (n, d), instead of resampling: the draws keep these points' W'x.
    """
    x = samples[torch.randint(len(samples), (n,), device=samples.device)] if seen is None else seen
    noise = torch.randn(n, samples.shape[1]).to(samples)
    return x @ frame @ frame.T + noise - noise @ frame @ frame.T
