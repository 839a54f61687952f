"""Importance resampling: closed forms, normalisers, and what it leaves alone."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from polymodal.sampling import HMC, Importance
from test_mcmc import F64, Gaussians, normal


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_products_of_gaussians() -> None:
    """From the mixture of the experts; the integral of q1 q2 / p in closed form."""
    g = Gaussians(batch=4, dim=4)
    z, report = Importance(200_000)(
        g.log_prob, lambda n: g.start.sample((n,)), g.start.log_prob, 10_000
    )
    error = (z.mean(0) - g.mean) / g.covariance.diagonal(dim1=-1, dim2=-2).sqrt()
    scatter = report.ess.clamp(max=10_000).rsqrt()
    assert scatter.min() == 0.01 and scatter.max() < 0.12, "one pair of experts lies far apart"
    assert (error / scatter.unsqueeze(-1)).abs().max() < 4.5
    d = z - z.mean(0)
    covariance = torch.einsum("nbi,nbj->bij", d, d) / len(z)
    off = torch.linalg.matrix_norm(covariance - g.covariance) / torch.linalg.matrix_norm(
        g.covariance
    )
    assert (off / scatter).max() < 5
    exact = (
        g.log_prob(g.mean) + 2 * math.log(2 * math.pi) + torch.linalg.slogdet(g.covariance)[1] / 2
    )
    assert ((report.log_normalizer - exact).abs() / scatter).max() < 4
    assert (
        report.rows == 4 * 200_000 and report.calls == 49 and report.warning() is None
    )  # 4,096 of 4 items at once


def test_one_draw_of_each_item_has_the_targets_law() -> None:
    start = Independent(Normal(torch.zeros(20_000, 1, dtype=F64), 3.0), 1)
    target = lambda z: -2 * (z - 1).square().sum(-1)  # N(1, 1/4)
    z, report = Importance(200)(target, lambda n: start.sample((n,)), start.log_prob, 1)
    assert z.shape == (1, 20_000, 1)
    assert z.mean().item() == pytest.approx(1, abs=0.02) and z.var().item() == pytest.approx(
        0.25, abs=0.02
    )
    weight = lambda v: torch.exp(target(v) - start.log_prob(v))
    start = Independent(Normal(torch.zeros(1, 1, dtype=F64), 3.0), 1)  # of one item
    v = start.sample((4000,))
    expected = 200 * weight(v).mean() ** 2 / weight(v).square().mean()
    assert report.ess.mean().item() == pytest.approx(expected.item(), rel=0.1)


def test_what_no_start_reaches_is_left_alone_and_chains_go_there() -> None:
    """As products of learned densities do, the target rises again far from where anything was
    learned.
    """

    def target(z: Tensor) -> Tensor:
        return torch.logaddexp(normal(z), 12 * (z.norm(dim=-1) - 4).clamp(max=20) - 8)

    start = Independent(Normal(torch.zeros(50, 8, dtype=F64), 1.0), 1)
    draw = lambda n: start.sample((n,))
    _, report = Importance(64)(start.log_prob, draw, start.log_prob, 4)
    torch.testing.assert_close(
        report.ess, torch.full((50,), 64.0, dtype=F64)
    )  # the target is the start
    torch.testing.assert_close(report.log_normalizer, torch.zeros(50, dtype=F64))
    far, _ = HMC()(target, draw, start.log_prob, 4)
    here, _ = Importance(64)(target, draw, start.log_prob, 4)
    assert here.norm(dim=-1).max() < 7 < far.norm(dim=-1).median()


def test_nowhere_to_go_is_reported_and_few_proposals_are_warned_of() -> None:
    start = Independent(Normal(torch.zeros(3, 2, dtype=F64), 1.0), 1)
    draw = lambda n: start.sample((n,))
    for nothing in (math.nan, -math.inf, math.inf):
        z, report = Importance(16)(
            lambda z, value=nothing: normal(z) * 0 + value, draw, start.log_prob, 2
        )
        assert (
            z.isfinite().all()
            and (report.log_normalizer == -math.inf).all()
            and (report.ess == 0).all()
        )
        assert "100% of the items" in report.warning()
    _, report = Importance(16)(lambda z: 500 * normal(z), draw, start.log_prob, 1)
    assert "raise `proposals`" in report.warning()


def test_what_is_wrong_is_refused() -> None:
    start = Independent(Normal(torch.zeros(3, 2, dtype=F64), 1.0), 1)
    draw = lambda n: start.sample((n,))
    with pytest.raises(ValueError, match="proposals must be positive"):
        Importance(0)(normal, draw, start.log_prob, 1)
    for wrong in (lambda z: -z.square(), lambda z: -z.square().sum()):
        with pytest.raises(ValueError, match="one value for each draw"):
            Importance(16)(wrong, draw, start.log_prob, 1)


def test_a_thousand_draws_of_few_items_do_not_hold_every_proposal() -> None:
    """What is drawn at once stays bounded: the start is never asked for all proposals of many
    items.
    """
    start = Independent(Normal(torch.zeros(64, 3), 1.0), 1)
    asked = []
    z, _ = Importance(5000)(
        start.log_prob, lambda n: (asked.append(n), start.sample((n,)))[1], start.log_prob, 100
    )
    assert (
        z.shape == (100, 64, 3)
        and max(asked) == 2**14 // 64
        and sum(asked[1:]) == 5000
        and asked[0] == 1
    )
