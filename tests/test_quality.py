"""Precision, recall, density, coverage and KID against the package prdc, double loops and sets
whose answer is known.
"""

import math

import pytest
import torch
from prdc import compute_prdc
from torch import Tensor

from polymodal.metrics import METRICS, Measurement, UnavailableError, evaluate, kid, neighbours
from polymodal.metrics.kid import kernel_distance
from polymodal.metrics.neighbours import neighbourhoods, radii, real_radii
from test_evaluation import QUICK, a_run, fixed_classifiers, splits

pytestmark = pytest.mark.usefixtures("double")
FOUR = ("precision", "recall", "density", "coverage")


def sets(n: int = 300, k: int = 200, dims: int = 6, shift: float = 0.3) -> tuple[Tensor, Tensor]:
    """White features, and fewer of them that are shifted and narrower."""
    return torch.randn(n, dims), 0.7 * torch.randn(k, dims) + shift


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("rows", [64, 1024])
def test_the_four_are_those_of_prdc(k: int, rows: int, monkeypatch) -> None:
    monkeypatch.setattr(neighbours, "ROWS", rows)
    real, fake = sets()
    expected = compute_prdc(real.numpy(), fake.numpy(), nearest_k=k)
    found = {name: getattr(neighbourhoods(real, fake, k), name) for name in FOUR}
    assert {name: v.mean().item() for name, v in found.items()} == pytest.approx(expected)
    assert 0.1 < expected["recall"] < expected["precision"] < 1, "the sets tell them apart"
    assert {name: len(v) for name, v in found.items()} == {
        "precision": 200,
        "density": 200,
        "recall": 300,
        "coverage": 300,
    }


def test_equal_sets_have_the_highest_values_and_far_ones_the_lowest() -> None:
    x, _ = sets()
    same, far = neighbourhoods(x, x), neighbourhoods(x, x + 100)
    assert all((getattr(same, name) == 1).all() for name in ("precision", "recall", "coverage"))
    assert same.density.mean().item() == pytest.approx(1, abs=0.01), "neighbours lie on the edge"
    assert all((getattr(far, name) == 0).all() for name in FOUR)


def test_quality_and_diversity_are_told_apart() -> None:
    """All generated values at one good place: precise, and almost nothing is covered."""
    real = torch.randn(400, 4)
    collapsed = neighbourhoods(real, 0.05 * torch.randn(400, 4))
    assert collapsed.precision.mean() > 0.95 and collapsed.density.mean() > 1
    assert collapsed.recall.mean() < 0.05 and collapsed.coverage.mean() < 0.2
    scattered = neighbourhoods(real, 4 * torch.randn(400, 4))
    assert scattered.precision.mean() < 0.5 and scattered.recall.mean() > 0.9


def test_density_of_the_same_law_is_one() -> None:
    values = [neighbourhoods(*torch.randn(2, 300, 3)).density.mean().item() for _ in range(30)]
    mean, error = torch.tensor(values).mean(), torch.tensor(values).std() / math.sqrt(30)
    assert abs(mean - 1) < 3 * error < 0.05


def test_a_generator_of_one_value_covers_next_to_nothing() -> None:
    real = torch.randn(100, 4)
    found = neighbourhoods(real, real[:1].repeat(100, 1))
    assert found.precision.mean() == 1 and found.recall.mean() == 0
    assert found.coverage.mean() < 0.2


def test_values_that_are_not_finite_are_no_neighbours() -> None:
    real = torch.randn(50, 3)
    fake = real.clone()
    fake[7, 1] = torch.nan
    with pytest.raises(UnavailableError, match="finite"):
        neighbourhoods(real, fake)


def test_neighbourhoods_do_not_depend_on_the_origin() -> None:
    real, fake = torch.randn(200, 3).double(), torch.randn(200, 3).double()
    near, far = neighbourhoods(real, fake), neighbourhoods(real + 1e7, fake + 1e7)
    assert all(torch.equal(getattr(near, name), getattr(far, name)) for name in FOUR)


def test_neighbourhoods_without_extent_are_refused() -> None:
    with pytest.raises(UnavailableError, match="more than 5 real and 5 generated values, got 5"):
        radii(torch.randn(5, 2))
    with pytest.raises(UnavailableError, match="more than 5 copies"):
        real_radii(torch.eye(3).repeat(10, 1))
    assert (radii(torch.eye(3).repeat(4, 1)) > 1).all(), "four copies are no more than 5"


def by_loops(x: Tensor, y: Tensor) -> float:
    """The unbiased estimate, one pair at a time."""

    def k(a: Tensor, b: Tensor) -> float:
        return (sum(p * q for p, q in zip(a.tolist(), b.tolist(), strict=True)) / len(a) + 1) ** 3

    def own(s: Tensor) -> float:
        pairs = [k(a, b) for i, a in enumerate(s) for j, b in enumerate(s) if i != j]
        return math.fsum(pairs) / len(pairs)

    between = [k(a, b) for a in x for b in y]
    return own(x) + own(y) - 2 * math.fsum(between) / len(between)


@pytest.mark.parametrize("rows", [7, 1024])
def test_kid_and_its_error_are_those_of_loops(rows: int, monkeypatch) -> None:
    monkeypatch.setattr(kid, "ROWS", rows)
    real, fake = sets(30, 23, 4)
    value, error = kernel_distance(real, fake, groups=5)
    assert value == pytest.approx(by_loops(real, fake), rel=1e-10)
    left = [by_loops(*(s[torch.arange(len(s)) % 5 != g] for s in (real, fake))) for g in range(5)]
    spread = sum((v - sum(left) / 5) ** 2 for v in left)
    assert error == pytest.approx(math.sqrt(4 / 5 * spread), rel=1e-8)


def test_kid_of_two_halves_is_zero_on_average_and_its_error_is_honest() -> None:
    found = torch.tensor([kernel_distance(*torch.randn(2, 100, 5)) for _ in range(200)])
    values, errors = found.T
    assert abs(values.mean()) < 3 * values.std() / math.sqrt(200)
    assert (values < 0).any(), "unbiased: half of them lie below"
    ratio = (errors.square().mean().sqrt() / values.std()).item()
    assert ratio == pytest.approx(math.sqrt(2), rel=0.2), "of equal laws it is too large"
    found = torch.tensor([kernel_distance(*sets(100, 100, 5, 0.8)) for _ in range(200)])
    values, errors = found.T
    ratio = (errors.square().mean().sqrt() / values.std()).item()
    assert ratio == pytest.approx(1, rel=0.2)
    assert values.mean() > 3 * values.std()


def test_kid_does_not_depend_on_the_number_of_samples() -> None:
    """Unlike the Frechet distance, whose bias falls with it."""
    few, many = (
        torch.tensor([kernel_distance(*sets(n, n, shift=0.5))[0] for _ in range(60)])
        for n in (20, 200)
    )
    error = math.hypot(few.std() / math.sqrt(60), many.std() / math.sqrt(60))
    assert abs(few.mean() - many.mean()) < 3 * error < many.mean() / 2


def test_kid_needs_two_values_and_twenty_for_an_error() -> None:
    with pytest.raises(UnavailableError, match="at least two real"):
        kernel_distance(torch.randn(5, 2), torch.randn(1, 2))
    assert math.isnan(kernel_distance(torch.randn(30, 2), torch.randn(19, 2))[1])


def test_they_share_features_and_draws_with_the_frechet_distance() -> None:
    run, names = a_run(), [*FOUR, "kid", "frechet", "coherence"]
    table = evaluate.evaluate(run, splits(), names, ["a"], save=False, **QUICK)
    decoded = {m: run.model.decoders[m].calls for m in "abc"}
    assert decoded == {"a": 60, "b": 120, "c": 120}, "once from the prior, once given a"
    assert run.model.posterior.calls == [("a",)]
    places = {(r["target"], r["given"]) for r in table.records() if r["metric"] == "recall"}
    assert places == {("a", ""), ("b", ""), ("c", ""), ("b", "a"), ("c", "a")}
    m = Measurement(run.model, splits().test, classifiers=fixed_classifiers())
    real = m.real_features("b", "classifier", lambda x: fixed_classifiers()["b"](x)[0])
    fake = m.classify(("a",), "b")[0]
    expected = compute_prdc(real.numpy(), fake.numpy(), nearest_k=5)
    for name in FOUR:
        value, error, n = METRICS[name].compute(m, ("a",), "b")
        assert value == pytest.approx(expected[name]) and error >= 0 and n == 60
    assert METRICS["kid"].compute(m, ("a",), "b")[:2] == pytest.approx(kernel_distance(real, fake))


def test_of_many_samples_the_same_few_are_taken(monkeypatch) -> None:
    """In a random order: data may be sorted by class."""
    monkeypatch.setattr("polymodal.metrics.features.LARGEST", 40)
    m = Measurement(a_run().model, splits().test, classifiers=fixed_classifiers())
    assert METRICS["precision"].compute(m, ("a",), "b")[2] == 40
    assert METRICS["kid"].compute(m, ("a",), "b")[2] == 40
