"""Products of likelihoods: Bayes' rule on linear-Gaussian latents, whose posteriors are known."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
)

from polymodal import Modality, fit, load
from polymodal.data.dataset import Dataset
from polymodal.data.splits import Splits
from polymodal.distributions import DiagNormal, LikelihoodProduct
from polymodal.distributions.laplace import laplace_mixture
from polymodal.posteriors import EmbeddingLikelihood
from polymodal.posteriors.likelihoods import Given
from polymodal.priors import NormalMixture
from polymodal.sampling import HMC, Importance

pytestmark = pytest.mark.usefixtures("double")
NOISE = 0.5


@dataclass
class Linear:
    """g = A z + noise."""

    matrix: Tensor
    g: Tensor

    def log_prob(self, z: Tensor) -> Tensor:
        return Independent(Normal(z @ self.matrix.T, NOISE), 1).log_prob(self.g)

    def linear(self, z: Tensor, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        left = self.g[rows].unsqueeze(1) - z @ self.matrix.T
        weight = torch.full_like(left, NOISE**-2)
        return left, self.matrix.expand(*z.shape[:2], -1, -1), weight


def normals(loc: Tensor, covariance: Tensor, weights: Tensor) -> MixtureSameFamily:
    return MixtureSameFamily(Categorical(weights), MultivariateNormal(loc, covariance))


@pytest.mark.parametrize("given", [(0,), (1, 3), (0, 1, 2, 3, 4)])
def test_exact_likelihoods_give_the_exact_posterior(given: tuple[int, ...]) -> None:
    """z ~ N(0, I_16), five g_m = A_m z + noise of three numbers each; 20 items, 4 chains of 200."""
    size, items = 16, 20
    matrices = [torch.linalg.qr(torch.randn(size, 3)).Q.T for _ in range(5)]
    z = torch.randn(items, size)
    g = [z @ a.T + NOISE * torch.randn(items, 3) for a in matrices]
    chosen = [matrices[m] for m in given]
    precision = torch.eye(size) + sum(a.T @ a for a in chosen) / NOISE**2
    covariance = torch.linalg.inv(precision)
    mean = sum(g[m] @ matrices[m] for m in given) / NOISE**2 @ covariance
    start = [DiagNormal(mean, torch.ones(items, size)) for _ in given]
    likelihoods = [Linear(matrices[m], g[m]) for m in given]
    prior = normals(torch.zeros(1, size), torch.eye(size)[None], torch.ones(1))
    q = LikelihoodProduct(start, prior, HMC(warmup=100, chains=4), None, likelihoods)
    draws = q.sample((800,))
    effective = q.report.ess.min()
    assert effective > 200
    wrong = (draws.mean(0) - mean) / covariance.diag().sqrt() * effective.sqrt()
    assert wrong.square().mean() == pytest.approx(1.0, abs=0.5)
    standard = (draws - mean).square().mean(0) / covariance.diag()
    assert standard.mean() == pytest.approx(1.0, abs=0.05)


def test_absent_modalities_take_no_part_and_none_at_all_leaves_the_aggregate() -> None:
    prior = normals(torch.zeros(1, 2), torch.eye(2)[None], torch.ones(1))
    experts = [DiagNormal(torch.full((3, 2), v), torch.ones(3, 2)) for v in (1.0, 5.0)]
    matrix, g = torch.eye(2), torch.ones(3, 2)
    likelihoods = [Linear(matrix, v * g) for v in (1.0, 5.0)]
    present = torch.tensor([[True, True, False], [True, False, False]])
    q = LikelihoodProduct(experts, prior, HMC(), [*present], likelihoods)
    z = torch.randn(4, 3, 2)
    terms = [likelihood.log_prob(z) for likelihood in likelihoods]
    expected = prior.log_prob(z) + torch.stack(terms, 0).mul(present.unsqueeze(1)).sum(0)
    torch.testing.assert_close(q.log_prob(z), expected)
    log_ratio = q.log_prob(z) - q.start().log_prob(z)  # a constant, where means are linear
    torch.testing.assert_close(log_ratio, log_ratio[:1].expand_as(log_ratio))
    torch.testing.assert_close(log_ratio[:, 2], torch.zeros(4))


def test_the_start_is_the_posterior_of_a_mixture_where_the_means_are_linear() -> None:
    """q / start is the evidence, the sum over components and exact, whatever z; so are draws."""
    size, items = 3, 4
    half = torch.randn(5, size, size)
    covariance = half @ half.mT + 0.1 * torch.eye(size)
    loc, weights = 2 * torch.randn(5, size), torch.rand(5)
    prior, matrices = normals(loc, covariance, weights), torch.randn(2, 2, size)
    g = torch.randn(2, items, 2)
    likelihoods = [Linear(a, x) for a, x in zip(matrices, g, strict=True)]
    experts = [DiagNormal(torch.zeros(items, size), torch.ones(items, size))] * 2
    q = LikelihoodProduct(experts, prior, Importance(50), None, likelihoods)
    z, whole, seen = torch.randn(6, items, size), matrices.flatten(0, 1), torch.cat([*g], -1)
    noisy = whole @ covariance @ whole.T + NOISE**2 * torch.eye(4)
    evidence = normals(loc @ whole.T, noisy, weights).log_prob(seen)
    start = q.start()
    expected = evidence.expand(6, items)
    torch.testing.assert_close(q.log_prob(z) - start.log_prob(z), expected)
    draws = start.sample((40_000,))
    share = start.weights.exp().unsqueeze(-1)
    mean = (share * start.loc).sum(1)
    inverse = torch.cholesky_inverse(start.factor).diagonal(dim1=-2, dim2=-1)
    variance = (share * (inverse + start.loc.square())).sum(1) - mean.square()
    wrong = (draws.mean(0) - mean) / (variance / 40_000).sqrt()
    assert wrong.abs().max() < 4
    torch.testing.assert_close(draws.var(0), variance, rtol=0.05, atol=0)
    q.sample((2,))
    assert q.report.ess.min() == pytest.approx(50.0)


def test_narrow_components_are_weighed_by_bayes_rule() -> None:
    """Where components are points, their posterior weights are w_c p(g | z_c) / p(g)."""
    net, g = EmbeddingLikelihood(3, 2).eval(), torch.randn(4, 2)
    loc, weights = 3 * torch.randn(5, 3), torch.rand(5)
    prior = normals(loc, 1e-8 * torch.eye(3).expand(5, 3, 3), weights)
    start = laplace_mixture(prior, [Given(net, g)], count=4, kept=5)
    expected = weights.log() + net.log_prob(loc.unsqueeze(1), g).T
    order = (start.loc.unsqueeze(2) - loc).norm(dim=-1).argmin(-1)
    torch.testing.assert_close(start.weights, expected.log_softmax(-1).gather(1, order))


def test_learned_means_are_linearised_at_the_point() -> None:
    net = EmbeddingLikelihood(3, 2).eval()
    given = Given(net, torch.tensor([[1.0, 0.0], [0.5, 2.0]]))
    z = torch.randn(2, 4, 3)
    left, slope, weight = given.linear(z, slice(0, 2))
    mu, log_scale = net.moments(z)
    step = 1e-6 * torch.randn(3)
    torch.testing.assert_close(
        (net.moments(z + step)[0] - mu) / 1e-6, slope @ step / 1e-6, atol=1e-4, rtol=0
    )
    torch.testing.assert_close(left + mu, given.g.unsqueeze(1).expand_as(mu))
    assert weight[0, :, 1].abs().max() == 0  # a direction that is 0 is not used
    torch.testing.assert_close(weight[1], (-2 * log_scale[1]).exp())


def test_the_density_of_a_mixture_is_torchs() -> None:
    mixture = NormalMixture(3, 4)
    for p in mixture.parameters():
        torch.nn.init.normal_(p, std=0.5)
    law, z = mixture(), torch.randn(5, 2, 3)
    plain = MixtureSameFamily(law.mixture_distribution, law.component_distribution)
    torch.testing.assert_close(law.log_prob(z), plain.log_prob(z))


def test_a_likelihood_is_normalised_over_what_it_describes_and_bounded_in_z() -> None:
    """Its integral over g is 1 for every z; constant directions of g (exact zeros) are left out."""
    net = EmbeddingLikelihood(3, 2).eval()
    axis = torch.linspace(-12, 12, 1200)
    g = torch.stack([axis, torch.zeros_like(axis)], -1)
    mass = torch.trapezoid(net.log_prob(3 * torch.randn(6, 1, 3), g).exp(), axis)
    torch.testing.assert_close(mass, torch.ones(6), atol=1e-4, rtol=0)
    far = net.log_prob(1e4 * torch.randn(1000, 1, 3), g[:1])
    assert far.isfinite().all() and far.max() <= -math.log(0.1 * math.sqrt(2 * math.pi))


def linear(n: int, size: int = 4) -> Splits:
    """Three modalities of six numbers each, linear in four latents, with noise."""
    g = torch.Generator().manual_seed(0)
    z = torch.randn(n, size, generator=g)
    modalities = [Modality(f"x{k}", (6,), scale=0.5) for k in range(3)]
    tables = {}
    for m in modalities:
        matrix = torch.randn(size, 6, generator=g)
        tables[m.name] = (z @ matrix + 0.5 * torch.randn(n, 6, generator=g)).float()
    whole = Dataset(modalities, tables)
    parts = torch.arange(n).split([n - 400, 200, 200])
    return Splits(*(whole.take(rows) for rows in parts), "linear")


@pytest.mark.parametrize(
    ("method", "between", "options"),
    [
        ("jnf_dcca", ["embeddings", "surrogates"], {"embedding": {"embedding_size": 4}}),
        ("jnf", ["surrogates", "directions"], {}),
    ],
)
def test_a_run_learns_likelihoods_and_knows_more_given_more(
    method, between, options, tmp_path, monkeypatch
) -> None:
    torch.set_default_dtype(torch.float32)
    for name, few in (("ITEMS", 32), ("ROUNDS", 1)):  # test_calibration.py tests the exponent
        monkeypatch.setattr(f"polymodal.methods.calibration.{name}", few)
    small = {"latent": 4, "hidden": 32, "progress": False, **options}
    small |= {"networks": dict.fromkeys(["x0", "x1", "x2"], "linear"), "aggregate": 2}
    small |= {"epochs": 12, "lr": 5e-3, "sampler": {"name": "importance"}}
    data = linear(2400)
    run = fit(method, data, out=tmp_path / "run", product="likelihoods", seed=1, **small)
    assert [*run.info["stages"]] == ["joint", *between, "likelihoods"]
    test = data.test.batch(torch.arange(100))

    def error(names: list[str]) -> float:
        z, _ = run.model.draw(test.only(names), n=200)  # the mean of fewer is too noisy
        return float((run.model.decode(z)["x2"].mean(0) - test.x["x2"]).square().mean())

    spread = float(test.x["x2"].var(0).mean())
    one, two = error(["x0"]), error(["x0", "x1"])
    assert two < 0.95 * one < 0.8 * spread
    again = load(tmp_path / "run").model
    draws = []
    for model in (run.model, again):
        torch.manual_seed(1)
        draws.append(model.draw(test.only(["x0", "x1"]), n=1)[0])
    torch.testing.assert_close(*draws, atol=0, rtol=0)
