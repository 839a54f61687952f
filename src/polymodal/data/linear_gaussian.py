"""Linear-Gaussian data, with every posterior in closed form."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from polymodal.batch import Batch, Modality
from polymodal.checks import Count, Seed, Size, check_memory
from polymodal.data.dataset import consecutive
from polymodal.data.splits import Splits


@dataclass(frozen=True)
class LinearGaussian:
    """z ~ N(0, I), x_m = A_m z + b_m + s_m e_m with e_m ~ N(0, I).

    Args:
        loading: loading[m] = A_m of shape (d_m, D), in the modalities' order.
        bias: bias[m] = b_m of shape (d_m,).
        noise: noise[m] = s_m > 0, the standard deviation.

    The posterior given any subset S has precision I + sum_{m in S} A_m^T A_m / s_m^2 (Bishop,
    Pattern Recognition and Machine Learning, 2006, eq. 2.113-2.117). Batches may lack modalities,
    for all samples or some.

    >>> law = LinearGaussian.draw(dims=(3, 4), latent=2, seed=1)
    >>> batch = law.sample(5, torch.Generator().manual_seed(0))
    >>> law.posterior(batch.only(["x1"])).mean.shape, law.log_evidence(batch).shape
    (torch.Size([5, 2]), torch.Size([5]))
    """

    loading: Mapping[str, Tensor]
    bias: Mapping[str, Tensor]
    noise: Mapping[str, float]

    @classmethod
    def draw(
        cls,
        dims: Sequence[int] | Mapping[str, int] = (3, 4, 5),
        latent: int = 2,
        noise: float = 0.5,
        seed: int = 0,
    ) -> LinearGaussian:
        """Standard normal loadings and biases for modalities of sizes `dims`, called x1, x2, ... if
        it names none.

        Raises ValueError for sizes or a noise that are not positive.
        """
        sizes = dict(dims) if isinstance(dims, Mapping) else _numbered(dims)
        if not sizes or min(sizes.values()) < 1 or latent < 1 or not noise > 0:
            raise ValueError(
                f"Sizes and noise must be positive, got dims {sizes}, latent {latent}, noise"
                f" {noise}."
            )
        generator = torch.Generator().manual_seed(seed)
        return cls(
            {m: _normal((d, latent), generator) for m, d in sizes.items()},
            {m: _normal((d,), generator) for m, d in sizes.items()},
            dict.fromkeys(sizes, float(noise)),
        )

    @property
    def modalities(self) -> list[Modality]:
        """Normal with the true noise as scale, so that a model's likelihood can be the true one."""
        return [Modality(m, (len(A),), scale=self.noise[m]) for m, A in self.loading.items()]

    @property
    def latent(self) -> int:
        return next(iter(self.loading.values())).shape[1]

    def sample(self, n: int, generator: torch.Generator | None = None) -> Batch:
        """n joint samples, in torch's default dtype."""
        z = _normal((n, self.latent), generator)
        x = {}
        for m, A in self.loading.items():
            noise = self.noise[m] * _normal((n, len(A)), generator)
            x[m] = (z @ A.T + self.bias[m] + noise).to(torch.get_default_dtype())
        return Batch(x)

    def _parameters(self, m: str, like: Tensor) -> tuple[Tensor, Tensor, float]:
        """A_m and b_m, with the dtype and device of `like`, and s_m."""
        return self.loading[m].to(like), self.bias[m].to(like), self.noise[m]

    def _terms(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Precision (B, D, D) and h = precision @ mean (B, D) of p(z|x_S), and sum_S log N(x_m;
        b_m, s_m^2 I) (B,).
        """
        like = next(iter(batch.x.values()))
        precision = torch.eye(self.latent, dtype=like.dtype, device=like.device)
        precision = precision.expand(len(batch), -1, -1)
        h, log_noise = like.new_zeros(len(batch), self.latent), like.new_zeros(len(batch))
        for m, x in batch.x.items():
            A, b, s = self._parameters(m, like)
            present, r = batch.mask([m]).to(like.dtype), (x - b) / s
            constant = len(b) * math.log(s * math.sqrt(2 * math.pi))
            precision = precision + present[:, None, None] * (A.T @ A / s**2)
            h = h + present[:, None] * (r @ A / s)
            log_noise = log_noise - present * (0.5 * r.square().sum(-1) + constant)
        return precision, h, log_noise

    def posterior(self, batch: Batch) -> MultivariateNormal:
        """p(z|x_S), S being the modalities of each sample: batch shape (B,), event shape (D,)."""
        precision, h, _ = self._terms(batch)
        factor = torch.linalg.cholesky(precision)
        mean = torch.cholesky_solve(h[..., None], factor).squeeze(-1)
        return MultivariateNormal(mean, covariance_matrix=torch.cholesky_inverse(factor))

    def log_evidence(self, batch: Batch) -> Tensor:
        """log p(x_S), S being the modalities of each sample, nats, shape (B,)."""
        precision, h, log_noise = self._terms(batch)
        factor = torch.linalg.cholesky(precision)
        half = torch.linalg.solve_triangular(factor, h[..., None], upper=False).squeeze(-1)
        log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return log_noise + 0.5 * half.square().sum(-1) - log_det

    def conditional(self, batch: Batch, target: str) -> MultivariateNormal:
        """p(x_target | x_S), S being the modalities of each sample except `target`: batch shape
        (B,), event shape (d,).
        """
        like = next(iter(batch.x.values()))
        A, b, s = self._parameters(target, like)
        others = [m for m in batch.x if m != target]
        if others:
            z = self.posterior(batch.only(others))
            mean, covariance = z.mean @ A.T + b, A @ z.covariance_matrix @ A.T
        else:
            mean, covariance = b.expand(len(batch), -1), A @ A.T
        noise = s**2 * torch.eye(len(b), dtype=b.dtype, device=b.device)
        return MultivariateNormal(mean, covariance_matrix=covariance + noise)

    def joint(self) -> MultivariateNormal:
        """p(x_1, ..., x_M) of the values concatenated in the modalities' order, float64."""
        A, b = torch.cat(list(self.loading.values())), torch.cat(list(self.bias.values()))
        variances = [
            torch.full((len(v),), self.noise[m] ** 2, dtype=A.dtype)
            for m, v in self.loading.items()
        ]
        return MultivariateNormal(b, covariance_matrix=A @ A.T + torch.cat(variances).diag())


def _numbered(sizes: Sequence[int]) -> dict[str, int]:
    return {f"x{k + 1}": size for k, size in enumerate(sizes)}


def _normal(shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def linear_gaussian(
    *,
    dims: Sequence[Size] | Mapping[str, Size] = (3, 4, 5),
    latent: Size = 2,
    n: Count = 10_000,
    noise: float = 0.5,
    seed: Seed = 0,
) -> Splits:
    """Linear-Gaussian data, whose every posterior is known in closed form.

    n samples of a `LinearGaussian` drawn with the same seed (`Splits.truth`), split .8/.1/.1.

    Raises ValueError for n < 10 or sizes that are not positive.
    """
    if n < 10:
        raise ValueError(f"linear_gaussian needs n of at least 10 to be split .8/.1/.1, got {n}.")
    sizes = [*(dims.values() if isinstance(dims, Mapping) else dims), latent]
    check_memory(20.0 * n * sum(sizes), f"linear_gaussian with n={n:,} needs", "lower data.n")
    truth = LinearGaussian.draw(dims, latent, noise, seed)
    x = truth.sample(n, torch.Generator().manual_seed(seed + 1)).x
    tenth = n // 10
    parts = (n - 2 * tenth, tenth, tenth)
    train, val, test = consecutive(truth.modalities, x, None, parts)
    return Splits(train, val, test, "linear_gaussian", truth)
