"""Products of likelihoods: Bayes' rule on linear-Gaussian latents, whose posteriors are known."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, MixtureSameFamily, Normal

from polymodal import Modality, fit, load
from polymodal.data.dataset import Dataset, Splits
from polymodal.distributions import DiagNormal, LikelihoodProduct
from polymodal.posteriors import EmbeddingLikelihood
from polymodal.priors import NormalMixture
from polymodal.sampling import HMC

pytestmark = pytest.mark.usefixtures("double")
NOISE = 0.5


def log_likelihood(z: Tensor, matrix: Tensor, g: Tensor) -> Tensor:
    return Independent(Normal(z @ matrix.T, NOISE), 1).log_prob(g)


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
    logs = [partial(log_likelihood, matrix=matrices[m], g=g[m]) for m in given]
    prior = DiagNormal(torch.zeros(size), torch.ones(size))
    q = LikelihoodProduct(start, prior, HMC(warmup=100, chains=4), None, logs)
    draws = q.sample((800,))
    effective = q.report.ess.min()
    assert effective > 200
    wrong = (draws.mean(0) - mean) / covariance.diag().sqrt() * effective.sqrt()
    assert wrong.square().mean() == pytest.approx(1.0, abs=0.5)
    standard = (draws - mean).square().mean(0) / covariance.diag()
    assert standard.mean() == pytest.approx(1.0, abs=0.05)


def test_absent_modalities_take_no_part_and_none_at_all_leaves_the_aggregate() -> None:
    prior = DiagNormal(torch.zeros(2), torch.ones(2))
    experts = [DiagNormal(torch.full((3, 2), v), torch.ones(3, 2)) for v in (1.0, 5.0)]
    matrix, g = torch.eye(2), torch.ones(3, 2)
    logs = [partial(log_likelihood, matrix=matrix, g=v * g) for v in (1.0, 5.0)]
    present = torch.tensor([[True, True, False], [True, False, False]])
    q = LikelihoodProduct(experts, prior, HMC(), [*present], logs)
    z = torch.randn(4, 3, 2)
    terms = [log(z) for log in logs]
    expected = prior.log_prob(z) + torch.stack(terms, 0).mul(present.unsqueeze(1)).sum(0)
    torch.testing.assert_close(q.log_prob(z), expected)


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


def test_a_run_learns_likelihoods_and_knows_more_given_more(tmp_path) -> None:
    torch.set_default_dtype(torch.float32)
    small = {"latent": 4, "hidden": 32, "embedding": {"embedding_size": 4}, "progress": False}
    small |= {"networks": dict.fromkeys(["x0", "x1", "x2"], "linear"), "aggregate": 2}
    small |= {"epochs": 12, "lr": 5e-3, "sampler": {"name": "importance"}}
    data = linear(2400)
    run = fit("jnf_dcca", data, out=tmp_path / "run", product="likelihoods", **small)
    assert [*run.info["stages"]] == ["joint", "embeddings", "surrogates", "likelihoods"]
    test = data.test.batch(torch.arange(100))

    def error(names: list[str]) -> float:
        z, _ = run.model.draw(test.only(names), n=20)
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
