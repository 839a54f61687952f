"""Filling in against the truth: scores, what is hidden, intervals that hold, exact models."""

import io
import math
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from torch import nn
from torch.distributions import MultivariateNormal, Normal

from polymodal.batch import Batch, Column, Modality
from polymodal.data import Dataset, LinearGaussian, Splits
from polymodal.data.dataset import consecutive
from polymodal.data.grid import values_of
from polymodal.distributions.normal import DiagNormal
from polymodal.imputation import Filled, fill
from polymodal.imputation.baselines import Baselines, Marginal
from polymodal.imputation.conformal import (
    ENOUGH,
    LEVELS,
    QUANTILES,
    Calibration,
    factors_of,
    places_of,
    quantiles_of,
    widened,
)
from polymodal.imputation.evaluate import calibrate, evaluate_imputation
from polymodal.imputation.hiding import hide_entries, hide_modality
from polymodal.imputation.intervals import Shape, conformal_quantile, scores, stretched
from polymodal.imputation.measures import clustered
from polymodal.imputation.results import FillingTable, calibration_of
from polymodal.metrics.scoring import (
    calibration_error,
    coverage,
    crps,
    histogram,
    log_score,
    pit,
    rmse,
)
from polymodal.model import Method, MultimodalVAE
from polymodal.priors import StandardNormal
from polymodal.runs.run import Run
from test_exact import LinearDecoder

N = 4000


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


# Scores.


def test_the_crps_of_draws_is_that_of_their_distribution() -> None:
    """Of a normal: s (u (2 Phi(u) - 1) + 2 phi(u) - 1 / sqrt(pi)), u = (y - m) / s."""
    p = Normal(torch.tensor(2.0), torch.tensor(3.0))
    truth = torch.tensor([-4.0, 2.0, 2.5, 11.0])
    x = p.sample((200_000,))[:, None].expand(-1, 4)
    u, one = (truth - 2) / 3, Normal(0.0, 1.0)
    exact = 3 * (u * (2 * one.cdf(u) - 1) + 2 * one.log_prob(u).exp() - 1 / math.sqrt(math.pi))
    weight = torch.full_like(x, 1 / len(x), dtype=torch.float64)
    assert torch.allclose(crps(x.double(), weight, truth.double()), exact.double(), atol=0.02)


def test_weights_are_as_good_as_copies() -> None:
    """A draw of weight 3/6 scores as three draws of weight 1/6; all scores are in any order."""
    x = torch.tensor([1.0, 5.0, 2.0])[:, None]
    weight = torch.tensor([3.0, 1.0, 2.0])[:, None] / 6
    copies = torch.tensor([5.0, 1.0, 2.0, 1.0, 2.0, 1.0])[:, None]
    same = torch.full((6, 1), 1 / 6)
    for y in (0.0, 2.0, 4.0):
        truth, half = torch.tensor([y]), torch.tensor([0.5])
        assert torch.allclose(crps(x, weight, truth), crps(copies, same, truth))
        assert torch.allclose(pit(x, weight, truth, half), pit(copies, same, truth, half))
        assert torch.allclose(log_score(-x, weight), log_score(-copies, same))


def test_scores_of_single_values_and_intervals() -> None:
    assert rmse(torch.tensor([1.0, 5.0]), torch.tensor([1.0, 2.0])) == pytest.approx(3 / 2**0.5)
    bounds = torch.tensor([0.0, 0.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, 1.0, 1.0])
    assert coverage(*bounds, torch.tensor([0.0, 1.0, 0.5, 1.1])) == 0.75
    assert histogram(torch.tensor([0.0, 0.05, 0.95, 1.0]), 10) == [2, *[0] * 8, 2]


def test_the_log_score_is_the_density_of_the_mixture() -> None:
    truth = torch.tensor([0.3])
    p = Normal(torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [0.5]]))
    weight = torch.tensor([[0.25], [0.75]])
    exact = (weight * p.log_prob(truth).exp()).sum(0).log()
    assert torch.allclose(log_score(p.log_prob(truth), weight), exact)


def test_the_pit_of_draws_of_the_truth_is_uniform_also_where_values_are_discrete() -> None:
    for x, truth in (
        (torch.randn(500, N), torch.randn(N)),
        (torch.poisson(torch.full((500, N), 2.0)), torch.poisson(torch.full((N,), 2.0))),
    ):
        values = pit(x, torch.full((500, 1), 1 / 500), truth, torch.rand(N))
        assert chi_square(histogram(values)) < 30  # of 9 degrees: exceeded once in 2,000
        narrow = pit(0.5 * x, torch.full((500, 1), 1 / 500), truth, torch.rand(N))
        assert chi_square(histogram(narrow)) > 100


def chi_square(counts: list[int]) -> float:
    expected = sum(counts) / len(counts)
    return sum((c - expected) ** 2 / expected for c in counts)


def test_the_calibration_error_is_the_distance_of_probability_and_frequency() -> None:
    """Zero for outcomes drawn with their probabilities; for probabilities that say p where p / 2 is
    right, the mean of p / 2.
    """
    p = 0.5 + 0.5 * torch.rand(100_000)
    both = torch.stack([1 - p, p], -1)
    drawn = torch.rand(len(p)) < p
    assert calibration_error(both, drawn.long()) < 0.01
    half = torch.rand(len(p)) < p / 2
    assert calibration_error(both, half.long()) == pytest.approx(0.375, abs=0.01)


def test_standard_errors_are_clustered_by_sample() -> None:
    """Four copies of each value count once."""
    values = torch.rand(400)
    rows = torch.arange(400)
    single = clustered(values, rows)
    copied = clustered(values.repeat(4), rows.repeat(4))
    assert copied[0] == pytest.approx(single[0]) and copied[1] == pytest.approx(single[1])
    assert clustered(values.repeat(4), torch.arange(1600))[1] == pytest.approx(single[1] / 2)


# What is hidden.

COLUMNS = (
    Column("r"),
    Column("p", "positive"),
    Column("u", "bounded", low=-1.0, high=2.0),
    Column("n", "count"),
    Column("c", "category", ("x", "y", "z")),
)
TABLE = Modality("t", (5,), "table", kind="table", columns=COLUMNS, holes=True, scale=None)
OTHER = Modality("v", (2,), holes=True)


def table_data(n: int = 300) -> Dataset:
    """A table and a vector of n samples, a fifth of their entries missing."""
    z = torch.randn(n)
    cells = [z, z.exp(), (0.4 * z).clamp(-1, 2), torch.poisson(z.exp()), (z > 0).float() + (z > 1)]
    x = {"t": torch.stack(cells, 1), "v": torch.randn(n, 2)}
    observed = {m: torch.rand(v.shape) > 0.2 for m, v in x.items()}
    observed["t"][~observed["v"].any(1), 0] = True
    return Dataset([TABLE, OTHER], x, present=observed)


@pytest.mark.parametrize("share", [0.3, 0.95])
def test_hidden_entries_were_observed_and_leave_every_sample_something(share: float) -> None:
    data = table_data()
    hidden = hide_entries(data, ["t", "v"], share, seed=1)
    counts = torch.zeros(2)
    left = torch.zeros(len(data), dtype=torch.bool)
    for m in data.modalities:
        before, after = values_of(data, m), values_of(hidden.data, m)
        mask = hidden.mask[m.name]
        assert not before[mask].isnan().any() and after[mask].isnan().all()
        assert torch.equal(before[~mask].nan_to_num(), after[~mask].nan_to_num())
        assert torch.equal(hidden.data.is_present(m.name), ~after.isnan().all(1))
        counts += torch.tensor([float(mask.sum()), float((~before.isnan()).sum())])
        left |= hidden.data.is_present(m.name)
    assert left.all()
    if share == 0.3:
        assert abs(counts[0] / counts[1] - share) < 0.05
    again = hide_entries(data, ["t", "v"], share, seed=1)
    other = hide_entries(data, ["t", "v"], share, seed=2)
    assert torch.equal(again.mask["t"], hidden.mask["t"])
    assert not torch.equal(other.mask["t"], hidden.mask["t"])


def test_a_modality_is_hidden_where_another_one_is_there() -> None:
    data = table_data()
    hidden = hide_modality(data, "t")
    assert hidden is not None and not hidden.data.is_present("t").any()
    assert len(hidden.data) == int((data.is_present("t") & data.is_present("v")).sum())
    assert torch.equal(hidden.mask["t"], ~hidden.truth["t"].isnan())
    alone = Dataset([OTHER], {"v": torch.randn(5, 2)})
    assert hide_modality(alone, "v") is None


def test_a_share_outside_0_and_1_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        hide_entries(table_data(), ["t"], 1.5)


# Intervals that hold.

REAL = Modality("x", (1,), holes=True)
REAL_COLUMN = Column("x[0]")


def said(truth: torch.Tensor, location: torch.Tensor, scale: float) -> torch.Tensor:
    """Quantiles (Q, n, 1) of a model that says N(location, scale^2)."""
    levels = torch.tensor(QUANTILES)[:, None]
    return Normal(location, scale).icdf(levels)[..., None]


def one_factor(n: int, scale: float):
    """The factors from n values N(m, 1) of a model that says N(m, scale^2)."""
    location = torch.randn(n)
    truth = (location + torch.randn(n))[:, None]
    mask = torch.ones(n, 1, dtype=torch.bool)
    (factor,) = factors_of("entries", REAL, truth, mask, said(truth, location, scale))
    return factor


@pytest.mark.parametrize("n", [40, 199])
def test_intervals_of_an_overconfident_model_hold_after_widening(n: int) -> None:
    """Over calibrations the coverage of a new value is at least the level, and at most 1 / (n + 1)
    above. The model says half of the true standard deviation.
    """
    inside = torch.zeros(len(LEVELS))
    repetitions = 400
    one = Normal(0.0, 1.0)
    for _ in range(repetitions):
        factor = one_factor(n, 0.5)
        half = 0.5 * one.icdf(0.5 + torch.tensor(LEVELS) / 2) * torch.tensor(factor.factors)
        inside += 2 * one.cdf(half) - 1
    share = inside / repetitions
    noise = torch.tensor([math.sqrt(v * (1 - v) / n / repetitions) for v in LEVELS])
    assert (share > torch.tensor(LEVELS) - 3 * noise).all()
    assert (share < torch.tensor(LEVELS) + 1 / (n + 1) + 3 * noise).all()


def test_the_factor_is_that_by_which_a_model_is_wrong() -> None:
    for scale, expected in ((1.0, 1.0), (0.5, 2.0), (2.0, 0.5)):
        factor = one_factor(20_000, scale)
        assert factor.factors == pytest.approx([expected] * len(LEVELS), rel=0.03)
    exact = one_factor(20_000, 1.0)
    assert exact.coverage == pytest.approx(LEVELS, abs=0.01)


def test_half_widths_that_say_nothing_are_replaced_by_their_mean() -> None:
    """A model that says scales at random has intervals of one width, which hold; one that says the
    true scales of its errors keeps its own widths, with factors of 1.
    """
    n = 4000
    mask = torch.ones(n, 1, dtype=torch.bool)
    scale = torch.randn(n).exp()
    levels = torch.tensor(QUANTILES)[:, None]
    quantiles = Normal(0.0, scale).icdf(levels)[..., None]
    for error, share, widest in ((torch.randn(n), 1.0, 1.1), (scale * torch.randn(n), 0.0, 99)):
        (factor,) = factors_of("entries", REAL, error[:, None], mask, quantiles)
        assert factor.share == share
        new = error.flip(0)
        low, high = stretched(quantiles[places_of(2), :, 0].flip(1), REAL_COLUMN, *factor.at(0.9))
        assert coverage(low, high, new) == pytest.approx(0.9, abs=0.01)
        assert float((high - low).mean()) < widest * 2 * 1.645
    assert factor.factors == pytest.approx([1.0] * 4, rel=0.06)


def test_a_column_without_validation_values_keeps_its_own_half_widths() -> None:
    """Where those of the other columns are replaced by their mean, it has none."""
    n, modality = 4000, Modality("x", (2,), holes=True)
    mask = torch.tensor([True, False]).expand(n, 2)
    scale = torch.randn(n, 2).exp()
    quantiles = Normal(0.0, scale).icdf(torch.tensor(QUANTILES)[:, None, None])
    first, second = factors_of("entries", modality, torch.randn(n, 2), mask, quantiles)
    assert (first.share, second.share) == (1.0, 0.0)
    own = quantiles[places_of(2), :, 1]
    low, high = stretched(own, REAL_COLUMN, *second.at(0.9))
    expected = second.at(0.9)[0] * (own[2] - own[0]).double()
    assert torch.allclose((high - low).double(), expected, rtol=1e-4)


def test_columns_have_their_own_factors_where_many_values_show_that_they_need_them() -> None:
    """Of the first column there are too few values, the last two are as good as one another, and
    the second one is four times as wide as is said.
    """
    modality = Modality("x", (4,), holes=True)
    truth = torch.randn(400, 4) * torch.tensor([1.0, 4.0, 1.0, 1.0])
    mask = torch.ones_like(truth, dtype=torch.bool)
    mask[ENOUGH - 1 :, 0] = False
    quantiles = Normal(0.0, 1.0).icdf(torch.tensor(QUANTILES))[:, None, None]
    first, second, third, _ = factors_of(
        "whole", modality, truth, mask, quantiles.expand(-1, *truth.shape)
    )
    assert (first.pooled, second.pooled, third.pooled) == (True, False, False)
    assert first.n == ENOUGH - 1 + 3 * len(truth) and second.n == len(truth)
    assert second.factors == pytest.approx([4.0] * 4, rel=0.25)
    mask[:, 1] = False
    _, _, third, fourth = factors_of(
        "whole", modality, truth, mask, quantiles.expand(-1, *truth.shape)
    )
    assert third.pooled and fourth.pooled and third.factors == fourth.factors


def test_too_few_values_for_a_level_have_the_largest_score_and_never_narrow() -> None:
    assert conformal_quantile(torch.ones(8), 0.9) == math.inf
    overconfident, wide = one_factor(8, 0.3), one_factor(8, 30.0)
    assert 1 < overconfident.factors[2] < math.inf
    assert overconfident.factors[3] / overconfident.factors[2] == pytest.approx(1.645 / 1.96, 1e-3)
    assert wide.factors[0] < 1 and wide.factors[2:] == (1, 1)


@pytest.mark.parametrize("column", COLUMNS[:4], ids=lambda c: c.type)
def test_stretched_intervals_hold_what_the_score_says_and_stay_in_bounds(column: Column) -> None:
    """x lies in the interval stretched by f exactly if its score is at most f."""
    truth = table_data(500)
    x = truth.tables["t"][:, COLUMNS.index(column)]
    x = x[~x.isnan()].double()
    middle = x.flip(0)
    lower, upper = 0.7 * middle.clamp_min(0) - 0.1, 1.5 * middle.abs() + 0.2
    if column.type == "positive":
        lower = 0.7 * middle
    quantiles = torch.stack([torch.minimum(lower, middle), middle, torch.maximum(upper, middle)])
    if column.type == "count":
        quantiles = quantiles.round().clamp_min(0)
    for factor, shape in (
        (0.4, Shape(1e-3)),
        (1.0, Shape(1e-3)),
        (3.0, Shape(1e-3, 0.5, 0.3)),
        (0.7, Shape(1e-3, 1.0, 0.8)),
    ):
        score = scores(x, quantiles, column, shape)
        low, high = stretched(quantiles, column, factor, shape)
        inside = (low <= x) & (x <= high)
        clear = (score - factor).abs() > 1e-6
        assert torch.equal(inside[clear], (score <= factor)[clear])
        assert 0 < inside.double().mean() <= 1
        if column.type in ("positive", "count"):
            assert (low >= 0).all()
        if column.type == "bounded":
            assert (low >= column.low).all() and (high <= column.high).all()
        if column.type == "count":
            assert torch.equal(low, low.round()) and torch.equal(high, high.round())


@pytest.mark.parametrize("type_", ["positive", "count"])
def test_intervals_end_at_the_largest_value_of_training_and_still_hold(type_) -> None:
    """Of values above it, here 5 %, no interval holds one: the others make up for them."""
    column = Column("c", type_, largest=20.0)
    table = replace(TABLE, shape=(1,), columns=(column,))
    says = (math.log(10) + 1.5 * Normal(0.0, 1.0).icdf(torch.tensor(QUANTILES))).exp().round()
    x = torch.randint(1, 22, (2 * N, 1)).float()
    quantiles = says[:, None, None].expand(-1, 2 * N, 1)
    mask = torch.ones(N, 1, dtype=torch.bool)
    calibration = Calibration(factors_of("entries", table, x[:N], mask, quantiles[:, :N]))
    new = Filled(quantiles[4, N:], quantiles[places_of(2)][:, N:], x[:0], {}, x[N:, 0])
    low, high = widened(new, calibration, 0.9, table)
    assert high.max() == 20 < quantiles[places_of(2)[2]].max()
    inside = coverage(low, high, x[N:])
    assert 0.9 - 3 * math.sqrt(0.09 * 2 / N) < inside < 0.96


def test_widened_uses_the_factors_of_the_pattern_of_each_sample() -> None:
    factors = [
        one_factor(200, 1.0).model_copy(update={"pattern": pattern, "factors": (f,) * 4})
        for pattern, f in (("entries", 2.0), ("whole", 3.0))
    ]
    calibration = Calibration(
        tuple(f.model_copy(update={"modality": "x", "column": "x[0]"}) for f in factors)
    )
    quantiles = torch.tensor([-1.0, 0.0, 2.0])[:, None, None].expand(3, 4, 1)
    filled = Filled(torch.zeros(4, 1), quantiles, torch.zeros(0, 4, 1), {}, torch.ones(4))
    whole = torch.tensor([False, False, True, True])
    lower, upper = widened(filled, calibration, 0.9, REAL, whole)
    assert lower[:, 0].tolist() == [-2, -2, -3, -3] and upper[:, 0].tolist() == [4, 4, 6, 6]
    own = widened(filled, None, 0.9, REAL)
    assert torch.equal(own[0], quantiles[0]) and torch.equal(own[1], quantiles[2])
    with pytest.raises(ValueError, match="three quantiles"):
        widened(replace(filled, quantiles=quantiles[:2]), calibration, 0.9, REAL)
    assert Calibration.from_records(calibration.records()) == calibration
    with pytest.raises(ValueError, match="pattern"):
        Calibration.from_records([{"pattern": "none"}])


# Exact models.


class ExactPosterior(nn.Module):
    """q(z|x_S) for any entries: the law's own, moved and `width` times as wide."""

    least_effective = 0.0

    def __init__(self, law: LinearGaussian, move: float = 0.0, width: float = 1.0) -> None:
        super().__init__()
        self.law, self.move, self.width = law, move, width

    def forward(self, batch: Batch) -> DiagNormal:
        mean, covariance = latent_moments(self.law, batch)
        scale = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
        return DiagNormal(mean + self.move * scale, self.width * scale)


def latent_moments(law: LinearGaussian, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of p(z | observed entries), computed sample by sample."""
    like = next(iter(batch.x.values()))
    loading = torch.cat([law.loading[m] for m in batch.x]).to(like)
    bias = torch.cat([law.bias[m] for m in batch.x]).to(like)
    noise = torch.cat([torch.full((len(law.bias[m]),), law.noise[m]) for m in batch.x]).to(like)
    x = torch.cat(
        [torch.where(batch.mask([m])[:, None], v, torch.nan) for m, v in batch.x.items()], 1
    )
    seen = (~x.isnan()).to(like)
    weighted = seen.unsqueeze(-1) * loading / noise[:, None] ** 2
    precision = torch.eye(law.latent).to(like) + loading.T @ weighted
    covariance = precision.inverse()
    h = torch.einsum("bjd,bj->bd", weighted, torch.where(seen > 0, x - bias, 0))
    return torch.einsum("bij,bj->bi", covariance, h), covariance


def with_holes_of(law: LinearGaussian) -> list[Modality]:
    return [replace(m, holes=True) for m in law.modalities]


def exact_model(law: LinearGaussian, **posterior: float) -> MultimodalVAE:
    decoders = {m: LinearDecoder(law.loading[m], law.bias[m], law.noise[m]) for m in law.loading}
    q = ExactPosterior(law, **posterior)
    return MultimodalVAE(StandardNormal(law.latent), decoders, q, with_holes_of(law))


def entry_conditional(
    law: LinearGaussian, x: torch.Tensor, row: int
) -> tuple[torch.Tensor, MultivariateNormal]:
    """The holes of a sample, and their distribution given its other entries, from the joint."""
    joint, hole = law.joint(), x[row].isnan()
    covariance, mean = joint.covariance_matrix, joint.mean
    a, b = covariance[hole][:, ~hole], covariance[~hole][:, ~hole]
    gain = a @ b.inverse()
    centre = mean[hole] + gain @ (x[row, ~hole] - mean[~hole])
    return hole, MultivariateNormal(centre, covariance[hole][:, hole] - gain @ a.T)


@pytest.mark.usefixtures("double")
def test_filled_means_and_variances_are_those_of_the_exact_conditional() -> None:
    """From a proposal that is moved by 0.4 and 1.5 times as wide: means within 3 standard errors
    (three in a hundred may pass them), variances within 5 % on average and 20 % each.
    """
    law = LinearGaussian.draw(dims=(2, 3, 2), latent=2, noise=0.7, seed=3)
    model, whole = exact_model(law, move=0.4, width=1.5), law.sample(40)
    observed = {m: torch.rand(x.shape) > 0.4 for m, x in whole.x.items()}
    observed["x1"][:10] = False  # a whole modality
    observed["x2"][:, 0], observed["x3"][:, 1] = True, False
    batch = Batch(whole.x, observed)
    filled = fill(model, batch, list(whole.x), draws=4000, proposals=20_000)
    x = torch.cat([torch.where(observed[m], v, torch.nan) for m, v in whole.x.items()], 1)
    center = torch.cat([filled[m].center for m in whole.x], 1)
    draws = torch.cat([filled[m].draws for m in whole.x], -1)
    ess = filled["x1"].ess
    assert float(ess.min()) > 1000
    off, ratio = [], []
    for row in range(len(batch)):
        hole, exact = entry_conditional(law, x, row)
        explained = (exact.variance - 0.7**2).sqrt()  # the center has no noise of the likelihood
        off.append((center[row, hole] - exact.mean).abs() * ess[row].sqrt() / explained)
        ratio.append(draws[:, row, hole].var(0) / exact.variance)
        low, high = quantiles_of(0.9)[::2]
        bounds = [filled[m].quantiles for m in whole.x]
        got = torch.cat(bounds, -1)[::2, row, hole]
        wanted = Normal(exact.mean, exact.stddev).icdf(torch.tensor([[low], [high]]))
        assert ((got - wanted).abs() / exact.stddev).max() < 0.25
    assert (torch.cat(off) < 3).double().mean() > 0.97
    variances = torch.cat(ratio)
    assert abs(variances.mean() - 1) < 0.05 and (variances - 1).abs().max() < 0.2


N_TEST = 600


@pytest.fixture(scope="module")
def exact():
    """An exact model, its data, and what is measured of it."""
    torch.manual_seed(0)
    law = LinearGaussian.draw(dims=(2, 3), latent=2, noise=0.6, seed=1)
    x = {m: v.float() for m, v in law.sample(3 * N_TEST).x.items()}
    parts = consecutive(with_holes_of(law), x, None, [N_TEST] * 3)
    law32 = LinearGaussian(
        {m: v.float() for m, v in law.loading.items()},
        {m: v.float() for m, v in law.bias.items()},
        law.noise,
    )
    data = Splits(*parts, name="exact")
    return law32, data, evaluate_imputation(run_of(exact_model(law32)), data, proposals=400)


def run_of(model: MultimodalVAE) -> Run:
    model.register_parameter("place", nn.Parameter(torch.zeros(())))
    model.eval()
    return Run(model, Method(model, ()), list(model.modalities), {"method": {}}, {"seed": 0})


def by(table: FillingTable, predictor: str, **chosen: str):
    """The rows of a predictor of single columns, and those of all columns."""
    frame = table.frame[table.frame["by"] == predictor]
    for name, value in chosen.items():
        frame = frame[frame[name] == value]
    return frame[frame["column"] != ""], frame[frame["column"] == ""]


def test_the_intervals_of_an_exact_model_hold(exact) -> None:
    """Coverage within 3 standard errors of its level, before and after stretching; the PIT is
    uniform; factors are 1 within noise.
    """
    _, _, table = exact
    columns, overall = by(table, "model")
    assert len(columns) == 10 and len(overall) == 3
    for level in LEVELS:
        name = f"{100 * level:.0f}"
        error = (level * (1 - level) / columns["n"]) ** 0.5
        assert ((columns[f"own_coverage_{name}"] - level).abs() < 3 * error).all()
        assert ((columns[f"coverage_{name}"] - level).abs() < 4.3 * error).all()  # two parts
        share = overall[f"coverage_{name}"] - level
        assert (share.abs() < 4.3 * overall[f"coverage_{name}_se"]).all()
    for row in table.pit:
        assert chi_square(row["counts"]) < 30, row


def test_factors_of_an_exact_model_are_1_within_noise(exact) -> None:
    law, data, _ = exact
    for factor in calibrate(run_of(exact_model(law)), data, proposals=400).factors:
        one = Normal(0.0, 1.0)
        for level, f in zip(LEVELS, factor.factors, strict=True):
            z = one.icdf(torch.tensor(0.5 + level / 2))
            slope = 2 * float(z) * float(one.log_prob(z).exp())  # of coverage in the factor
            error = math.sqrt(level * (1 - level) / factor.n) / slope
            assert abs(f - 1) < 3.5 * error, factor


def test_an_exact_model_is_better_than_the_marginal_and_is_near_ridge(exact) -> None:
    _, _, table = exact
    ours, marginal, ridge = (by(table, name)[0] for name in ("model", "marginal", "ridge"))
    for figure in ("rmse", "crps", "width_90"):
        assert (ours[figure].to_numpy() < marginal[figure].to_numpy()).all(), figure
    assert (ours["log_score"].to_numpy() > marginal["log_score"].to_numpy()).all()
    ratio = ours["rmse"].to_numpy() / ridge["rmse"].to_numpy()
    assert 0.94 < ratio.mean() < 1.01
    spread = ours["rmse"].to_numpy() / ours["rmse_standardised"].to_numpy()
    assert spread == pytest.approx(marginal["rmse"].to_numpy(), rel=0.15)


def test_a_shuffled_model_is_worse_in_every_measure_and_its_intervals_still_hold(exact) -> None:
    """Its entries stand in each other's places. What it says of itself does not hold, what it is
    given by stretching does; its numbers are moved so far that they are no worse than the mean.
    """
    law, data, table = exact
    wrong = LinearGaussian(
        {m: v.roll(1, 0) for m, v in law.loading.items()},
        {m: v.roll(1, 0) for m, v in law.bias.items()},
        {m: 0.5 * s for m, s in law.noise.items()},
    )
    run = run_of(exact_model(wrong))
    shuffled, _ = by(evaluate_imputation(run, data, proposals=400), "model")
    ours, _ = by(table, "model")
    marginal, _ = by(table, "marginal")
    assert (shuffled["rmse"].to_numpy() > 1.03 * ours["rmse"].to_numpy()).all()
    ratio = shuffled["rmse"].to_numpy() / marginal["rmse"].to_numpy()
    assert ratio.mean() < 1.02 and ratio.max() < 1.06
    assert (shuffled["crps"].to_numpy() > 1.2 * ours["crps"].to_numpy()).all()
    assert (shuffled["log_score"].to_numpy() < ours["log_score"].to_numpy() - 0.3).all()
    assert (shuffled["own_coverage_90"] < 0.75).all()
    error = (0.9 * 0.1 / shuffled["n"]) ** 0.5
    assert ((shuffled["coverage_90"] - 0.9).abs() < 4.3 * error).all()
    pits = [row for row in FillingTable.of(run).pit]
    assert min(chi_square(row["counts"]) for row in pits) > 60
    kept = calibration_of(run)
    assert kept is not None and all(f.factors[2] > 1.3 for f in kept.factors)
    assert all(s.weight < 0.7 for s in kept.shrinkages)


# Baselines.


def test_baselines_fill_in_units_and_categories() -> None:
    """Ridge regression and neighbours find a column that is a multiple of another, and a category
    that a number decides; the marginal is the mean and the mode.
    """
    columns = (Column("a"), Column("b"), Column("c", "category", ("low", "high")))
    m = Modality("t", (3,), "table", kind="table", columns=columns, holes=True, scale=None)
    a = torch.randn(400)
    x = torch.stack([a, 1000 + 50 * a, (a > 0).float()], 1)
    data = Dataset([m], {"t": x})
    test = x[:50].clone()
    test[:, 1] = torch.nan
    test[:, 2] = torch.nan
    for name, values in Baselines.fit(data).predict(Dataset([m], {"t": test})).items():
        filled = values["t"]
        assert rmse(filled[:, 1], x[:50, 1]) < 10, name
        assert (filled[:, 2] == x[:50, 2]).double().mean() > 0.9, name
    marginal = Marginal(columns[1], x[:, 1].double())
    assert marginal.center == pytest.approx(float(x[:, 1].mean()))
    low = Marginal(columns[2], torch.tensor([0.0, 0.0, 1.0]))
    assert low.center == 0 and low.probabilities().tolist() == pytest.approx([0.6, 0.4])
    count = Marginal(Column("n", "count"), torch.poisson(torch.full((5000,), 3.0)).double())
    density = count.log_score(torch.arange(60.0, dtype=torch.float64)).exp()
    assert float(density.sum()) == pytest.approx(1, abs=1e-6)
    positive = Marginal(Column("p", "positive"), torch.rand(100).double() + 0.5)
    grid = torch.linspace(1e-4, 20, 200_001).double()
    assert float(positive.log_score(grid).exp().sum() * 1e-4) == pytest.approx(1, abs=1e-3)


def test_wide_data_have_one_ridge_regression() -> None:
    modality = Modality("v", (120,), holes=True)
    z = torch.randn(500, 4)
    x = z @ torch.randn(4, 120) + 0.1 * torch.randn(500, 120)
    data = Dataset([modality], {"v": x})
    hidden = hide_entries(data.take(torch.arange(50)), ["v"], 0.3)
    values = Baselines.fit(data).predict(hidden.data)["ridge"]["v"]
    mask = hidden.mask["v"]
    truth = hidden.truth["v"]
    assert rmse(values[mask], truth[mask]) < 0.5 * rmse(torch.zeros(int(mask.sum())), truth[mask])


def test_a_run_without_tables_has_nothing_to_measure() -> None:
    law = LinearGaussian.draw(dims=(2, 3), latent=2)
    model = exact_model(law)
    run = Run(model, Method(model, ()), law.modalities, {"method": {}}, {"seed": 0})
    parts = consecutive(law.modalities, law.sample(30).x, None, [10, 10, 10])
    with pytest.raises(ValueError, match="no tables"):
        evaluate_imputation(run, Splits(*parts))


@pytest.mark.parametrize("width", [80, 100, 140])
def test_a_narrow_terminal_leaves_out_figures_and_breaks_no_name(width: int) -> None:
    names = ["od280/od315_of_diluted_wines", "alcohol", ""]
    figures = ("rmse", "rmse_standardised", "crps", "log_score", "own_coverage_90", "width_90")
    common = {"pattern": "entries", "modality": "t", "type": "real", "n": 4}
    common |= dict.fromkeys(figures, 0.123)
    rows = [
        common | {"column": name, "by": by}
        for name in names
        for by in ("model", "ridge", "neighbours", "marginal")
    ]
    console = Console(width=width, record=True, file=io.StringIO())
    FillingTable(rows, [], [], [], "miwae").print(console)
    said = console.export_text()
    row = next(line.split() for line in said.splitlines() if names[0] in line)
    assert max(map(len, said.splitlines())) <= width and set(row[1:]) <= {"4", "0.123"}
    assert len(row) == {80: 6, 100: 8, 140: 11}[width]
    assert ("In a wider terminal" in said) == (width < 140)
