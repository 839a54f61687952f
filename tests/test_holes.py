"""Entries that were not observed: laws that hold for every method."""

from dataclasses import replace

import pytest
import torch

from polymodal.batch import Batch, Column, Modality
from polymodal.data import Dataset
from polymodal.distributions import observed_log_prob
from polymodal.distributions.likelihoods import LIKELIHOODS, likelihood_of
from polymodal.methods import METHODS
from polymodal.networks.architectures import network_of
from polymodal.networks.reading import FARTHEST
from test_methods import MODALITIES, NAMES, SIZE, batch, build, loss_of, prepared

OBSERVED = {
    "a": torch.arange(3 * SIZE).reshape(SIZE, 3) % 4 != 0,
    "c": torch.arange(25 * SIZE).reshape(SIZE, 1, 5, 5) % 7 != 0,
}
WITH_HOLES = [replace(m, holes=m.name in OBSERVED) for m in MODALITIES]


@pytest.fixture(params=sorted(METHODS))
def name(request) -> str:
    return request.param


def losses(method, data: Batch) -> list[torch.Tensor]:
    return [loss_of(method, stage, data) for stage in method.stages]


def test_nothing_depends_on_what_stands_in_a_hole(name: str) -> None:
    """Nor does any gradient become NaN, and a hole is not the value 0."""
    for modalities in (MODALITIES, WITH_HOLES):
        method, whole = build(name, modalities), batch()
        junk = {
            m: torch.where(OBSERVED[m], x, 1e6) if m in OBSERVED else x for m, x in whole.x.items()
        }
        ours = losses(method, Batch(whole.x, OBSERVED, whole.label))
        theirs = losses(method, Batch(junk, OBSERVED, whole.label))
        for one, other in zip(ours, theirs, strict=True):
            assert torch.isfinite(one).all() and torch.equal(one, other)
        for stage in method.stages:
            given = Batch(junk, OBSERVED, whole.label)
            loss = stage.loss(method.model, prepared(stage, method.model, given), 1)
            if loss.value.requires_grad:
                loss.value.sum().backward()
            for p in method.model.parameters():
                assert p.grad is None or p.grad.isfinite().all()
        given = Batch(junk, OBSERVED, whole.label)
        torch.manual_seed(3)
        drawn = method.model.generate(given)
        assert all(x.isfinite().all() for x in drawn.values())


def test_a_mask_without_holes_changes_nothing(name: str) -> None:
    method, whole = build(name), batch()
    masked = Batch(whole.x, {m: torch.ones_like(x) for m, x in whole.x.items()}, whole.label)
    for one, other in zip(losses(method, whole), losses(method, masked), strict=True):
        assert torch.allclose(one, other, atol=1e-4, rtol=1e-5)


def test_a_sample_without_any_entry_lacks_the_modality(name: str) -> None:
    whole, observed = batch(), OBSERVED["a"].clone()
    absent = torch.arange(SIZE) % 3 == 0
    observed[absent] = False
    observed[~absent] = True
    method = build(name)
    by_entry = losses(method, Batch(whole.x, {"a": observed}, whole.label))
    by_mask = losses(method, Batch(whole.x, {"a": ~absent}, whole.label))
    for one, other in zip(by_entry, by_mask, strict=True):
        assert torch.equal(one, other)
    x = {**whole.x, "a": torch.where(observed, whole.x["a"], torch.nan)}
    data = Dataset(MODALITIES, x)
    assert torch.equal(data.batch(torch.arange(SIZE)).mask(["a"]), ~absent)


def test_batches_keep_their_holes() -> None:
    whole = batch()
    holes = Batch(whole.x, OBSERVED)
    for same in (holes.only(NAMES), holes.rows(slice(None)), holes.to("cpu")):
        assert torch.equal(same.x["a"].isnan(), ~OBSERVED["a"])
        assert same.has_holes("a") and not same.has_holes("b")
    data = Dataset(MODALITIES, whole.x, present=OBSERVED)
    assert data.holes == {"a", "c"} and data.take(torch.arange(4)).holes == {"a", "c"}
    mean = torch.where(OBSERVED["a"], whole.x["a"], 0).sum(0) / OBSERVED["a"].sum(0)
    assert torch.allclose(data.mean("a").float(), mean, atol=1e-6)


COLUMNS = (
    Column("r"),
    Column("p", "positive"),
    Column("u", "bounded", low=-1.0, high=2.0),
    Column("n", "count"),
    Column("y", "boolean", ("no", "yes")),
    Column("c", "category", ("x", "y", "z")),
)
TABLE = Modality(
    "t",
    (6,),
    "table",
    kind="table",
    columns=COLUMNS,
    location=(10.0, 1.0, 0.5, 1.0, 0.0, 0.0),
    spread=(3.0, 0.5, 1.0, 0.7, 1.0, 1.0),
    scale=None,
)
EXAMPLES = [
    Modality("x", (5,)),
    Modality("x", (5,), scale=None, location=(3.0,), spread=(2.0,)),
    Modality("x", (5,), "laplace"),
    Modality("x", (5,), "bernoulli"),
    Modality("x", (5,), "poisson"),
    Modality("x", (5,), "negative_binomial"),
    Modality("x", (2, 3), "categorical"),
    Modality("x", (3, 4, 4), link="sigmoid", scale=None),
    TABLE,
]


def density(m: Modality, seed: int = 0):
    """p(x|z) for 7 latents, and a draw (7, *shape) from it."""
    torch.manual_seed(seed)
    likelihood = likelihood_of(m)
    p = likelihood.make(torch.randn(7, *likelihood.output_shape(m)), m)
    return p, p.sample()


@pytest.mark.parametrize("m", EXAMPLES, ids=lambda m: f"{m.likelihood}{m.shape}")
def test_observed_entries_and_holes_add_up_to_the_whole(m: Modality) -> None:
    p, x = density(m)
    inner = x.dim() - p.entry_log_prob(x).dim()
    mask = torch.rand(x.shape[: x.dim() - inner]) < 0.5
    mask = mask.reshape(*mask.shape, *[1] * inner).expand(x.shape)
    parts = [observed_log_prob(p, torch.where(k, x, torch.nan)) for k in (mask, ~mask)]
    assert torch.allclose(sum(parts), p.log_prob(x), rtol=1e-4, atol=1e-4)
    assert torch.equal(observed_log_prob(p, torch.full_like(x, torch.nan)), torch.zeros(7))
    # Texts have no entries; those of library_counts share the library size (test_counts.py).
    apart = {"tokens", "library_counts"}
    assert set(LIKELIHOODS) - {e.likelihood for e in EXAMPLES} == apart


def test_the_columns_of_a_table_have_densities_that_integrate_to_one() -> None:
    p, x = density(TABLE)
    grid = torch.linspace(-300, 300, 60_001).reshape(-1, 1).expand(-1, 7)
    for column, points in (
        (0, grid),
        (1, torch.linspace(1e-3, 4_000, 400_001).reshape(-1, 1).expand(-1, 7)),
        (2, grid),
        (3, torch.arange(3_000.0).reshape(-1, 1).expand(-1, 7)),
        (4, torch.arange(2.0).reshape(-1, 1).expand(-1, 7)),
        (5, torch.arange(3.0).reshape(-1, 1).expand(-1, 7)),
    ):
        cells = x.expand(len(points), 7, 6).clone()
        cells[..., column] = points
        step = float(points[1, 0] - points[0, 0])
        mass = p.entry_log_prob(cells)[..., column].exp().sum(0) * step
        assert torch.allclose(mass, torch.ones(7), atol=0.02), (column, mass)


def test_draws_of_a_table_follow_its_densities() -> None:
    """The share below the median is a half; categories come as often as they are probable."""
    torch.manual_seed(0)
    p, _ = density(TABLE)
    draws = p.sample((20_000,))
    below = (draws[..., :2] < p.mean[..., :2]).double().mean(0)
    assert torch.allclose(below, torch.full_like(below, 0.5), atol=0.02)
    counts = draws[..., 3].mean(0) / p.mean[..., 3]
    assert torch.allclose(counts, torch.ones(7), atol=0.15)
    assert draws[..., 2].min() >= -1 and draws[..., 2].max() <= 2
    for place, probability in p.probabilities().items():
        for k in range(probability.shape[-1]):
            share = (draws[..., place] == k).float().mean(0)
            assert torch.allclose(share, probability[..., k], atol=0.02)


def test_encoders_read_units_and_holes() -> None:
    """The same numbers in other units give the same features; a hole is told from the mean."""
    plain = Modality("x", (4,), holes=True)
    scaled = replace(plain, location=(5.0, 0.0, 1.0, 2.0), spread=(10.0, 1.0, 2.0, 3.0))
    x = torch.randn(6, 4)
    encoders = []
    for m in (plain, scaled):
        torch.manual_seed(0)
        encoders.append(network_of(m, "mlp").encoder(m.shape, 3))
    units = torch.tensor(scaled.location) + torch.tensor(scaled.spread) * x
    assert torch.allclose(encoders[0](x), encoders[1](units), atol=1e-5)
    hole, mean = x.clone(), x.clone()
    hole[:, 1], mean[:, 1] = torch.nan, 0.0
    assert (encoders[0](hole) - encoders[0](mean)).abs().max() > 1e-3
    far = torch.full((1, 4), 1e12)
    assert encoders[1](far).abs().max() < 100 * FARTHEST
