"""Against the linear-Gaussian model, where every posterior and the evidence are known in closed
form.
"""

import inspect
import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from polymodal.batch import Batch
from polymodal.data import LinearGaussian
from polymodal.distributions.likelihoods import IsotropicNormal
from polymodal.distributions.normal import DiagNormal, product
from polymodal.distributions.products import Product
from polymodal.methods import METHODS
from polymodal.model import MultimodalVAE
from polymodal.networks.modules import Expert
from polymodal.objectives import elbo, iwae
from polymodal.priors import StandardNormal
from polymodal.sampling import HMC

DIM, NAMES = 2, ["x1", "x2", "x3", "x4", "x5"]


pytestmark = pytest.mark.usefixtures("double")


def law(noise: float = 1.5) -> LinearGaussian:
    return LinearGaussian.draw(dims=(1, 2, 1, 2, 3), latent=DIM, noise=noise, seed=3)


class LinearDecoder(nn.Module):
    """p(x_m|z) of the law itself."""

    def __init__(self, loading: torch.Tensor, bias: torch.Tensor, noise: float) -> None:
        super().__init__()
        self.loading, self.bias, self.noise = loading, bias, noise

    def forward(self, z: torch.Tensor) -> IsotropicNormal:
        return IsotropicNormal(z @ self.loading.T + self.bias, self.noise, 1)


def exact_model(truth: LinearGaussian) -> MultimodalVAE:
    decoders = {
        m: LinearDecoder(truth.loading[m], truth.bias[m], truth.noise[m]) for m in truth.loading
    }
    return MultimodalVAE(StandardNormal(DIM), decoders, nn.Identity(), truth.modalities)


def check_moments(z: torch.Tensor, exact: MultivariateNormal, ess: torch.Tensor) -> None:
    """Means within 3 standard errors (a few items in a hundred may pass it), covariances within 5 %
    on average.
    """
    error = exact.variance.sqrt() / ess.sqrt().unsqueeze(-1)
    off = (z.mean(0) - exact.mean).abs() / error
    assert off.median() < 1.2 and (off < 3).double().mean() > 0.95
    centred = z - z.mean(0)
    covariance = torch.einsum("nbi,nbj->bij", centred, centred) / (len(z) - 1)
    ratio = torch.linalg.solve(exact.covariance_matrix, covariance)
    torch.testing.assert_close(ratio.mean(0), torch.eye(DIM), atol=0.05, rtol=0)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_product_of_exact_experts_is_the_exact_subset_posterior(size: int) -> None:
    """Drawn by HMC from eq. (12). With the prior taken out once, as the paper's eq. (21) has it,
    red for 3 and 4.
    """
    truth = law()
    batch = truth.sample(24).only(NAMES[:size])
    experts = [truth.posterior(batch.only([m])) for m in batch.x]
    q = Product(experts, StandardNormal(DIM)(), HMC(warmup=60, draws=200, chains=16))
    z = q.sample((3200,))
    assert (q.report.rhat < 1.05).double().mean() > 0.95 and q.report.divergent.sum() == 0
    check_moments(z, truth.posterior(batch), q.report.ess.clamp_max(len(z)))


@pytest.mark.parametrize("size", [3, 4])
def test_eq_21_gives_another_posterior(size: int) -> None:
    """What the test above would miss if it could not tell: the wrong power's covariance is more
    than 5 % off.
    """
    truth = law()
    batch = truth.sample(1).only(NAMES[:size])
    precisions = [truth.posterior(batch.only([m])).precision_matrix[0] for m in batch.x]
    exact = truth.posterior(batch).precision_matrix[0]
    torch.testing.assert_close(sum(precisions) - (size - 1) * torch.eye(DIM), exact)
    wrong = sum(precisions) - torch.eye(DIM)
    assert (torch.linalg.solve(wrong, exact) - torch.eye(DIM)).abs().max() > 0.15


def test_the_product_with_missing_samples_is_each_samples_own_subset_posterior() -> None:
    truth, here = law(), torch.rand(3, 24) > 0.4
    full = truth.sample(24).only(NAMES[:3])
    batch = Batch(full.x, {m: here[k] for k, m in enumerate(NAMES[:3])})
    experts = [truth.posterior(full.only([m])) for m in full.x]
    q = Product(experts, StandardNormal(DIM)(), HMC(warmup=60, draws=200, chains=16), list(here))
    z = q.sample((3200,))
    check_moments(z, truth.posterior(batch), q.report.ess.clamp_max(len(z)))


@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_closed_product_of_exact_normals_is_exact(size: int) -> None:
    """Loadings along the axes make exact posteriors diagonal: then `product` over the prior needs
    no sampler.
    """
    loading = {m: torch.diag(torch.rand(DIM) + 0.5) for m in NAMES[:size]}
    truth = LinearGaussian(
        loading, {m: torch.randn(DIM) for m in loading}, dict.fromkeys(loading, 0.8)
    )
    batch = truth.sample(10)
    one = [truth.posterior(batch.only([m])) for m in loading]
    q = product([DiagNormal(p.mean, p.variance.sqrt()) for p in one], over=StandardNormal(DIM)())
    exact = truth.posterior(batch)
    torch.testing.assert_close(q.mean, exact.mean)
    torch.testing.assert_close(q.variance, exact.variance)


@pytest.mark.parametrize("subset", [["x1"], ["x2", "x4"], NAMES])
def test_bounds_lie_below_the_evidence_and_the_k_sample_bound_reaches_it(subset: list[str]) -> None:
    truth = law()
    model, batch = exact_model(truth), truth.sample(16).only(subset)
    exact, evidence = truth.posterior(batch), truth.log_evidence(batch)
    q = DiagNormal(exact.mean + 0.3, 1.4 * exact.variance.sqrt())
    bound = -torch.stack([elbo(model, batch, q).value for _ in range(400)]).mean(0)
    gaps = {1: evidence - bound}
    for k in (10, 100, 5000):
        gaps[k] = evidence + torch.stack([iwae(model, batch, q, k).value for _ in range(40)]).mean(
            0
        )
    assert (gaps[1] > 0).all()
    means = [float(g.mean()) for g in gaps.values()]
    assert means[0] > means[1] > means[2] > -0.01 and abs(means[3]) < 0.01


def test_the_bound_of_the_exact_posterior_is_the_evidence_whatever_was_drawn() -> None:
    truth = law()
    model, batch = exact_model(truth), truth.sample(16)
    value = iwae(model, batch, truth.posterior(batch), 3).value
    torch.testing.assert_close(-value, truth.log_evidence(batch))


class Columns(nn.Module):
    """A decoder that reads only some columns of z."""

    def __init__(self, decoder: nn.Module, columns: range) -> None:
        super().__init__()
        self.decoder, self.columns = decoder, columns

    def forward(self, z: torch.Tensor) -> IsotropicNormal:
        return self.decoder(z[..., self.columns])


def with_exact_decoders(name: str, truth: LinearGaussian) -> tuple[MultimodalVAE, list[str]]:
    """The method's model with the law's own decoders, of the latent that each of them reads; what
    it generates.
    """
    known = inspect.signature(METHODS[name]).parameters
    small = {
        "flow": {"hidden": (8,)},
        "embedding": {"embedding_size": 1},
        "hidden": 8,
        "private": 1,
    }
    model = METHODS[name](
        truth.modalities, latent=DIM, **{k: v for k, v in small.items() if k in known}
    ).model
    for i, (m, decoder) in enumerate(exact_model(truth).decoders.items()):
        if m in model.decoders:
            model.decoders[m] = Columns(
                decoder, range(DIM * i, DIM * i + DIM) if name == "vae" else range(DIM)
            )
    for (
        part
    ) in model.posterior.modules():  # wide posteriors, whose importance weights have light tails
        if isinstance(part, Expert):
            bias = [layer for layer in part.net.modules() if isinstance(layer, nn.Linear)][-1].bias
            bias.data[len(bias) // 2 :] += math.log(4)
    return model, list(model.decoders)


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"meme", "mfm"}))
def test_every_methods_bound_is_below_the_evidence_and_reaches_it_with_k(name: str) -> None:
    """With exact decoders, for S of one and of all. MEME has no single prior and MFM no density:
    their own laws are in test_objectives.py. What a private latent does not explain costs nothing:
    p(u, w) q(w) cancels in the mean.
    """
    truth, k = law(), 20_000
    model, generated = with_exact_decoders(name, truth)
    batch = truth.sample(16)
    for given in [*([m] for m in NAMES), NAMES]:
        seen = [m for m in given if m in generated]
        if not seen:
            continue
        part = batch.only(seen)
        q = model.posterior(batch.only(given))
        with torch.no_grad():
            z = q.rsample(torch.Size([k]))
            log_w = model.log_likelihood(part, z) + model.prior().log_prob(z) - q.log_prob(z)
        exact = truth.log_evidence(part)
        if name == "vae":  # every modality has a latent of its own
            exact = sum(truth.log_evidence(batch.only([m])) for m in seen)
        assert (log_w.mean(0) < exact + 4 * log_w.std(0) / k**0.5).all()
        reached = torch.logsumexp(log_w, 0) - math.log(k)
        few = torch.logsumexp(log_w[:20], 0) - math.log(20)
        gaps = [(value - exact).abs().median() for value in (few, reached)]
        assert (reached > log_w.mean(0)).all() and gaps[1] < 0.2, (name, given, gaps)
        assert gaps[1] < 0.7 * gaps[0] or gaps[0] < 0.05, (name, given, gaps)
