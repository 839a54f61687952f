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
together erases the linear correlation between them, which is what the method looks for; for normal
data it leaves H = 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from polymodal.analysis.trace import jacobian_trace

EVERY = 50  # steps between two evaluations on held-out samples


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
        """Whitens each block x[m] (N, d_m) by its covariance + ridge * (mean variance) I.

        Raises ValueError for a block with no more samples than dimensions.
        """
        for m, value in x.items():
            samples, d = value.shape
            if samples <= d:
                raise ValueError(
                    f"Whitening {m!r} needs more samples than its {d} dimensions, got {samples}."
                )
        matrix = torch.block_diag(*(_whitening_factor(value, ridge) for value in x.values()))
        sizes = {m: value.shape[1] for m, value in x.items()}
        return cls(torch.cat([value.mean(0) for value in x.values()]), matrix, sizes)

    def __call__(self, x: Mapping[str, Tensor]) -> Tensor:
        """The blocks side by side, whitened: (N, d)."""
        return (torch.cat([x[m] for m in self.sizes], -1) - self.mean) @ self.matrix

    def inverse(self, z: Tensor) -> dict[str, Tensor]:
        """The blocks of z (N, d), {block: (N, d_m)}."""
        x = torch.linalg.solve(self.matrix.T, z.T).T + self.mean
        return _blocks(x, self.sizes)


def _whitening_factor(x: Tensor, ridge: float) -> Tensor:
    """L (d, d) with L L' the inverse covariance of x (N, d); L' x is white."""
    centred = x - x.mean(0)
    covariance = centred.T @ centred / (len(x) - 1)
    covariance = covariance + ridge * covariance.diagonal().mean() * torch.eye(x.shape[1]).to(x)
    return torch.linalg.cholesky(torch.linalg.inv(covariance))


class RatioScore(nn.Module):
    """s(x) = A x + b + g(x), or, with `rank`, W (A W'x + b + g(W'x)) with W of `rank` columns.

    g is a network that starts at 0; A and b start at their best values without it, see `start_`.

    Args:
        dim: d.
        hidden: widths of g's layers.
        rank: how many directions s may depend on and point to; None: all.
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
        self.directions: nn.Parameter | None = None
        if rank is not None:
            self.directions = nn.Parameter(torch.linalg.qr(torch.randn(dim, rank))[0])
        self.linear = nn.Linear(size, size)
        self.net = _network(size, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """s (N, d) of x (N, d)."""
        if self.directions is None:
            return self.linear(x) + self.net(x)
        y = x @ self.directions
        return (self.linear(y) + self.net(y)) @ self.directions.T

    @torch.no_grad()
    def start_(self, x: Tensor) -> None:
        """The best linear score: A = I - C^-1 for the covariance C of x, which is exact where x is
        normal.
        """
        covariance = x.T @ x / len(x)
        best = torch.eye(x.shape[1]).to(x) - torch.linalg.inv(covariance)
        if self.directions is not None:
            values, vectors = torch.linalg.eigh(best)
            leading = values.abs().argsort(descending=True)[: self.directions.shape[1]]
            self.directions.copy_(vectors[:, leading])
            best = self.directions.T @ best @ self.directions
        self.linear.weight.copy_(best)
        self.linear.bias.zero_()


def _network(size: int, hidden: Sequence[int]) -> nn.Sequential:
    """A network from `size` numbers to as many, which starts at 0."""
    layers: list[nn.Module] = []
    for a, b in pairwise([size, *hidden]):
        layers += [nn.Linear(a, b), nn.SiLU()]
    last = nn.Linear(hidden[-1], size)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)


def objective(score: nn.Module, x: Tensor, probes: int | None = None) -> Tensor:
    """F per sample, (N,): 1/2 |s|^2 + tr grad s - x's. Its mean is least for s = grad log(pi /
    rho).
    """
    s, trace = jacobian_trace(score, x, probes)
    return 0.5 * s.square().sum(-1) + trace - (x * s).sum(-1)


@dataclass(frozen=True)
class Training:
    """How a score is trained: by AdamW, whose rate falls to 0 as a cosine.

    Args:
        batch, lr, decay: of AdamW.
        patience: evaluations, one every 50 steps, without a better held-out F before it stops.
        exact: dimensions up to which the trace is exact; above, one random sign vector a sample.
    """

    batch: int = 512
    lr: float = 1e-3
    decay: float = 1e-4
    patience: int = 10
    exact: int = 32


def fit(
    x: Tensor,
    held_out: Tensor,
    *,
    hidden: Sequence[int] = (128, 128),
    rank: int | None = None,
    steps: int = 2000,
    training: Training = Training(),
) -> RatioScore:
    """The score of x (N, d), whitened, stopped where F is least on `held_out`.

    Args:
        hidden, rank: see `RatioScore`.
        steps: at most, of the optimizer.
        training: its settings.
    """
    score = RatioScore(x.shape[1], hidden, rank).to(x)
    score.start_(x)
    probes = None if x.shape[1] <= training.exact else 1
    optimizer = torch.optim.AdamW(score.parameters(), lr=training.lr, weight_decay=training.decay)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best = _Best(score, _held_out(score, held_out, probes))
    for step in range(1, steps + 1):
        rows = torch.randint(len(x), (min(training.batch, len(x)),), device=x.device)
        optimizer.zero_grad()
        objective(score, x[rows], probes).mean().backward()
        optimizer.step()
        rate.step()
        if step % EVERY == 0:
            best.see(_held_out(score, held_out, probes))
            if best.wait >= training.patience:
                break
    score.load_state_dict(best.weights)
    return score


class _Best:
    """The weights of a score with its least held-out F, and the evaluations since then, `wait`."""

    def __init__(self, score: nn.Module, value: float) -> None:
        self.score = score
        self._keep(value)

    def see(self, value: float) -> None:
        """The held-out F of the present weights."""
        if value < self.value:
            self._keep(value)
        else:
            self.wait += 1

    def _keep(self, value: float) -> None:
        self.value, self.wait = value, 0
        self.weights = {name: v.clone() for name, v in self.score.state_dict().items()}


def _held_out(score: nn.Module, x: Tensor, probes: int | None) -> float:
    """The mean of F on held-out samples, by eight times as many probes as in training."""
    return float(objective(score, x, probes and 8).mean().detach())


@dataclass(frozen=True)
class Reduction:
    """The result of score ratio matching.

    Args:
        matrices: H, or its diagonal block for each modality, {block: (d_m, d_m)}.
        values, vectors: {block: (d_m,)} descending, {block: (d_m, d_m)} in columns.
        trace: tr H over all blocks.
        check: -2 F on the same data, which equals the trace for the true score: their difference is
            the error of the learned one.
        error: standard error of the trace.
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
        ascending = sorted((float(v), m) for m, values in self.values.items() for v in values)
        chosen, total = {m: len(v) for m, v in self.values.items()}, 0.0
        for value, m in ascending:
            total += 0.5 * value
            if total >= epsilon:
                break
            chosen[m] -= 1
        return chosen

    def directions(self, sizes: Mapping[str, int]) -> Tensor:
        """W = blockdiag(U_m), (d, sum of sizes), of the leading directions of each block."""
        return torch.block_diag(*(u[:, : sizes[m]] for m, u in self.vectors.items()))


@torch.no_grad()
def reduce(
    score: nn.Module, held_out: Tensor, sizes: Mapping[str, int], base: Mapping[str, nn.Module] = {}
) -> Reduction:
    """H on held-out samples (N, d), block by block, with its eigenpairs.

    Args:
        sizes: {block: dimensions}; one block for the analysis without blocks.
        base: {block: the score of that block by itself}: the reference is then the product of the
            blocks' own laws instead of N(0, I), so that only what they share remains.
    """
    blocks = _blocks(held_out, sizes)
    scores = _blocks(score(held_out), sizes)
    for m, marginal in base.items():
        scores[m] = scores[m] - marginal(blocks[m])
    matrices = {m: v.T @ v / len(v) for m, v in scores.items()}
    values, vectors = _eigenpairs(matrices)
    squares = torch.cat(list(scores.values()), -1).square().sum(-1)
    least = sum(float(objective(base[m], blocks[m]).mean()) for m in base)
    return Reduction(
        matrices,
        values,
        vectors,
        trace=float(squares.mean()),
        check=-2 * (float(objective(score, held_out).mean()) - least),
        error=float(squares.std() / math.sqrt(len(squares))),
    )


def _eigenpairs(matrices: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Eigenvalues (d_m,), descending, and eigenvectors (d_m, d_m) in columns, of each matrix."""
    values, vectors = {}, {}
    for m, matrix in matrices.items():
        ascending, columns = torch.linalg.eigh(matrix)
        values[m], vectors[m] = ascending.flip(0).clamp_min(0), columns.flip(1)
    return values, vectors


def _blocks(x: Tensor, sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """x (N, d) as {block: (N, d_m)}."""
    return dict(zip(sizes, x.split(list(sizes.values()), -1), strict=True))


def sample(directions: Tensor, samples: Tensor, n: int, seen: Tensor | None = None) -> Tensor:
    """n draws of pi_r, (n, d): W'x resampled from `samples` (N, d), the complement of W from N(0,
    I).

    Args:
        directions: W (d, r) with orthonormal columns.
        seen: (n, d), instead of resampling: the draws keep W'x of these points.
    """
    if seen is None:
        seen = samples[torch.randint(len(samples), (n,), device=samples.device)]
    noise = torch.randn(n, samples.shape[1]).to(samples)
    return seen @ directions @ directions.T + noise - noise @ directions @ directions.T
