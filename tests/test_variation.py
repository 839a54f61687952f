"""Both conditional likelihoods and the variation of information, against the closed forms of the
linear-Gaussian model.
"""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from polymodal.batch import Batch
from polymodal.data import Dataset
from polymodal.distributions.products import Product
from polymodal.metrics import METRICS, Measurement, MeasurementOptions
from polymodal.metrics.likelihood import (
    NoDensityError,
    importance_conditional_log_likelihood,
    monte_carlo_log_likelihood,
)
from polymodal.metrics.variation import monte_carlo_variation, variation_bound
from polymodal.priors import StandardNormal
from polymodal.sampling import HMC
from test_metrics import LAW, NAMES, linear, repeated, wide, within

pytestmark = pytest.mark.usefixtures("double")

PAIR = ["x1", "x2"]


def exact_conditional(batch: Batch, target: str, given: list[str]) -> torch.Tensor:
    return LAW.conditional(batch.only([target, *given]), target).log_prob(batch.x[target])


@pytest.mark.parametrize(("target", "given"), [("x1", ["x2"]), ("x2", ["x1", "x3"])])
def test_the_ratio_of_evidences_is_the_models_own_conditional(target, given) -> None:
    """With exact posteriors one draw is exact. With others it converges to the same number, while
    the likelihood of what is generated is that of another law.
    """
    batch = LAW.sample(12)
    found = importance_conditional_log_likelihood(linear(), batch, target, given, 1)
    torch.testing.assert_close(found, exact_conditional(batch, target, given))
    one = repeated(40, row=1)
    exact = exact_conditional(one, target, given)
    ours = importance_conditional_log_likelihood(linear(wide), one, target, given, 4000) - exact
    other = monte_carlo_log_likelihood(linear(wide), one, target, given, 4000) - exact
    assert within(ours, 0.0, 4.5) and ours.abs().max() < 0.1
    assert other.mean().abs() > 10 * other.std() / math.sqrt(len(other))


def test_the_ratio_is_nan_where_a_sample_lacks_one_of_them() -> None:
    batch, has = LAW.sample(5), torch.tensor([True, False, True, False, True])
    holes = Batch(batch.x, {"x2": has})
    found = importance_conditional_log_likelihood(linear(), holes, "x1", ["x2"], 1)
    assert torch.equal(found.isnan(), ~has)
    torch.testing.assert_close(found[has], exact_conditional(batch, "x1", ["x2"])[has])


def test_the_ratio_refuses_what_it_cannot_compute() -> None:
    batch = LAW.sample(2)
    with pytest.raises(ValueError, match="target must not be given"):
        importance_conditional_log_likelihood(linear(), batch, "x1", ["x1", "x2"])
    sampled = linear(lambda b: Product([wide(b)], StandardNormal(2)(), HMC()))
    with pytest.raises(NoDensityError, match="normalised"):
        importance_conditional_log_likelihood(sampled, batch, "x1", ["x2"], 2)
    with pytest.raises(NoDensityError, match="needs draws only"):
        variation_bound(sampled, batch, PAIR, 2)
    with pytest.raises(ValueError, match=r"two modalities, got \['x1'\]"):
        monte_carlo_variation(linear(), batch, ["x1"], 2)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        variation_bound(linear(), batch, PAIR, 0)


def conditional_entropies() -> float:
    """H(x1|x2) + H(x2|x1) of the law, nats: 2 H(x1, x2) - H(x1) - H(x2)."""
    size = {m: len(b) for m, b in LAW.bias.items()}
    n, k = size["x1"], size["x1"] + size["x2"]
    joint = LAW.joint().covariance_matrix[:k, :k]
    parts = (joint, joint[:n, :n], joint[n:, n:])
    both, first, second = (MultivariateNormal(c.new_zeros(len(c)), c).entropy() for c in parts)
    return float(2 * both - first - second)


def test_the_variation_of_information_is_the_sum_of_conditional_entropies() -> None:
    batch = LAW.sample(4000)
    exact = -sum(exact_conditional(batch, *p) for p in (("x1", ["x2"]), ("x2", ["x1"])))
    assert within(exact, conditional_entropies()), "the closed forms agree"
    few = LAW.sample(6)
    found = monte_carlo_variation(linear(), few, PAIR, 40_000)
    exact = -sum(exact_conditional(few, *p) for p in (("x1", ["x2"]), ("x2", ["x1"])))
    torch.testing.assert_close(found, exact, atol=0.1, rtol=0)


def expected_bound(batch: Batch, q: MultivariateNormal) -> torch.Tensor:
    """-E_q log p(x1, x2|z) + KL(q || p) + KL(q || q_1) + KL(q || q_2) for normal q, in closed
    form.
    """
    total = kl_divergence(q, MultivariateNormal(torch.zeros(2), torch.eye(2)))
    for m in PAIR:
        A, b, s = LAW.loading[m], LAW.bias[m], LAW.noise[m]
        p = MultivariateNormal(q.mean @ A.T + b, s**2 * torch.eye(len(b)))
        trace = (A @ q.covariance_matrix @ A.T).diagonal(dim1=-2, dim2=-1).sum(-1) / s**2
        total = total - p.log_prob(batch.x[m]) + 0.5 * trace
        total = total + kl_divergence(q, LAW.posterior(batch.only([m])))
    return total


def test_the_bound_is_the_closed_form_and_lies_above_by_at_least_the_divergence() -> None:
    """Eq. (15), with exact posteriors; its slack is KL(q || p) and the gaps of Jensen's
    inequality.
    """
    batch = LAW.sample(8)
    q = LAW.posterior(batch.only(PAIR))
    found = variation_bound(linear(), batch, PAIR, 8000)
    torch.testing.assert_close(found, expected_bound(batch, q), atol=0.08, rtol=0)
    assert variation_bound(linear(), batch, PAIR, 70).shape == (8,)
    slack = found - monte_carlo_variation(linear(), batch, PAIR, 8000)
    to_prior = kl_divergence(q, MultivariateNormal(torch.zeros(2), torch.eye(2)))
    assert (slack > to_prior - 0.15).all() and (slack < to_prior + 3).all()


def test_the_metrics_are_means_over_the_samples_that_have_both() -> None:
    batch = LAW.sample(30)
    has = torch.arange(30) < 20
    data = Dataset(LAW.modalities, dict(batch.x), present={"x2": has})
    m = Measurement(linear(), data, options=MeasurementOptions(samples=400))
    places = list(METRICS["variation_of_information"].places(NAMES, []))
    assert places == [((), "x1+x2"), ((), "x1+x3"), ((), "x2+x3")]
    part = batch.rows(has)
    exact = -sum(exact_conditional(part, *p) for p in (("x1", ["x2"]), ("x2", ["x1"])))
    value, error, n = METRICS["variation_of_information"].compute(m, (), "x1+x2")
    assert n == 20 and value == pytest.approx(float(exact.mean()), abs=0.1) and error > 0
    bound, _, n = METRICS["variation_of_information_bound"].compute(m, (), "x1+x2")
    exact = expected_bound(part, LAW.posterior(part.only(PAIR))).mean()
    assert n == 20 and bound == pytest.approx(float(exact), abs=0.1)
    ratio, _, n = METRICS["conditional_log_likelihood_ratio"].compute(m, ("x2",), "x1")
    exact = exact_conditional(part, "x1", ["x2"]).mean()
    assert n == 20 and ratio == pytest.approx(float(exact), abs=1e-6)
