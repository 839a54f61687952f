"""Score ratio matching: in which few directions does a sample differ from its reference, and by how
much?

For samples of pi, whitened, and the reference rho = N(0, I), the ratio's score is s = grad log(pi /
rho), and H = E_pi[s s'] says along which directions pi differs from rho: with eigenpairs (lambda_i,
u_i) and

    pi_r(x) ~ f(U_r' x) rho(x),    KL(pi || pi_r) <= 1/2 sum_{i > r} lambda_i

for the best f, the density of U_r' x over its reference (Zahm et al. 2022; Baptista, Brennan and
Marzouk 2024). s is learned by minimising F(s) = E_pi[1/2 |s|^2 + tr grad s - x's], whose minimum is
-1/2 tr H. The zero score, which finds nothing, has F = 0.

A learned score t always finds something in its own training samples. Held-out samples judge it: by
Stein's identity E_pi[x't - tr grad t] = E_pi[t's], so that each direction has an unbiased estimate
of what t and s have in common, with a standard error (`reduce`).

Several modalities must be whitened *one by one* (`whitening_of`): whitening all of them together
erases the linear correlation between them, which is what the method looks for; for normal data it
leaves H = 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist

import torch
from torch import Tensor, nn

from polymodal.analysis.cca import double, factor
from polymodal.analysis.trace import diagonal, jacobian_trace

EVERY = 50  # steps between two evaluations on held-out samples
SHRINKAGE = (1e-3, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)  # of a covariance towards I
ERRORS = 2  # standard errors by which the network must be better than the linear score
LEVEL = 0.01  # the probability that noise is taken for a direction, over all directions together
CHUNK = 500  # held-out samples whose derivatives are computed at once
RIDGE = 1e-6  # share of a block's mean variance that is added to the variance of every direction


def whitening_of(x: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The mean (d,) and the block-diagonal matrix (d, d) with which (x - mean) @ matrix is white in
    each block x[m] (N, d_m), by its covariance + RIDGE * (mean variance) I: that of x with the
    noise of `ridged`.

    Raises ValueError for a block with no more samples than dimensions.
    """
    for m, value in x.items():
        samples, d = value.shape
        if samples <= d:
            raise ValueError(
                f"Whitening {m!r} needs more samples than its {d} dimensions, got {samples}."
            )
    matrix = torch.block_diag(*(_whitening_factor(value) for value in x.values()))
    return torch.cat([value.mean(0) for value in x.values()]), matrix


def _whitening_factor(x: Tensor) -> Tensor:
    """L (d, d) with L L' the inverse covariance of x (N, d); L' x is white. Computed in float64:
    squared deviations may differ by a factor 1 / RIDGE.
    """
    lower = factor(double(x - x.mean(0)), len(x), RIDGE)
    return torch.linalg.cholesky(torch.cholesky_inverse(lower)).to(x)


def ridged(x: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """x[m] (N, d_m) with normal noise of the variance that `whitening_of(like)` adds.

    Whitened, a direction in which x hardly varies is then N(0, 1), so that nothing is found in it.
    Without the noise it is far narrower, and counts as the largest difference from N(0, 1).
    """
    deviation = {m: (RIDGE * v.var(0).mean()).sqrt() for m, v in like.items()}
    return {m: v + deviation[m] * torch.randn_like(v) for m, v in x.items()}


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
    def start_(self, x: Tensor, held_out: Tensor) -> None:
        """The best linear score: A = I - C^-1 for the covariance C of x, which is exact where x is
        normal; C is shrunk towards I by the amount with the least F on `held_out`.
        """
        best = _linear_score(x, held_out)
        if self.directions is not None:
            values, vectors = torch.linalg.eigh(best)
            leading = values.abs().argsort(descending=True)[: self.directions.shape[1]]
            self.directions.copy_(vectors[:, leading])
            best = self.directions.T @ best @ self.directions
        self.linear.weight.copy_(best)
        self.linear.bias.zero_()


def _linear_score(x: Tensor, held_out: Tensor) -> Tensor:
    """A (d, d), symmetric, of the best linear score; zeros where none has F < 0 on `held_out`."""
    covariance, other = (v.T @ v / len(v) for v in (x, held_out))
    identity = torch.eye(x.shape[1]).to(x)

    def held_out_objective(a: Tensor) -> float:
        return float(0.5 * (a @ other @ a).trace() + a.trace() - (a @ other).trace())

    shrunk = [torch.lerp(covariance, identity, t) for t in SHRINKAGE]
    return min((identity - torch.linalg.inv(c) for c in shrunk), key=held_out_objective)


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
        exact: dimensions up to which the trace is exact; above, one random sign vector a sample in
            training, and eight on held-out samples.
    """

    batch: int = 256
    lr: float = 1e-3
    decay: float = 1e-4
    patience: int = 3
    exact: int = 8


def fit(
    x: Tensor,
    held_out: Tensor,
    *,
    hidden: Sequence[int] = (128, 128),
    rank: int | None = None,
    steps: int = 2000,
    training: Training = Training(),
) -> RatioScore:
    """The score of x (N, d), whitened, stopped where F is least on `held_out`; the linear one where
    the network is not better by two standard errors of F's difference.

    Args:
        hidden, rank: see `RatioScore`.
        steps: at most, of the optimizer.
        training: its settings.
    """
    score = RatioScore(x.shape[1], hidden, rank).to(x)
    score.start_(x, held_out)
    is_exact = x.shape[1] <= training.exact
    optimizer = torch.optim.AdamW(score.parameters(), lr=training.lr, weight_decay=training.decay)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best = _Best(score, _held_out(score, held_out, is_exact))
    for step in range(1, steps + 1):
        rows = torch.randint(len(x), (min(training.batch, len(x)),), device=x.device)
        optimizer.zero_grad()
        objective(score, x[rows], None if is_exact else 1).mean().backward()
        optimizer.step()
        rate.step()
        if step % EVERY == 0 or step == steps:
            best.see(_held_out(score, held_out, is_exact))
            if best.wait >= training.patience:
                break
    score.load_state_dict(best.weights if best.is_better_than_first else best.first_weights)
    return score


class _Best:
    """The weights of a score with its least held-out F, and the evaluations since then, `wait`.

    Args:
        values: F of each held-out sample, (N,), for the first weights.
    """

    def __init__(self, score: nn.Module, values: Tensor) -> None:
        self.score, self.first = score, values
        self._keep(values)
        self.first_weights = self.weights

    def see(self, values: Tensor) -> None:
        """F of each held-out sample for the present weights."""
        if values.mean() < self.values.mean():
            self._keep(values)
        else:
            self.wait += 1

    def _keep(self, values: Tensor) -> None:
        self.values, self.wait = values, 0
        self.weights = {name: v.clone() for name, v in self.score.state_dict().items()}

    @property
    def is_better_than_first(self) -> bool:
        """By `ERRORS` standard errors of the difference."""
        mean, error = _mean_and_error(self.first - self.values)
        return bool(mean > ERRORS * error)


@torch.no_grad()
def _held_out(score: nn.Module, x: Tensor, is_exact: bool) -> Tensor:
    """F of held-out samples, (N,), exactly or by eight random sign vectors for each."""
    return objective(score, x, None if is_exact else 8)


def _mean_and_error(values: Tensor) -> tuple[Tensor, Tensor]:
    """The means of values (N, ...) over the samples, and their standard errors."""
    return values.mean(0), values.std(0) / math.sqrt(len(values))


@dataclass(frozen=True)
class Reduction:
    """The result of score ratio matching.

    Args:
        values, vectors: the eigenvalues {block: (d_m,)} of H's diagonal block for each modality,
            descending, and its eigenvectors {block: (d_m, d_m)} in columns. The value is 0 in a
            direction in which held-out samples show nothing.
        gain: F of the zero score minus F of the learned one, on held-out samples, nats: 1/2 tr H
            for the true score; below 0 for one that learned only noise.
        error: its standard error.
    """

    values: dict[str, Tensor]
    vectors: dict[str, Tensor]
    gain: float
    error: float

    @property
    def trace(self) -> float:
        """tr H over all blocks and the directions that were found."""
        return math.fsum(float(v.sum()) for v in self.values.values())

    @property
    def found(self) -> int:
        """How many directions were found, over all blocks."""
        return sum(int(v.count_nonzero()) for v in self.values.values())

    def bound(self, sizes: Mapping[str, int]) -> float:
        """1/2 sum of the eigenvalues left out, nats: an estimate, off by about `error` and |trace /
        2 - gain|.
        """
        return 0.5 * math.fsum(float(v[sizes[m] :].sum()) for m, v in self.values.items())

    def choose(self, epsilon: float) -> dict[str, int]:
        """The fewest directions, over all blocks together, whose bound is below `epsilon` nats; no
        direction in which nothing was found.

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


@torch.no_grad()
def reduce(
    score: nn.Module,
    x: Tensor,
    held_out: Tensor,
    sizes: Mapping[str, int],
    base: Mapping[str, nn.Module] = {},
) -> Reduction:
    """The eigenpairs of H, block by block: directions from the training samples x (N, d), what
    is in them from held-out samples (K, d).

    With t_i the learned score along direction i, b_i = E[x_i t_i - d_i t_i] = E[t_i s_i] and q_i =
    E[t_i^2], the multiple a t_i has F = 1/2 a^2 q_i - a b_i. The best a = b_i / q_i, or 1 if it
    is above 1, shrinks t_i, and the eigenvalue is E[(a t_i)^2]: b_i^2 / q_i is at most E[s_i^2],
    and equals it where t_i is a multiple of s_i. It is 0 unless b_i is above 0 by so many standard
    errors that noise is taken for any direction with probability 1 % at most (Bonferroni); the
    errors include that of the whitening, which was estimated from x.

    Args:
        sizes: {block: dimensions}; one block for the analysis without blocks.
        base: {block: the score of that block by itself}: the reference is then the product of the
            blocks' own laws instead of N(0, I), so that only what they share remains.
    """

    def reference(z: Tensor) -> Tensor:
        each = blocks(z, sizes)
        return torch.cat([base[m](v) if m in base else 0 * v for m, v in each.items()], -1)

    frames = {m: _leading(v) for m, v in blocks(score(x) - reference(x), sizes).items()}
    frame = torch.block_diag(*frames.values())

    def along(y: Tensor) -> Tensor:
        z = y @ frame.T
        return (score(z) - reference(z)) @ frame

    products, squares = [], []
    for part in held_out.split(CHUNK):
        t, slope = diagonal(along, part @ frame)
        products.append(((part - reference(part)) @ frame) * t - slope)
        squares.append(t.square())
    product, square = torch.cat(products), torch.cat(squares)
    values = blocks(_significant(product, square, len(x)), sizes)
    order = {m: v.argsort(descending=True, stable=True) for m, v in values.items()}
    gain, error = _mean_and_error((product - 0.5 * square).sum(-1))
    return Reduction(
        {m: v[order[m]] for m, v in values.items()},
        {m: u[:, order[m]] for m, u in frames.items()},
        float(gain),
        float(error),
    )


def _leading(scores: Tensor) -> Tensor:
    """The eigenvectors of the mean of s s' over scores (N, d), in columns, leading ones first."""
    return torch.linalg.eigh(scores.T @ scores / len(scores))[1].flip(1)


def _significant(product: Tensor, square: Tensor, size: int) -> Tensor:
    """The eigenvalues (d,) from held-out samples (K, d) of the products and squares; 0 where the
    mean product is not above 0 beyond chance. `size`: of the sample that whitened them.
    """
    (b, error), q = _mean_and_error(product), square.mean(0)
    least = NormalDist().inv_cdf(1 - LEVEL / len(b)) * error * math.sqrt(1 + len(product) / size)
    return torch.where(b > least, torch.minimum(b / q, torch.ones_like(b)).square() * q, 0)


def blocks(x: Tensor, sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """x (..., d) as {block: (..., d_m)}."""
    return dict(zip(sizes, x.split(list(sizes.values()), -1), strict=True))
