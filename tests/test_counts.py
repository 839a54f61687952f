"""Counts of cells: library sizes, what networks read of them, and which numbers are counts."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from polymodal.batch import Batch, Modality
from polymodal.data import Dataset, Splits
from polymodal.data.kinds import KINDS
from polymodal.data.sources.array import described_by
from polymodal.data.sources.cells import is_counts
from polymodal.distributions import likelihood_of, observed_log_prob
from polymodal.distributions.library import LibraryCounts, library_size
from polymodal.methods import METHODS
from polymodal.networks.components import COMPONENTS, PrincipalComponents
from polymodal.networks.reading import LibraryFeatures
from polymodal.settings.recommended import recommended
from polymodal.training.fit import fit

D = 7
M = Modality("x", (D,), "library_counts", kind="counts")


def density(n=5, seed=0) -> LibraryCounts:
    torch.manual_seed(seed)
    raw = torch.cat([torch.randn(n, D), torch.zeros(n, D), 5 + torch.randn(n, 1)], -1)
    return likelihood_of(M).make(raw, M, torch.tensor([*[0.5] * D, -1.0]))


def test_twice_the_library_size_is_twice_the_mean() -> None:
    p = density()
    x = p.sample()
    once, twice = p.given(x).mean, p.given(2 * x).mean
    torch.testing.assert_close(twice, 2 * once)
    torch.testing.assert_close(once.sum(-1), x.sum(-1))  # the shares add up to 1


def test_counts_have_the_mean_and_the_variance_of_their_library_size() -> None:
    p = density(1)
    x = p.sample()
    given = p.given(x)
    draws = given.sample((40_000,)).double()
    mean, r = given.mean.double(), torch.tensor(0.5).exp()
    assert torch.allclose(draws.mean(0), mean, rtol=0.05, atol=0.05)
    assert torch.allclose(draws.var(0), mean + mean**2 / r, rtol=0.15, atol=0.3)


def test_an_absent_library_size_is_drawn_once_for_all_entries() -> None:
    p = density(1)
    draws = p.sample((40_000,)).double()
    torch.testing.assert_close(draws.mean(0).float(), p.mean, rtol=0.05, atol=0.05)
    spread = draws.sum(-1).log1p().std()
    assert spread > 1.3 * p.given(p.sample()).sample((40_000,)).sum(-1).log1p().std()
    mixed = torch.cat([p.sample(), torch.full((1, D), torch.nan)])
    both = LibraryCounts(
        p.logits.expand(2, D),
        torch.distributions.Normal(p.library.loc.expand(2), p.library.scale),
        p.log_inverse_dispersion,
        p.shares,
    ).given(mixed)
    torch.testing.assert_close(both.mean[0].sum(), mixed[0].sum())
    torch.testing.assert_close(both.mean[1:], p.mean)


def test_log_probabilities_add_up_to_one() -> None:
    p = density(1)
    given = p.given(torch.full((1, D), 4.0))
    grid = torch.arange(4000.0).reshape(-1, 1, 1).expand(-1, 1, D)
    torch.testing.assert_close(given.entry_log_prob(grid).exp().sum(0), torch.ones(1, D).double())


def test_the_density_is_that_of_counts_given_their_total_and_of_the_total() -> None:
    p = density()
    x = p.sample()
    expected = p.given(x).entry_log_prob(x).sum(-1) + p.library.log_prob(x.sum(-1).log())
    torch.testing.assert_close(p.log_prob(x).double(), expected, rtol=1e-5, atol=1e-4)


def test_nothing_depends_on_what_stands_in_a_hole() -> None:
    p = density()
    x = p.sample()
    x[:, 2] = torch.nan
    kept = [k for k in range(D) if k != 2]
    size = library_size(x, p.shares)
    torch.testing.assert_close(size[:, 0], x[:, kept].sum(1) * D / (D - 1))  # equal usual shares
    logs = p.given(x).entry_log_prob(x.nan_to_num())[:, kept].sum(-1)
    logs = logs + p.library.log_prob(size[:, 0].log())
    torch.testing.assert_close(observed_log_prob(p, x).double(), logs, rtol=1e-5, atol=1e-4)
    nothing = torch.full_like(x, torch.nan)
    assert torch.equal(observed_log_prob(p, nothing), torch.zeros(5))


def described(seed=0, n=300) -> tuple[Modality, torch.Tensor]:
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.ones(D), n)
    x = torch.from_numpy(rng.poisson(share * rng.lognormal(7, 0.5, (n, 1)))).float()
    return described_by(replace(M), x, range(n)), x


def test_networks_read_shares_standardised_and_the_library_size() -> None:
    m, x = described()
    features = LibraryFeatures(m)(x)
    torch.testing.assert_close(features[:, :D].mean(0), torch.zeros(D), atol=1e-3, rtol=0)
    torch.testing.assert_close(
        features[:, :D].std(0, correction=0), torch.ones(D), atol=1e-3, rtol=0
    )
    deeper = LibraryFeatures(m)(3 * x)
    torch.testing.assert_close(deeper[:, :D], features[:, :D])
    torch.testing.assert_close(deeper[:, D] - features[:, D], torch.full((len(x),), np.log(3.0)))


def test_the_statistics_are_those_of_observed_counts() -> None:
    """Holes at random change the statistics little: library sizes are those of whole cells."""
    m, x = described()
    holes = x.masked_fill(
        torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < 0.2, np.nan
    )
    seen = described_by(replace(M), holes, range(len(x)))
    assert seen.holes and np.abs(np.subtract(seen.location, m.location)).max() < 0.25


@pytest.mark.parametrize("method", ["jnf", "miwae", "mvtcae"])
def test_methods_read_and_fill_counts(method) -> None:
    m, x = described()
    other = Modality("y", (3,))
    model = METHODS[method]([m, other], latent=2).model
    batch = Batch({"x": x[:6], "y": torch.randn(6, 3)})
    z = model.latents(batch, 4)
    assert model.log_p("x", batch, z).isfinite().all()
    part = model.readable(Batch({"x": x[:6]}, {"x": torch.arange(6) < 3}))
    p = model.predictive("x", part, model.decoders["x"](model.latents(part, 4)))
    torch.testing.assert_close(p.mean[:, :3].sum(-1), x[:3].sum(-1).expand(4, -1))
    assert (p.mean[:, 3:].sum(-1) - x[3:6].sum(-1)).abs().min() > 0


def test_decoders_start_at_the_moments_of_the_counts() -> None:
    from polymodal.training.prepare import start_decoders

    m, x = described()
    model = METHODS["vae"]([m], latent=2).model
    decoder = model.decoders["x"]
    start_decoders(model, Dataset([m], {"x": x}))
    with torch.no_grad():
        for weight in decoder.net.parameters():
            weight.zero_()
    p = decoder(torch.zeros(1, 2))
    torch.testing.assert_close(p.log_shares.exp()[0], x.mean(0) / x.mean(0).sum())
    torch.testing.assert_close(p.library.loc.exp()[0], x.sum(1).mean())


def test_which_numbers_look_like_counts() -> None:
    rng = np.random.default_rng(0)
    assert is_counts(rng.poisson(2.0, (30, 4)).astype(np.float32))
    assert not is_counts(rng.poisson(2.0, (30, 4)) + 0.5)
    assert not is_counts(rng.poisson(2.0, (30, 4)) - 1)
    assert not is_counts(rng.integers(373, 460_000, (100, 19)).astype(np.float32))
    assert is_counts(
        np.where(rng.random((100, 19)) < 0.5, 0, rng.integers(373, 460_000, (100, 19)))
    )


def test_counts_are_counts_even_if_all_are_0_or_1() -> None:
    assert KINDS["counts"].describe("x", [np.eye(3)]).likelihood == "library_counts"
    with pytest.raises(ValueError, match=r"is of vectors of counts, got shape \(2, 3\)"):
        likelihood_of(Modality("x", (2, 3), "library_counts"))


def wide(n=80, d=150, seed=0) -> tuple[Modality, torch.Tensor]:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 2))
    share = np.exp(z @ rng.normal(size=(2, d)))
    size = rng.lognormal(8, 0.4, (n, 1))
    x = torch.from_numpy(rng.poisson(size * share / share.sum(1, keepdims=True))).float()
    m = Modality("x", (d,), "library_counts", kind="counts")
    return described_by(m, x, range(n)), x


def test_encoders_of_many_counts_read_their_principal_components() -> None:
    m, x = wide()
    part = PrincipalComponents("x", LibraryFeatures(m), m.shape[0] + 1)
    part.start_at(x)
    scores = part(x).double()
    torch.testing.assert_close(scores.mean(0), torch.zeros(COMPONENTS).double(), atol=1e-3, rtol=0)
    covariance = scores.T @ scores / len(x)
    off = covariance - covariance.diagonal().diag()
    assert off.abs().max() < 1e-3 * covariance.max()  # uncorrelated
    torch.testing.assert_close(covariance.diagonal().mean().item(), 1.0, atol=1e-3, rtol=0)
    features = LibraryFeatures(m)(x).double()
    variance = torch.linalg.eigvalsh(torch.cov(features.T, correction=0)).flip(0)[:COMPONENTS]
    torch.testing.assert_close(
        covariance.diagonal().sort(descending=True).values,
        variance / variance.mean(),
        rtol=1e-2,
        atol=1e-3,
    )


def test_components_are_found_before_training_and_kept() -> None:
    m, x = wide()
    data = Dataset([m, Modality("y", (2,))], {"x": x, "y": torch.randn(len(x), 2)})
    splits = Splits(data, data, data, "wide")
    run = fit("jnf", splits, latent=2, epochs=0, progress=False)
    found = [p for p in run.model.modules() if isinstance(p, PrincipalComponents)]
    assert len(found) == 2  # of the joint encoder and of the expert
    assert torch.equal(found[0].directions, found[1].directions)
    features = found[0](x).double()
    assert abs((features.square().mean(0)).mean().item() - 1) < 0.01
    few = x.clone()
    few[:, ::3] = torch.nan
    assert found[0](few).isfinite().all()


def test_a_method_is_trained_for_steps_and_small_modalities_count() -> None:
    m, x = wide()
    data = Dataset([m, Modality("y", (2,), kind="vector")], {"x": x, "y": torch.randn(len(x), 2)})
    advice = recommended(Splits(data, data, data, "wide"))
    assert advice.method == "jnf" and advice.options == {"rescale": "root"}
    assert advice.training["epochs"] * (len(x) // advice.training["batch"]) >= 1500
