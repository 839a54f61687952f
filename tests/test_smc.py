"""Annealed SMC: weights of separate modes, normalisers, closed forms, resampling and its costs."""

import math

import pytest
import torch
from torch import Tensor

from polymodal.sampling import HMC, SMC
from polymodal.sampling.smc import log_weights, next_temperature, relative_ess, resample
from test_mcmc import F64, Gaussians, normal


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def modes(z: Tensor) -> Tensor:
    """3 nats times the mixture 0.3 N(-10, 1) + 0.7 N(10, 1) along the first direction, N(0, 1)
    along the others.
    """
    shift = torch.zeros(z.shape[-1], dtype=z.dtype)
    shift[0] = 10
    both = torch.logaddexp(math.log(0.3) + normal(z + shift), math.log(0.7) + normal(z - shift))
    return both - z.shape[-1] / 2 * math.log(2 * math.pi) + 3


def wide(batch: int, dim: int) -> torch.distributions.Distribution:
    scale = torch.full((batch, dim), 2.0, dtype=F64)
    scale[:, 0] = 15
    return torch.distributions.Independent(
        torch.distributions.Normal(torch.zeros_like(scale), scale), 1
    )


def test_modes_20_sd_apart_get_their_weights_and_the_normaliser_is_right() -> None:
    start = wide(8, 2)
    z, diagnostics = SMC(particles=4000)(modes, lambda n: start.sample((n,)), start.log_prob, 4000)
    share = (z[..., 0] < 0).double().mean(0)
    assert share.mean().item() == pytest.approx(0.3, abs=0.02)
    assert (share - 0.3).abs().max() < 0.06
    assert len(z[:, 0].unique(dim=0)) > 3600, "copies have moved apart"
    assert diagnostics.log_normalizer.mean().item() == pytest.approx(3, abs=0.02)
    assert (diagnostics.log_normalizer - 3).abs().max() < 0.15
    right = z[..., 0] > 0
    assert z[..., 0][right].mean().item() == pytest.approx(10, abs=0.02)
    assert z[..., 0][right].var().item() == pytest.approx(1, abs=0.04)
    assert z[..., 1].var().item() == pytest.approx(1, abs=0.04)
    assert diagnostics.warning() is None


def test_where_a_chain_stays_in_its_mode() -> None:
    start = lambda n: torch.full((n, 8, 2), 10.0, dtype=F64) + torch.randn(n, 8, 2, dtype=F64)
    z, _ = HMC()(modes, start, modes, 160)
    assert (z[..., 0] > 0).all()


def test_products_of_gaussians() -> None:
    """From the mixture of the experts; the integral of q1 q2 / p in closed form."""
    g = Gaussians(batch=4, dim=4)
    z, diagnostics = SMC(particles=6000)(
        g.log_prob, lambda n: g.start.sample((n,)), g.start.log_prob, 6000
    )
    error = (z.mean(0) - g.mean) / (g.covariance.diagonal(dim1=-1, dim2=-2) / 6000).sqrt()
    assert error.abs().max() < 6, (
        "particles are kin: their standard error is up to twice that of independent draws"
    )
    d = z - z.mean(0)
    covariance = torch.einsum("nbi,nbj->bij", d, d) / len(z)
    off = torch.linalg.matrix_norm(covariance - g.covariance) / torch.linalg.matrix_norm(
        g.covariance
    )
    assert off.max() < 0.05
    exact = (
        g.log_prob(g.mean) + 2 * math.log(2 * math.pi) + torch.linalg.slogdet(g.covariance)[1] / 2
    )
    assert (diagnostics.log_normalizer - exact).abs().max() < 0.1
    assert (diagnostics.log_normalizer - exact).mean().abs() < 0.05
    assert diagnostics.acceptance.min() > 0.65 and diagnostics.rhat is None


def test_a_start_that_is_the_target_takes_one_temperature() -> None:
    start = wide(3, 2)
    z, diagnostics = SMC(particles=64, moves=1)(
        start.log_prob, lambda n: start.sample((n,)), start.log_prob, 10
    )
    torch.testing.assert_close(diagnostics.log_normalizer, torch.zeros(3, dtype=F64))
    assert (diagnostics.unique == 1).all() and (diagnostics.ess == 64).all()
    assert diagnostics.transitions == 64 and z.shape == (10, 3, 2)


def test_half_a_support() -> None:
    """A half-normal, -inf below 0, from N(0, 2^2): no particle below, log of the integral 0.5
    log(pi / 2).
    """
    log_prob = lambda z: torch.where(z[..., 0] > 0, normal(z), -math.inf)
    start = torch.distributions.Independent(
        torch.distributions.Normal(torch.zeros(5, 1, dtype=F64), 2.0), 1
    )
    z, diagnostics = SMC(particles=2000)(
        log_prob, lambda n: start.sample((n,)), start.log_prob, 2000
    )
    assert (z > 0).all() and (diagnostics.divergent > 0).all()
    assert diagnostics.log_normalizer.mean().item() == pytest.approx(
        math.log(math.pi / 2) / 2, abs=0.03
    )
    assert z.mean().item() == pytest.approx(math.sqrt(2 / math.pi), abs=0.02)


def test_no_support_at_all_is_reported() -> None:
    start = wide(2, 2)
    nowhere = lambda z: normal(z) * math.nan
    _, diagnostics = SMC(particles=16, temperatures=5)(
        nowhere, lambda n: start.sample((n,)), start.log_prob, 1
    )
    assert (diagnostics.log_normalizer == -math.inf).all()
    assert "Acceptance" in diagnostics.warning() and (diagnostics.unique == 1).all()


def test_resampling_is_systematic_and_unbiased() -> None:
    log_weight = torch.randn(50, 4000, dtype=F64)[:, :1].expand(50, 4000)
    index = resample(log_weight)
    copies = torch.zeros(50, 4000, dtype=F64).scatter_add(0, index, torch.ones(50, 4000, dtype=F64))
    expected = 50 * log_weight.softmax(0)
    assert (copies >= expected.floor()).all() and (copies <= expected.ceil()).all()
    assert (copies.mean(1) - expected[:, 0]).abs().max() < 0.04
    batch = resample(
        torch.stack([torch.zeros(50, dtype=F64), torch.arange(50, dtype=F64) * 100], 1)
    )
    assert torch.equal(batch[:, 0], torch.arange(50)) and (batch[:, 1] == 49).all()


def test_temperatures_keep_the_share_they_are_asked_for() -> None:
    gain = torch.randn(200, 4, dtype=F64) * torch.tensor([0.1, 5.0, 500.0, 1e6], dtype=F64)
    t = torch.tensor([0.2, 0.2, 0.2, 0.0], dtype=F64)
    new = next_temperature(t, gain, 0.5)
    assert new[0] == 1 and (new > t).all()
    kept = relative_ess(log_weights(new - t, gain))
    torch.testing.assert_close(kept[1:], torch.full((3,), 0.5, dtype=F64), atol=1e-3, rtol=0)
    edge = torch.tensor([[math.inf], [-math.inf], [1.0]])  # a temperature that stays weighs nothing
    assert torch.equal(log_weights(torch.zeros(1), edge), torch.zeros(3, 1))
    uneven = torch.tensor([0.1, 0.2, 0.7], dtype=F64).log().unsqueeze(-1)
    assert relative_ess(uneven).item() == pytest.approx(1 / (3 * (0.01 + 0.04 + 0.49)))


def test_gradients_are_counted_and_none_is_computed_twice() -> None:
    seen, starts = [], []
    start = wide(2, 2)

    def log_prob(z: Tensor) -> Tensor:
        seen.append(z.detach().clone())
        return modes(z)

    def start_log_prob(z: Tensor) -> Tensor:
        starts.append(z.detach().clone())
        return start.log_prob(z)

    z, diagnostics = SMC(particles=32)(log_prob, lambda n: start.sample((n,)), start_log_prob, 40)
    assert z.shape == (40, 2, 2) and seen[0].shape == (
        40,
        2,
        2,
    ), "as many particles as draws are asked for"
    assert diagnostics.gradients == len(seen) == len(starts)
    assert all(torch.equal(a, b) for a, b in zip(seen, starts, strict=True))
    points = torch.stack(seen).flatten(0, -2)
    assert len(points.unique(dim=0)) == len(points)


def test_fewer_draws_than_particles_come_from_all_of_them() -> None:
    start = wide(500, 1)
    z, _ = SMC(particles=64)(modes, lambda n: start.sample((n,)), start.log_prob, 32)
    left = (z[..., 0] < 0).double()
    assert left.mean().item() == pytest.approx(0.3, abs=0.05)
    agree = lambda lag: (left[lag:] == left[:-lag]).double().mean().item()
    assert agree(1) == pytest.approx(agree(16), abs=0.02), (
        "in random order: neighbours are no more alike than others"
    )


@pytest.mark.parametrize(
    ("settings", "n", "message"),
    [
        ({}, 0, "n must be positive"),
        ({"ess": 1.0}, 1, "0 and 1"),
        ({"moves": 0}, 1, "moves must be positive"),
    ],
)
def test_errors_say_what_was_expected(settings: dict, n: int, message: str) -> None:
    start = wide(2, 2)
    with pytest.raises(ValueError, match=message):
        SMC(**settings)(modes, lambda n: start.sample((n,)), start.log_prob, n)
