"""Entries that are missing because of their own value: self-masking as an option of miwae."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import polymodal
from polymodal.batch import Batch, Column, Modality
from polymodal.data import Dataset, Splits
from polymodal.distributions.likelihoods import likelihood_of
from polymodal.distributions.normal import DiagNormal
from polymodal.distributions.scaled import IsotropicLaplace, IsotropicNormal
from polymodal.distributions.self_masking import mask_log_prob
from polymodal.imputation import fill
from polymodal.imputation.hiding import hide_entries, hide_modality
from polymodal.imputation.prediction import predict
from polymodal.imputation.weighted import weighted_latents
from polymodal.methods import METHODS
from polymodal.methods.miwae import thinned
from polymodal.model import MultimodalVAE
from polymodal.networks.learned import FASTER
from polymodal.networks.mechanisms import SelfMasking
from polymodal.posteriors import AnyPattern
from polymodal.priors import StandardNormal
from test_holes import TABLE as WITHOUT_HOLES

TABLE = replace(WITHOUT_HOLES, holes=True)
VECTOR = Modality("v", (3,), scale=None, location=(5.0,), spread=(2.0,), holes=True)
MODELLED = [0, 1, 2, 4, 5]  # the columns of TABLE that are no counts


def mechanism(modality: Modality, slope: float = 0.0) -> SelfMasking:
    """Log-odds that rise or fall with the value by turns."""
    made = SelfMasking(modality)
    with torch.no_grad():
        d = modality.shape[0]
        made.slope.copy_(slope / FASTER * (-1.0) ** torch.arange(d))
        made.categories.add_(slope / FASTER * (-1.0) ** torch.arange(len(made.categories)))
    return made


def rows(n: int, seed: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Values of TABLE and VECTOR, and which of them are holes."""
    torch.manual_seed(seed)
    raw = torch.randn(n, likelihood_of(TABLE).output_shape(TABLE)[0])
    t = likelihood_of(TABLE).make(raw, TABLE, None).sample()
    x = {"t": t, "v": 5 + 2 * torch.randn(n, 3)}
    return x, {m: torch.rand(v.shape) < 0.3 for m, v in x.items()}


def with_holes(n: int, seed: int = 0) -> Batch:
    x, holes = rows(n, seed)
    values = {m: torch.where(holes[m], torch.nan, v) for m, v in x.items()}
    present = {m: ~v.isnan().all(1) for m, v in values.items()}
    return Batch(values, present, holes=frozenset(x))


def test_where_missingness_does_not_depend_on_values_nothing_changes() -> None:
    """The loss differs by the log-probability of the mask, weights and means do not."""
    method = METHODS["miwae"]
    torch.manual_seed(0)
    plain = method([TABLE, VECTOR], latent=3, hidden=16, hide=0.0)
    torch.manual_seed(0)
    masked = method([TABLE, VECTOR], latent=3, hidden=16, hide=0.0, mechanism="self_masking")
    batch, chance = with_holes(64), torch.sigmoid(torch.tensor(-1.0))
    losses, weights, means = [], [], []
    for model, stage in ((plain.model, plain.stages[0]), (masked.model, masked.stages[0])):
        torch.manual_seed(1)
        losses.append(stage.loss(model, batch, 1).value)
        torch.manual_seed(1)
        latents = weighted_latents(model, batch, 20)
        weights.append(latents.weight)
        means.append(latents.under(model, batch, "t").mean)
    holes = {m: x.isnan() for m, x in batch.x.items()}
    constant = torch.zeros(64)
    for m, places in (("t", MODELLED), ("v", [0, 1, 2])):
        count = holes[m][:, places].sum(1)
        log = count * chance.log() + (len(places) - count) * (1 - chance).log()
        constant = constant + batch.where(m, log)
    assert torch.allclose(losses[0] - losses[1], constant, atol=2e-4)
    assert torch.allclose(weights[0], weights[1], atol=1e-5)
    assert torch.allclose(means[0], means[1], rtol=1e-4, atol=1e-4)


def test_without_the_option_there_is_no_mechanism() -> None:
    plain = METHODS["miwae"]([TABLE], latent=2, mechanism="ignorable").model
    assert not plain.mechanisms
    assert (
        plain.state_dict().keys() == METHODS["miwae"]([TABLE], latent=2).model.state_dict().keys()
    )


@pytest.mark.parametrize("slope", [0.5, 3.0, 8.0])
@pytest.mark.parametrize("likelihood", ["table", "normal", "laplace"])
def test_the_rule_is_the_integral(likelihood: str, slope: float) -> None:
    """In value and in gradient, against two million points; both signs."""
    loc, log_scale, degrees, a, b = (
        torch.tensor(v, dtype=torch.double, requires_grad=True)
        for v in (0.4, -0.7, 4.0, -0.8, slope)
    )
    for sign in (1.0, -1.0):
        ours = _by_rule(likelihood, loc, log_scale, degrees, a, b, sign)
        exact = _by_points(likelihood, loc, log_scale, degrees, a, b, sign)
        about = [loc, log_scale, a, b] + ([degrees] if likelihood == "table" else [])
        ours_g = torch.stack(torch.autograd.grad(ours, about))
        exact_g = torch.stack(torch.autograd.grad(exact, about))
        within = 2e-2 if likelihood == "laplace" else 2e-3  # whose density has a kink
        assert abs((ours - exact).item()) < within
        assert (ours_g - exact_g).abs().max() < within


def _by_rule(
    likelihood: str,
    loc: Tensor,
    log_scale: Tensor,
    degrees: Tensor,
    a: Tensor,
    b: Tensor,
    sign: float,
) -> Tensor:
    columns = (Column("k"), Column("l")) if likelihood == "table" else ()
    modality = Modality("m", (2,), likelihood, columns=columns, holes=True, scale=None)
    made = SelfMasking(modality).double()
    odds = replace(made.odds(), intercept=a.expand(2), slope=b.expand(2))
    if likelihood == "table":
        raw = torch.stack([loc, loc, log_scale, log_scale]).reshape(1, 4)
        p = likelihood_of(modality).make(raw, modality, degrees.expand(2))
    else:
        kind = IsotropicNormal if likelihood == "normal" else IsotropicLaplace
        p = kind(loc.expand(1, 2), log_scale.exp(), 1)
    x = torch.tensor([[math.nan, math.nan]], dtype=torch.double)
    return mask_log_prob(p, x, torch.tensor([[sign, 0.0]], dtype=torch.double), odds).sum()


def _by_points(
    likelihood: str,
    loc: Tensor,
    log_scale: Tensor,
    degrees: Tensor,
    a: Tensor,
    b: Tensor,
    sign: float,
) -> Tensor:
    u = torch.linspace(-200, 200, 2_000_001, dtype=torch.double)
    scale = log_scale.exp()
    p = {
        "table": lambda: torch.distributions.StudentT(degrees, loc, scale),
        "normal": lambda: torch.distributions.Normal(loc, scale),
        "laplace": lambda: torch.distributions.Laplace(loc, scale),
    }[likelihood]()
    density = p.log_prob(u).exp() * torch.sigmoid(sign * (a + b * u))
    return (density.sum() * (u[1] - u[0])).log()


@pytest.mark.parametrize("modality", [TABLE, VECTOR], ids=["table", "vector"])
def test_draws_means_and_densities_of_missing_entries_agree(modality: Modality) -> None:
    torch.manual_seed(0)
    raw = torch.randn(8, *likelihood_of(modality).output_shape(modality))
    scale = torch.tensor(9.0 if modality is TABLE else 0.8)  # of tables, degrees of freedom
    p = likelihood_of(modality).make(raw, modality, scale)
    many = likelihood_of(modality).make(raw.expand(4000, *raw.shape), modality, scale)
    x = torch.full((8, modality.shape[0]), math.nan)
    hidden = (torch.arange(8) % 2 == 0)[:, None].expand_as(x)
    why = mechanism(modality, 2.0)
    q, draws = why.given(p, x, hidden), why.given(many, x, hidden).sample()
    places = [0] if modality is TABLE else [0, 1, 2]
    means, plain = q.mean[:, places], p.mean[:, places]
    error = (draws[..., places].std(0) / math.sqrt(4000)).clamp_min(1e-6)
    assert ((draws[..., places].mean(0) - means).abs() < 4 * error).all()
    rises = (-1.0) ** torch.arange(modality.shape[0])[places]
    assert ((means - plain)[1::2] * rises > 0).all() and ((means - plain)[::2] * rises < 0).all()
    grid = torch.linspace(-300, 300, 60_001)
    one = torch.full((len(grid), 1, modality.shape[0]), 1.0)
    one[..., 0] = grid[:, None]
    density = q.entry_log_prob(one.expand(-1, 8, -1).clone())[..., 0].exp()
    assert torch.allclose(density.sum(0) * 0.01, torch.ones(8), atol=2e-3)
    if modality is TABLE:
        shares = torch.stack([(draws[..., 5] == k).float().mean(0) for k in range(3)], -1)
        assert (shares - q.probabilities()[5]).abs().max() < 0.04
        assert torch.equal(q.entry_log_prob(one[:8])[..., 3], p.entry_log_prob(one[:8])[..., 3])


class Exact(nn.Module):
    """p(x|z) = N(x; z w, .36) of (x_1, x_2), w = (.8, .8)."""

    def forward(self, z: Tensor) -> IsotropicNormal:
        return IsotropicNormal(0.8 * z.expand(*z.shape[:-1], 2), torch.tensor([0.6, 0.6]), 1)


class ExactEncoder(nn.Module):
    """p(z | x_1)."""

    def forward(self, batch: Batch) -> DiagNormal:
        x = batch.x["x"][:, :1].nan_to_num()
        return DiagNormal(0.8 * x, torch.full_like(x, 0.6))


def test_what_is_filled_in_equals_the_exact_conditional() -> None:
    """x_2 given x_1 and that x_2 is missing with probability sigmoid(3 (x_2 - .5))."""
    modality = Modality("x", (2,), scale=None, holes=True)
    why = mechanism(modality)
    with torch.no_grad():
        why.intercept.copy_(torch.tensor([-1.0, -1.5]) / FASTER)
        why.slope.copy_(torch.tensor([0.0, 3.0]) / FASTER)
    prior = StandardNormal(1)
    posterior = AnyPattern(ExactEncoder(), prior)
    model = MultimodalVAE(prior, {"x": Exact()}, posterior, [modality], {"x": why})
    given = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])
    x = torch.stack([given, torch.full((5,), math.nan)], 1)
    torch.manual_seed(0)
    found = fill(model, Batch({"x": x}), ["x"], proposals=20_000)["x"]
    u = torch.linspace(-8, 8, 20_001, dtype=torch.double)
    p = torch.distributions.Normal(0.64 * given.double()[:, None], math.sqrt(1 - 0.64**2))
    density = p.log_prob(u).exp() * torch.sigmoid(3 * (u - 0.5))
    density = density / density.sum(1, keepdim=True)
    mean = density @ u
    spread = (density @ u.square() - mean.square()).sqrt()
    error = spread / found.ess.double().sqrt()
    assert ((found.center[:, 1] - mean).abs() < 3 * error).all()
    assert ((mean - 0.64 * given) > 5 * error).all()  # ignoring the mechanism would be seen
    total = density.cumsum(1)
    for level, ours in zip((0.05, 0.5, 0.95), found.quantiles[..., 1], strict=True):
        assert (u[(total < level).sum(1)] - ours).abs().max() < 0.06


def test_what_thinning_hides_counts_as_observed() -> None:
    """It, and nothing that was missing before, is marked as hidden, and its value is integrated out
    under the probability that it is observed.
    """
    torch.manual_seed(0)
    batch = with_holes(256)
    part = thinned(batch, 1.0, ("t", "v"))
    for m in ("t", "v"):
        present = part.mask([m])
        ours, before = part.x[m].isnan()[present], batch.x[m].isnan()[present]
        assert torch.equal(part.hidden[m][present], ours & ~before) and (ours & ~before).any()
    made = mechanism(VECTOR)
    p = likelihood_of(VECTOR).make(torch.randn(2, 3), VECTOR, torch.tensor(1.0))
    x = torch.full((2, 3), math.nan)
    log = made.log_prob(p, x, torch.tensor([[True] * 3, [False] * 3]))
    chance = torch.sigmoid(torch.tensor(-1.0))
    assert torch.allclose(log, 3 * torch.stack([(1 - chance).log(), chance.log()]), atol=1e-5)


def toy(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Seven columns with two common factors, of which all but two are missing where they are high:
    values, and which are missing.
    """
    rng = np.random.default_rng(seed)
    loadings = np.array([[1, 0], [0, 1], [0.8, 0.6], [0.6, -0.8], [0.7, 0.7], [1, -0.3], [0.2, 1]])
    loadings = loadings / np.linalg.norm(loadings, axis=1, keepdims=True)
    x = 0.8 * rng.standard_normal((n, 2)) @ loadings.T + 0.6 * rng.standard_normal((n, 7))
    holes = rng.random((n, 7)) < 1 / (1 + np.exp(-3 * (x - 0.5)))
    holes[:, :2] = False
    return torch.from_numpy(x).float(), torch.from_numpy(holes)


def trained(x: Tensor, holes: Tensor, why: str, **options) -> tuple[polymodal.Run, Splits]:
    values = torch.where(holes, torch.nan, x)
    parts = {"a": values[:, :4], "b": values[:, 4:]}
    modalities = [
        Modality(m, (v.shape[1],), scale=None, location=(0.0,), spread=(1.0,), holes=True)
        for m, v in parts.items()
    ]
    data = Dataset(modalities, parts)
    cut = len(x) // 10
    val, train = data.take(torch.arange(cut)), data.take(torch.arange(cut, len(x)))
    splits = Splits(train, val, val, "toy")
    given = {"latent": 4, "hidden": 32, "k": 5, "epochs": 40, "batch": 64, "lr": 4e-3}
    given |= {"progress": False, "mechanism": why, "seed": 0} | options
    return polymodal.fit("miwae", splits, **given), splits


def test_values_that_are_missing_because_they_are_high_are_filled_in_high(tmp_path: Path) -> None:
    """The bias is at most a third of that of the model that ignores the mechanism; a run that is
    loaded fills in the same; entries that are hidden are predicted as observed ones.
    """
    x, holes = toy(500, 0)
    errors, runs = {}, {}
    for why in ("ignorable", "self_masking"):
        runs[why], splits = trained(x, holes, why, out=tmp_path / why)
        errors[why] = (_filled(runs[why].model, x, holes) - x)[holes]
    ignored, ours = (errors[w].mean().abs() for w in ("ignorable", "self_masking"))
    assert ours < ignored / 3, (ours, ignored)
    assert errors["self_masking"].square().mean() < errors["ignorable"].square().mean()
    again = polymodal.load(tmp_path / "self_masking").model
    assert torch.equal(_filled(again, x, holes), _filled(runs["self_masking"].model, x, holes))
    _check_hidden(runs["self_masking"].model, splits)


def _filled(model: MultimodalVAE, x: Tensor, holes: Tensor) -> Tensor:
    values = torch.where(holes, torch.nan, x)
    torch.manual_seed(0)
    with torch.random.fork_rng():
        found = fill(
            model, Batch({"a": values[:, :4], "b": values[:, 4:]}), ["a", "b"], proposals=100
        )
    return torch.cat([found["a"].center, found["b"].center], 1)


def _check_hidden(model: MultimodalVAE, splits: Splits) -> None:
    """Hidden entries and modalities are predicted without the bias that missing ones would have."""
    for hidden in (hide_entries(splits.train, ["a", "b"]), hide_modality(splits.train, "b")):
        said = predict(model, hidden, (0.05, 0.5, 0.95), proposals=100)
        for m in hidden.targets:
            gap = (said[m].filled.center - hidden.truth[m])[hidden.mask[m]]
            assert gap.mean().abs() < 0.2, (hidden.pattern, m, gap.mean())


def test_a_known_direction_holds_for_every_number() -> None:
    for name, sign in (("high_missing", 1), ("low_missing", -1)):
        made = METHODS["miwae"]([TABLE, VECTOR], latent=2, mechanism=name).model.mechanisms
        for each in made.values():
            with torch.no_grad():
                each.slope.copy_(torch.linspace(-2, 2, len(each.slope)))
            assert (sign * each.odds().slope > 0).all()


def test_there_must_be_entries_to_learn_it_from() -> None:
    with pytest.raises(ValueError, match=r"needs a table.*a, b have none.*ignorable|Leave"):
        METHODS["miwae"]([Modality("a", (3,)), Modality("b", (2, 2))], mechanism="self_masking")
    with pytest.raises(ValueError, match="mechanism"):
        METHODS["miwae"]([VECTOR], mechanism="self-masking")
