"""Annealed importance sampling against the evidence of a linear-Gaussian law."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from polymodal.batch import Batch
from polymodal.data import Dataset
from polymodal.distributions.products import Product
from polymodal.metrics import METRICS, Measurement, MeasurementOptions
from polymodal.metrics.decoding import Decoding
from polymodal.metrics.likelihood import NoDensityError, importance_log_likelihood
from polymodal.metrics.likelihood_annealed import annealed_log_likelihood
from polymodal.priors import StandardNormal
from polymodal.sampling import AIS, HMC
from polymodal.sampling.annealing import schedule
from test_metrics import LAW, NAMES, linear, repeated, wide, within

pytestmark = pytest.mark.usefixtures("double")
COARSE = AIS(chains=4, temperatures=4)


def measurement(n: int = 30, **options) -> Measurement:
    values = LAW.sample(n, torch.Generator().manual_seed(2))
    data = Dataset(LAW.modalities, dict(values.x), present=dict(values.present))
    options = dict(ais_items=20, ais_chains=8, ais_temperatures=40, samples=1) | options
    return Measurement(linear(wide), data, options=MeasurementOptions(**options))


@pytest.mark.parametrize("names", [NAMES, ["x1"], ["x1", "x3"]], ids="+".join)
def test_the_evidence_is_found_within_its_errors(names: list[str]) -> None:
    batch = LAW.sample(60).only(names)
    found = annealed_log_likelihood(linear(wide), batch)
    z = (found.log_normalizer - LAW.log_evidence(batch)) / found.error
    assert z.abs().max() < 5 and abs(z.mean()) < 3 / math.sqrt(60) * 1.5
    assert z.square().mean().sqrt().item() == pytest.approx(1, abs=0.35), "errors are honest"
    assert found.error.max() < 0.3 and (found.acceptance > 0.6).all()


def test_few_temperatures_are_imprecise_and_still_without_bias() -> None:
    """exp of the estimate has the evidence as its mean, and the log lies below."""
    batch = repeated(3000)
    found = annealed_log_likelihood(linear(), batch, COARSE)
    off = found.log_normalizer - LAW.log_evidence(batch)
    assert within(off.exp(), 1.0)
    assert off.mean() < -5 * off.std() / math.sqrt(len(off)) < 0
    many = annealed_log_likelihood(linear(), repeated(200), AIS(chains=4, temperatures=64))
    ratio = (found.log_weight.std(0).mean() / many.log_weight.std(0).mean()).item()
    assert ratio > 2.5, "the spread falls with the number of temperatures"


def test_the_posterior_is_not_used_and_absent_values_count_nothing() -> None:
    batch = LAW.sample(40)
    present = {"x2": torch.arange(40) % 2 == 0}
    holes = Batch(batch.x, present)
    model = linear(lambda batch: pytest.fail("the posterior is asked"))
    found = annealed_log_likelihood(model, holes)
    z = (found.log_normalizer - LAW.log_evidence(holes)) / found.error
    assert z.abs().max() < 5
    assert (LAW.log_evidence(holes) - LAW.log_evidence(batch)).abs().max() > 1, "they would count"


def test_pieces_give_the_same_law_and_the_modalities_weights_are_off() -> None:
    batch = LAW.sample(12)
    truth = LAW.log_evidence(batch)
    model, memory = linear(weight=7.0), 4 * 8 * 512 * 2 * 16 * 5  # five samples at a time
    found = annealed_log_likelihood(model, batch, decoding=Decoding(memory=memory))
    assert ((found.log_normalizer - truth) / found.error).abs().max() < 5
    assert model.decoders["x1"].most == 4 * 16, "twelve samples in three pieces"


def counted(calls: list[int]) -> Callable[[Tensor], Tensor]:
    def log_prob(z: Tensor) -> Tensor:
        calls.append(len(z))
        return -z.square().sum(-1) / 2

    return log_prob


def test_chains_and_items_share_each_call() -> None:
    counts = []
    for chains, items in ((2, 1), (50, 30)):
        calls: list[int] = []
        start = Independent(Normal(torch.zeros(items, 2), 2.0), 1)
        torch.manual_seed(0)
        sampler = AIS(chains=chains, temperatures=10)
        sampler(counted(calls), lambda n, s=start: s.sample((n,)), start.log_prob)
        assert set(calls) == {chains}
        counts.append(len(calls))
    assert max(counts) <= 2 * (1 + 10 * 12) and abs(counts[0] - counts[1]) < 60


def test_temperatures_rise_to_one() -> None:
    for count in (1, 2, 100):
        t = schedule(count)
        assert len(t) == count and t == sorted(t) and t[0] > 0 and t[-1] == 1
    with pytest.raises(ValueError, match="at least 2 chains"):
        AIS(chains=1)
    with pytest.raises(ValueError, match="temperatures"):
        AIS(temperatures=0)


def test_metrics_of_the_joint_likelihood_and_of_the_gap() -> None:
    """Of the first items; the gap is that of the same items and draws as importance sampling's."""
    m = measurement()
    first = m.data.batch(torch.arange(20))
    exact = LAW.log_evidence(first)
    value, error, n = METRICS["ais_joint_log_likelihood"].compute(m, (), "x1+x2+x3")
    own, _, _ = METRICS["ais_error"].compute(m, (), "x1+x2+x3")
    assert n == 20 and abs(value - exact.mean().item()) < 4 * own / math.sqrt(20)
    assert error == pytest.approx(exact.std().item() / math.sqrt(20), rel=0.05)
    gap, gap_error, n = METRICS["ais_gap"].compute(m, (), "x1+x2+x3")
    with m.stream("joint"):
        short = exact - importance_log_likelihood(m.model, m.data.batch(torch.arange(30)), 1)[:20]
    assert n == 20 and abs(gap - short.mean().item()) < 4 * own / math.sqrt(20)
    assert abs(gap) > 0.2 and gap_error > 0, "one draw of a posterior off the mark is far off"
    after = measurement()
    whole = METRICS["joint_log_likelihood"].compute(after, (), "x1+x2+x3")
    assert METRICS["ais_gap"].compute(after, (), "x1+x2+x3")[0] == gap
    assert METRICS["joint_log_likelihood"].compute(m, (), "x1+x2+x3") == whole


def test_the_conditional_likelihood_is_that_of_the_law() -> None:
    m = measurement(ais_temperatures=100, ais_chains=16)
    x = m.data.batch(torch.arange(20))
    for given, target in ((("x1",), "x2"), (("x1", "x3"), "x2")):
        value, _, n = METRICS["ais_conditional_log_likelihood"].compute(m, given, target)
        exact = LAW.conditional(x.only([target, *given]), target).log_prob(x.x[target]).mean()
        assert abs(value - exact.item()) < 0.1 and n == 20


def test_a_subset_is_annealed_once_for_all_targets() -> None:
    m = measurement()
    asked = []
    compute = m.stream
    m.stream = lambda *keys: asked.append(keys) or compute(*keys)
    for target in ("x2", "x3"):
        METRICS["ais_conditional_log_likelihood"].compute(m, ("x1",), target)
    assert asked == [("ais", "x1", "x2"), ("ais", "x1"), ("ais", "x1", "x3")]


class Drawn(nn.Module):
    """A prior that only a sampler draws."""

    def forward(self) -> Product:
        return Product([wide(LAW.sample(1))], StandardNormal(2)(), HMC())


def test_a_prior_without_a_density_is_refused() -> None:
    model = linear()
    model.prior = Drawn()
    with pytest.raises(NoDensityError, match="a prior with a density"):
        annealed_log_likelihood(model, LAW.sample(2))
