"""Filled numbers that lie between a model's and the column's mean."""

import math
from dataclasses import replace

import pytest
import torch

from polymodal.batch import Column, Modality
from polymodal.data import LinearGaussian, Splits
from polymodal.data.dataset import consecutive
from polymodal.imputation import Calibration, Filled, calibrate, evaluate_imputation
from polymodal.imputation.hiding import ENTRIES, WHOLE
from polymodal.imputation.results import calibration_of, calibration_text
from polymodal.imputation.shrinkage import (
    FEWEST,
    Shrinkage,
    moved,
    shrinkages_of,
    weight_of,
)
from test_intervals import by, exact_model, run_of, with_holes_of

COLUMNS = (Column("a"), Column("b", "category", ("x", "y")), Column("n", "count"))
TABLE = Modality("t", (3,), "table", kind="table", columns=COLUMNS, holes=True, scale=None)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def filled(center: torch.Tensor) -> Filled:
    none = center.new_zeros(0, *center.shape)
    return Filled(center, none, none, {}, torch.ones(len(center)))


def shrinkage(column: str, weight: float, pattern: str = ENTRIES, mean: float = 5.0) -> Shrinkage:
    return Shrinkage(pattern=pattern, modality="t", column=column, n=50, weight=weight, mean=mean)


# One column.


def pairs(n: int, slope: float, size: float, runs: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What is said and what is true, (runs, n), residuals of variance 1."""
    said = size * torch.randn(runs, n, dtype=torch.float64)
    return said, slope * said + torch.randn(runs, n, dtype=torch.float64)


def weights(said: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    return torch.tensor([weight_of(s, t) for s, t in zip(said, true, strict=True)])


def test_the_weight_is_one_standard_error_above_the_slope() -> None:
    said, true = (x[0] for x in pairs(60, 0.3, 0.5, 1))
    slope = (said @ true / (said @ said)).item()
    error = math.sqrt(((true - slope * said) ** 2 @ said**2).item()) / (said @ said).item()
    assert 0 < slope + error < 1
    assert weight_of(said, true) == pytest.approx(slope + error)
    assert weight_of(1000 * said, 1000 * true) == pytest.approx(slope + error)
    # Copies of the samples say nothing new.
    assert weight_of(said.repeat(3), true.repeat(3), 3) == pytest.approx(slope + error)
    assert weight_of(said.repeat(3), true.repeat(3)) < slope + 0.7 * error


def test_weights_lie_between_0_and_1() -> None:
    said = torch.linspace(-1, 1, 50)
    assert weight_of(said, -said) == 0 and weight_of(said, 2 * said) == 1
    assert weight_of(0 * said, said) == 1 and weight_of(torch.inf * said, said) == 1


def test_a_column_that_is_foretold_keeps_its_values() -> None:
    """Four fifths of the variance are foretold, by 100 samples."""
    found = weights(*pairs(100, 1.0, 2.0, 2000))
    assert found.mean() > 0.98 and found.median() == 1 and found.min() > 0.7


@pytest.mark.parametrize("size", [0.2, 1.0, 3.0])
def test_what_it_costs_a_right_model(size: float) -> None:
    """E[(z - 1)_+^2] = 0.0754 of a residual variance over the number of samples."""
    n = 100
    found = weights(*pairs(n, 1.0, size, 6000))
    cost = size**2 * (1 - found).square() * n
    error = cost.std() / math.sqrt(len(cost))
    assert cost.mean() < 0.0754 * 1.15 + 3 * error
    assert cost.mean() < 0.1


@pytest.mark.parametrize(("n", "share"), [(50, 0.7), (200, 0.45), (1000, 0.15)])
def test_noise_is_taken_away(n: int, share: float) -> None:
    """Of a column that nothing foretells, what is said adds its variance 0.3^2 to the error of the
    mean. The part that stays falls with the number of samples.
    """
    size = 0.3
    found = weights(*pairs(n, 0.0, size, 3000))
    assert found.square().mean() < share
    said, true = pairs(400, 0.0, size, 3000)
    gaps = [(true - w * said).square().mean(1) - true.square().mean(1) for w in (1, found[:, None])]
    own, ours = (gap.mean() for gap in gaps)
    error = gaps[0].std() / math.sqrt(3000)
    assert own > size**2 - 3 * error and ours < share * own


# Columns of a modality.


def test_numbers_with_enough_values_are_moved_and_categories_stay() -> None:
    n = 4 * FEWEST
    truth = torch.stack([torch.randn(n), torch.ones(n), torch.randn(n).abs().round()], 1)
    center = truth.roll(1, 0)
    mask = torch.ones(n, 3, dtype=torch.bool)
    mask[FEWEST - 1 :, 2] = False
    means = truth.mean(0).tolist()
    a, count = shrinkages_of(ENTRIES, TABLE, truth, mask, filled(center), means)
    assert (a.column, a.n, count.column, count.n) == ("a", n, "n", FEWEST - 1)
    assert a.weight < 0.5 and count.weight == 1 and a.mean == pytest.approx(means[0])
    # Each sample twice: they are not more of them.
    twice = [x.repeat(2, 1) for x in (truth, mask, center)]
    again = shrinkages_of(ENTRIES, TABLE, *twice[:2], filled(twice[2]), means, 2)
    assert [s.n for s in again] == [n, FEWEST - 1]
    assert again[0].weight == pytest.approx(a.weight)


def test_values_that_are_not_hidden_do_not_count() -> None:
    truth, mask = torch.randn(200, 3), torch.rand(200, 3) < 0.5
    center = torch.randn(200, 3)
    other = torch.where(mask, truth, 1e6 * torch.randn(200, 3))
    first, second = (
        shrinkages_of(WHOLE, TABLE, x, mask, filled(center), [0.0] * 3) for x in (truth, other)
    )
    assert first == second


def test_each_pattern_has_its_own_weight() -> None:
    center = torch.tensor([[1.0, 1.0, 9.0], [1.0, 0.0, 9.0]])
    own = [shrinkage("a", 0.5), shrinkage("a", 0.0, WHOLE), shrinkage("n", 1.0, mean=0.0)]
    whole = torch.tensor([False, True])
    calibration = Calibration((), (), own)
    found = calibration.moved(filled(center), TABLE, whole).center
    assert found.tolist() == [[3.0, 1.0, 9.0], [5.0, 0.0, 9.0]]
    assert moved(filled(center), own, TABLE).center[:, 0].tolist() == [3.0, 3.0]
    assert center[0, 0] == 1
    assert moved(filled(center), own[2:], TABLE, whole).center is center
    assert moved(filled(center), own, replace(TABLE, name="u")).center is center
    assert Calibration.from_records(calibration.records()).shrinkages == tuple(own)
    assert Calibration.from_records({"factors": []}).shrinkages == ()


def test_it_is_said() -> None:
    own = [shrinkage("a", 0.4), shrinkage("n", 0.995), shrinkage("a", 0.0, WHOLE)]
    said = calibration_text(Calibration((), (), own))
    assert "a 100% (whole modality, given the others), a 60% (hidden entries)." in said
    assert calibration_text(Calibration((), (), own[1:2])) == ""


# Models.

N = 1000


def laws(spurious: float) -> tuple[LinearGaussian, LinearGaussian]:
    """A law whose first column depends on nothing; and, in single precision, one that says that it
    does.
    """
    true = LinearGaussian.draw(dims=(3, 3), latent=2, noise=0.6, seed=1)
    true.loading["x1"][0] = 0.0
    loading, bias = ({m: v.float() for m, v in part.items()} for part in (true.loading, true.bias))
    loading["x1"][0] = torch.tensor([spurious, -spurious])
    return true, LinearGaussian(loading, bias, true.noise)


def data_of(law: LinearGaussian) -> Splits:
    x = {m: v.float() for m, v in law.sample(3 * N).x.items()}
    return Splits(*consecutive(with_holes_of(law), x, None, [N] * 3), name="noise")


def test_a_column_that_nothing_foretells_is_filled_no_worse_than_by_its_mean() -> None:
    """The model believes in a dependence that is not there. The standard error of the excess is
    about 0.01. Other columns get no worse; they are moved a little where the model believes this
    column.
    """
    true, wrong = laws(0.3)
    data, run = data_of(true), run_of(exact_model(wrong))
    table = evaluate_imputation(run, data, rows=N, proposals=100)
    kept = calibration_of(run)
    assert kept is not None and len(kept.shrinkages) == 2 * 6
    assert all(s.weight < 0.45 for s in kept.shrinkages if s.column == "x1[0]")
    few = replace(data, val=data.val.first(FEWEST - 1))
    before = evaluate_imputation(run, few, rows=N, proposals=100)
    own, ours, mean = (
        by(each, name)[0].set_index(["pattern", "column"])["rmse"]
        for each, name in ((before, "model"), (table, "model"), (table, "marginal"))
    )
    excess, left = ((each / mean - 1).xs("x1[0]", level="column") for each in (own, ours))
    assert (excess > 0.04).all() and (left < 0.015).all(), (excess, left)
    assert (ours / own < 1.005).all()


def test_the_validation_part_alone_moves_nothing() -> None:
    true, wrong = laws(0.3)
    data, model = data_of(true), exact_model(wrong)
    run = run_of(model)
    assert calibrate(run, data.val, proposals=50).shrinkages == ()
    found = calibrate(run, data, proposals=50).shrinkages
    means = {s.column: s.mean for s in found}
    assert means["x2[1]"] == pytest.approx(float(data.train.tables["x2"][:, 1].mean()), rel=1e-5)


def test_nothing_is_moved_where_the_mechanism_is_modelled() -> None:
    """Entries that are missing for their values have another mean than those that are observed."""
    true, wrong = laws(0.3)
    model = exact_model(wrong)
    model.mechanisms["x1"] = Ignored()
    found = calibrate(run_of(model), data_of(true), proposals=50).shrinkages
    assert {s.modality for s in found} == {"x2"}


class Ignored(torch.nn.Module):
    """A mechanism that says nothing."""

    def log_prob(self, p, x, hidden) -> float:
        return 0.0

    def given(self, p, x, hidden):
        return p
