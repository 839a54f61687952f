"""Simulation-based calibration and TARP: of exact and wrong posteriors, beside the package sbi."""

import math
from collections.abc import Callable

import pytest
import torch
from sbi.diagnostics.sbc import _run_sbc
from sbi.diagnostics.tarp import _run_tarp
from scipy.stats import kstest
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal

from polymodal.batch import Batch
from polymodal.data import Dataset
from polymodal.metrics import METRICS, Measurement, MeasurementOptions, UnavailableError
from polymodal.metrics.posterior_calibration import (
    calibration,
    deviation,
    expected_deviation,
    nearer,
    p_value,
    ranks,
    simulated,
)
from polymodal.networks.named import Named
from test_metrics import LAW, NAMES, linear

pytestmark = pytest.mark.usefixtures("double")
SUBSETS = [("x1",), ("x2", "x3"), tuple(NAMES)]
DEVIATIONS = ("sbc_deviation", "tarp_deviation")
P_VALUES = ("sbc_p_value", "tarp_p_value")


def scaled(size: float, shift: float = 0.0) -> Callable[[Batch], Distribution]:
    """The exact posterior with its standard deviations times `size`, moved by `shift` of them."""

    def posterior(batch: Batch) -> Distribution:
        exact = LAW.posterior(batch)
        factor = exact.scale_tril
        mean = exact.mean + shift * factor.diagonal(dim1=-2, dim2=-1)
        return MultivariateNormal(mean, scale_tril=size * factor)

    return posterior


def measured(
    posterior: Callable[[Batch], Distribution], n: int = 500, seed: int = 0, **options
) -> Measurement:
    data = Dataset(LAW.modalities, dict(LAW.sample(5).x))
    chosen = MeasurementOptions(sbc_simulations=n, seed=seed, **options)
    return Measurement(linear(posterior), data, options=chosen)


def values(m: Measurement, given: tuple[str, ...], *names: str) -> list[float]:
    return [METRICS[name].compute(m, given, "z")[0] for name in names]


@pytest.mark.parametrize("given", SUBSETS, ids="+".join)
def test_exact_posteriors_are_uniform_and_wrong_ones_are_seen(given: tuple[str, ...]) -> None:
    m = measured(scaled(1.0))
    for name in DEVIATIONS:
        value, expected = values(m, given, name, f"{name}_expected")
        assert value < 2 * expected < 0.15
    assert min(values(m, given, *P_VALUES)) > 0.01
    dispersion, error, n = METRICS["sbc_dispersion"].compute(m, given, "z")
    assert abs(dispersion - 1) < 3 * error < 0.2 and n == 500
    for size, sign in ((0.5, 1), (2.0, -1)):
        m = measured(scaled(size))
        assert max(values(m, given, *P_VALUES)) < 1e-4
        assert sign * (values(m, given, "sbc_dispersion")[0] - 1) > 0.3
    assert max(values(measured(scaled(1.0, shift=1.0)), given, "sbc_p_value")) < 1e-6


def test_p_values_of_exact_posteriors_are_spread_evenly() -> None:
    found = torch.tensor(
        [values(measured(scaled(1.0), 100, seed), ("x1",), *P_VALUES) for seed in range(60)]
    )
    assert kstest(found[:, 1].numpy(), "uniform").pvalue > 0.01
    assert (found[:, 0] < 0.1).double().mean() < 0.2, "Bonferroni's is at most as often small"
    assert (found[:, 0] < 0.5).any() and (found[:, 1] > 0.5).any()


def drawn(n: int = 200, draws: int = 50) -> tuple[Tensor, Tensor, Tensor, Batch]:
    """True latents, draws of too narrow posteriors, random points, data."""
    sample = simulated(linear(), n, NAMES)
    q = scaled(0.6)(sample.x)
    return sample.z, q.sample((draws,)), sample.points, sample.x


def test_ranks_and_random_balls_are_those_of_sbi() -> None:
    z, draws, points, x = drawn()
    theirs = _run_sbc(z, x.x["x1"], draws, show_progress_bar=False)
    assert torch.equal(ranks(z, draws).double(), theirs.double())
    ecp, alpha = _run_tarp(draws.float(), z.float(), points.float(), num_bins=10)
    share = nearer(z, draws, points) / 50
    for a, theirs in zip(alpha[1:-1], ecp[1:-1], strict=True):  # a bin holds one of its ends
        low, high = ((share <= a + off).double().mean() for off in (-1e-4, 1e-4))
        assert low - 1e-6 <= theirs <= high + 1e-6
    assert (ecp - alpha).abs().max() > 0.05, "they are too narrow"


def test_random_balls_by_loops() -> None:
    z, draws, points, _ = drawn(20, 7)
    expected = [
        sum((d[i] - points[i]).norm() < (z[i] - points[i]).norm() for d in draws) for i in range(20)
    ]
    assert nearer(z, draws, points).tolist() == [int(v) for v in expected]


def test_the_deviation_and_its_p_value_are_those_of_scipy() -> None:
    for x in (torch.rand(80), torch.rand(80) ** 1.5):
        reference = kstest(x.numpy(), "uniform", method="exact")
        assert deviation(x).item() == pytest.approx(reference.statistic)
        assert p_value(x[:, None]) == pytest.approx(reference.pvalue)
    both = torch.stack([torch.rand(80), torch.rand(80) ** 1.5], 1)
    assert p_value(both) == pytest.approx(min(1, 2 * p_value(both[:, 1:])))
    assert deviation(both).tolist() == [deviation(each).item() for each in both.T]


def test_the_expected_deviation_is_that_of_kolmogorov() -> None:
    """sqrt(pi / 2) log 2 / sqrt(N) for one dimension and many samples; more for more dimensions."""
    value, error = expected_deviation(400, 1)
    assert abs(value - math.sqrt(math.pi / 2) * math.log(2) / 20) < 3 * error + 0.002
    assert expected_deviation(400, 8)[0] > value + 10 * error


def test_the_unit_of_a_latent_does_not_matter() -> None:
    """Distances are in standard deviations: one dimension is a thousand times as large."""
    model = linear()
    sample = simulated(model, 100, NAMES)
    torch.manual_seed(0)
    before = calibration(model, sample, NAMES, 20)
    unit = torch.tensor([1.0, 1000.0])
    model.posterior.of = lambda batch: _Scaled(LAW.posterior(batch), unit)
    torch.manual_seed(0)
    after = calibration(
        model, sample._replace(z=sample.z * unit, points=sample.points * unit), NAMES, 20
    )
    torch.testing.assert_close(before.nearer, after.nearer)
    torch.testing.assert_close(before.ranks, after.ranks)


class _Scaled:
    """Draws of a distribution times a unit."""

    def __init__(self, q: Distribution, unit: Tensor) -> None:
        self.q, self.unit = q, unit

    def sample(self, shape: torch.Size) -> Tensor:
        return self.q.sample(shape) * self.unit


def test_what_is_simulated_serves_all_subsets_and_batches_are_free() -> None:
    m = measured(scaled(1.0), 100, batch=30)
    calls = []
    generate = m.model.decode
    m.model.decode = lambda *a, **k: calls.append(1) or generate(*a, **k)
    for given in SUBSETS:
        for name in (*DEVIATIONS, *P_VALUES, "sbc_dispersion"):
            METRICS[name].compute(m, given, "z")
    assert calls == [1]
    again = measured(scaled(1.0), 100, batch=30)
    assert values(again, SUBSETS[1], *DEVIATIONS) == values(m, SUBSETS[1], *DEVIATIONS), (
        "the numbers do not depend on what else was asked"
    )
    few = values(measured(scaled(0.5), 30, sbc_draws=4), SUBSETS[2], *DEVIATIONS)
    assert all(0 < v < 1 for v in few)


def test_a_modality_that_is_not_generated_cannot_be_simulated() -> None:
    m = measured(scaled(1.0), 20)
    m.model.decoders = Named({k: d for k, d in m.model.decoders.items() if k != "x1"})
    with pytest.raises(UnavailableError, match="does not generate x1"):
        METRICS["sbc_deviation"].compute(m, ("x1", "x2"), "z")
    assert METRICS["sbc_deviation"].compute(m, ("x2",), "z")[2] == 20


def test_ranks_that_are_no_numbers_have_no_p_value() -> None:
    values = torch.rand(50, 2)
    values[3, 1] = torch.nan
    assert math.isnan(p_value(values))
